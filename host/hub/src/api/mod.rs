//! The hub over HTTP, for services: JSON, a bearer token, and an OpenAPI document at `/openapi.json`.
//!
//! What services see is decided elsewhere; here requests become calls of [`Hub`], and answers JSON. An error is
//! `{"error":"…"}` with the status that fits.

mod body;
mod events;
mod openapi;
mod registry;
mod routes;

pub(crate) use body::REGISTRY_BYTES_MAX;
pub use registry::{Credential, DeviceGiven};

use crate::hub::Hub;
use body::{Body, failed};
use holdfast_net::{ListenConfig, ListenError, Listener};
use holdfast_types::Soon;
use hyper::{
    Method, Request, Response,
    body::Incoming,
    header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, io::ErrorKind, net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// Most connections at once, consumers of the stream among them. One more waits until another ends.
const CONNECTIONS_MAX: usize = 256;

/// Longest time for a TLS handshake or for the head of a request.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// Who may ask: whoever has this. `Debug` hides it.
#[derive(Clone)]
pub struct Token(Arc<str>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// A token as it stands in its file.
    pub fn new(text: &str) -> Self {
        Self(text.trim().into())
    }

    /// Compares in the same time wherever the first difference is.
    fn is(&self, given: &str) -> bool {
        let (own, given) = (self.0.as_bytes(), given.as_bytes());
        own.len() == given.len() && own.iter().zip(given).fold(0, |all, (a, b)| all | (a ^ b)) == 0
    }
}

/// The bound port.
#[derive(Debug)]
pub struct ApiServer {
    listener: Listener,
    token: Token,
    concierge: Arc<Path>,
}

/// What every request has at hand.
#[derive(Clone)]
struct Context {
    hub: Arc<Hub>,
    stop: CancellationToken,
    /// The file with what a concierge says.
    concierge: Arc<Path>,
}

impl ApiServer {
    /// Binds the address; nothing is answered before [`Self::serve`]. What stands in the file `concierge` at the time is the
    /// answer to `/concierge`, for everybody: it is signed by who has the key, who need not be this hub.
    ///
    /// # Errors
    /// The situation and its fix.
    pub async fn bind(config: ListenConfig, token: Token, concierge: &Path) -> Result<Self, ListenError> {
        Ok(Self { listener: Listener::bind(config).await?, token, concierge: concierge.into() })
    }

    /// The address, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.listener.local()
    }

    /// Answers until `stop`.
    pub fn serve(self, hub: Arc<Hub>, stop: CancellationToken) -> Soon<'static, ()> {
        Box::pin(self.answer_all(hub, stop))
    }

    async fn answer_all(self, hub: Arc<Hub>, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        let context = Context { hub, stop: stop.clone(), concierge: self.concierge.clone() };
        loop {
            let place = tokio::select! {
                () = stop.cancelled() => break,
                place = places.clone().acquire_owned() => place,
            };
            let incoming = tokio::select! {
                () = stop.cancelled() => break,
                incoming = self.listener.accept() => incoming,
            };
            while connections.try_join_next().is_some() {}
            let incoming = match incoming {
                Ok(incoming) => incoming,
                Err(error) => {
                    tracing::error!(address = %self.address(), %error, "the API cannot be served any more");
                    break;
                }
            };
            let (context, token) = (context.clone(), self.token.clone());
            connections.spawn(async move {
                let _place = place;
                let Ok(stream) = incoming.handshake(HEAD_TIME_MAX).await else { return };
                let answering = service_fn(move |request| {
                    let (context, token) = (context.clone(), token.clone());
                    async move { Ok::<_, Infallible>(answer(&context, &token, request).await) }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIME_MAX)
                    .serve_connection(TokioIo::new(stream), answering);
                // A client that goes in the middle comes again.
                let _ = connection.await;
            });
        }
        connections.shutdown().await;
    }
}

async fn answer(context: &Context, token: &Token, request: Request<Incoming>) -> Response<Body> {
    if request.uri().path() == "/openapi.json" {
        return body::json(200, &openapi::document());
    }
    if request.uri().path() == "/concierge" && request.method() == Method::GET {
        return concierge(&context.concierge).await;
    }
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer "));
    if !given.is_some_and(|given| token.is(given.trim())) {
        let mut refused = failed(
            401,
            "the request has no valid token; send Authorization: Bearer with the text of the file api.token",
        );
        refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return refused;
    }
    match routes::answer(context, request).await {
        Ok(response) => response,
        Err(error) => failed(error.status(), &error.to_string()),
    }
}

/// Hands on what stands in the file. It is read anew each time, so that a new statement holds at once.
async fn concierge(file: &Path) -> Response<Body> {
    match tokio::fs::read(file).await {
        Ok(said) => body::respond(200, "application/json", Body::Whole(said.into())),
        Err(error) if error.kind() == ErrorKind::NotFound => failed(
            404,
            "this hub is no concierge; `holdfast hub concierge sign HUB` beside its hub.toml makes it one",
        ),
        Err(error) => failed(500, &format!("{} cannot be read: {error}", file.display())),
    }
}
