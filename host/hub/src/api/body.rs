//! Bodies of requests and answers.

use crate::error::HubError;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{
    Response, StatusCode,
    body::{Frame, Incoming, SizeHint},
    header::{CONTENT_TYPE, HeaderValue},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::mpsc;

/// Most bytes of a request: the largest message to a device and the largest manifest have room several times.
const REQUEST_BYTES_MAX: usize = 16 << 20;

/// Most bytes of a registry as a whole, as it is exported and imported: 450 for each of the devices and modules that the
/// largest hub knows.
pub(crate) const REGISTRY_BYTES_MAX: usize = 1 << 30;

/// The body of an answer.
pub(super) enum Body {
    /// All of it.
    Whole(Bytes),
    /// As it comes.
    Stream(mpsc::Receiver<Bytes>),
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream(chunks) => {
                chunks.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

pub(super) fn respond(status: u16, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A value as JSON.
pub(super) fn json(status: u16, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(text) => respond(status, "application/json", Body::Whole(text.into())),
        Err(error) => failed(500, &error.to_string()),
    }
}

/// Nothing more to say.
pub(super) fn done() -> Response<Body> {
    let mut response = Response::new(Body::Whole(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// What went wrong.
pub(super) fn failed(status: u16, why: &str) -> Response<Body> {
    let text = json!({ "error": why }).to_string();
    respond(status, "application/json", Body::Whole(text.into()))
}

/// The whole body of a request.
async fn bytes(body: Incoming, bytes_max: usize) -> Result<Bytes, HubError> {
    let collected = Limited::new(body, bytes_max).collect().await;
    let whole = collected.map_err(|why| match why.is::<LengthLimitError>() {
        true => HubError::TooLarge(format!("the request has more than the {bytes_max} bytes that are taken")),
        false => HubError::Bad(format!("the request cannot be read: {why}")),
    })?;
    Ok(whole.to_bytes())
}

/// A body that is JSON.
pub(super) async fn read<T: DeserializeOwned>(body: Incoming) -> Result<T, HubError> {
    read_up_to(REQUEST_BYTES_MAX, body).await
}

/// The same where more bytes than usual are taken.
pub(super) async fn read_up_to<T: DeserializeOwned>(bytes_max: usize, body: Incoming) -> Result<T, HubError> {
    let bytes = bytes(body, bytes_max).await?;
    serde_json::from_slice(&bytes)
        .map_err(|why| HubError::Bad(format!("the body is not what is asked for: {why}")))
}
