//! A client of the API, for the command line and for a hub that follows another one.

use bytes::Bytes;
use holdfast_net::{DialError, Target, Timeouts};
use holdfast_types::{Soon, Text};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
pub use hyper::Method;
use hyper::{
    Request,
    body::Incoming,
    client::conn::http1,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;

/// Most bytes of one answer that is not a stream: all devices of the largest hub.
const ANSWER_BYTES_MAX: usize = crate::api::REGISTRY_BYTES_MAX;

/// Most bytes of a line of a stream: the largest message, as base64, with its properties.
const LINE_BYTES_MAX: usize = 32 << 20;

/// Why a hub did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It cannot be reached.
    #[error(transparent)]
    Dial(DialError),
    /// Nobody listens where it should.
    #[error(
        "no hub answers at {address}; see whether it runs (`holdfast hub run`), and whether {setting} is right"
    )]
    Absent {
        /// Where.
        address: String,
        /// What says so.
        setting: Text,
    },
    /// The connection broke.
    #[error("the connection to the hub broke: {0}; see whether it runs")]
    Broken(String),
    /// It refused.
    #[error("{why}")]
    Refused {
        /// The status.
        status: u16,
        /// What it said.
        why: String,
    },
    /// The answer is none that is understood.
    #[error("the hub gave an answer that is not understood: {0}; does another program listen there?")]
    Answer(String),
}

impl From<DialError> for ClientError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Refused { host, port, setting } => {
                Self::Absent { address: format!("{host}:{port}"), setting }
            }
            error => Self::Dial(error),
        }
    }
}

/// A name as one part of a path.
pub fn segment(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~$".contains(&byte);
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Asks a hub.
pub struct Client {
    target: Target,
    token: String,
}

/// Lines of a stream.
pub struct Lines {
    body: Incoming,
    rest: Vec<u8>,
}

impl Client {
    /// A client of the hub there; nothing is dialled yet.
    pub fn new(target: Target, token: &str) -> Self {
        Self { target, token: token.trim().to_owned() }
    }

    /// Where it is, as `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.target.host, self.target.port)
    }

    fn request<'a>(
        &'a self,
        method: Method,
        path: &'a str,
        body: Option<Bytes>,
    ) -> Soon<'a, Result<(u16, Incoming), ClientError>> {
        Box::pin(self.exchange(method, path, body))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<(u16, Incoming), ClientError> {
        let broken = |why: hyper::Error| ClientError::Broken(why.to_string());
        let stream = holdfast_net::dial(&self.target, Timeouts::default()).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends when the answer has been read, or the sender is gone.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.address())
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|why| ClientError::Answer(why.to_string()))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        Ok((response.status().as_u16(), response.into_body()))
    }

    /// Asks for a path; gives the JSON of the answer, null if there is none.
    ///
    /// # Errors
    /// The hub cannot be reached, or refuses.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, ClientError> {
        let body = body.map(|body| Bytes::from(body.to_string()));
        let (status, body) = self.request(method, path, body).await?;
        let bytes = whole(body).await?;
        if !(200..300).contains(&status) {
            return Err(refused(status, &bytes));
        }
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|why| ClientError::Answer(why.to_string()))
    }

    /// The same for a body and an answer that are text.
    ///
    /// # Errors
    /// The hub cannot be reached, or refuses.
    pub async fn text(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let (status, body) = self.request(method, path, Some(body)).await?;
        let bytes = whole(body).await?;
        if (200..300).contains(&status) { Ok(bytes) } else { Err(refused(status, &bytes)) }
    }

    /// Asks for a stream of lines.
    ///
    /// # Errors
    /// The hub cannot be reached, or refuses.
    pub async fn lines(&self, path: &str) -> Result<Lines, ClientError> {
        let (status, body) = self.request(Method::GET, path, None).await?;
        if status != 200 {
            return Err(refused(status, &whole(body).await?));
        }
        Ok(Lines { body, rest: Vec::new() })
    }
}

fn refused(status: u16, bytes: &[u8]) -> ClientError {
    let said = serde_json::from_slice::<Value>(bytes).ok();
    let why = said.as_ref().and_then(|said| said["error"].as_str()).map(str::to_owned);
    ClientError::Refused {
        status,
        why: why.unwrap_or_else(|| format!("the hub answered with status {status}")),
    }
}

async fn whole(body: Incoming) -> Result<Bytes, ClientError> {
    let collected = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let whole = collected.map_err(|why| match why.is::<LengthLimitError>() {
        true => ClientError::Answer(format!("it has more than {ANSWER_BYTES_MAX} bytes")),
        false => ClientError::Broken(why.to_string()),
    })?;
    Ok(whole.to_bytes())
}

impl Lines {
    /// The next line, without its end; none at the end of the stream.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next(&mut self) -> Result<Option<String>, ClientError> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).take(end).collect();
                let text = String::from_utf8(line).map_err(|why| ClientError::Answer(why.to_string()))?;
                return Ok(Some(text));
            }
            if self.rest.len() > LINE_BYTES_MAX {
                return Err(ClientError::Answer(format!("a line has more than {LINE_BYTES_MAX} bytes")));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(why)) => return Err(ClientError::Broken(why.to_string())),
                Some(Ok(frame)) => self.rest.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            }
        }
    }
}
