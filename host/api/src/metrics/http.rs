//! `GET /metrics` over HTTP, for Prometheus and whatever else reads its form.

use super::{MetricFamily, metrics_text};
use holdfast_net::{ListenConfig, ListenError, Listener};
use holdfast_types::Soon;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

/// Most connections at once: a few scrapers. One more waits in the system's queue until another ends.
const CONNECTIONS_MAX: usize = 8;

/// Longest time for a TLS handshake or for the head of a request.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// Longest life of a connection; a scraper that keeps one open connects again.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(300);

/// What is asked for the metrics. The binary implements it.
pub trait MetricsSource: Send + Sync + 'static {
    /// Everything that is counted, as it is now.
    fn metrics(&self) -> Vec<MetricFamily>;
}

/// The bound port.
#[derive(Debug)]
pub struct MetricsServer {
    listener: Listener,
}

impl MetricsServer {
    /// Binds the address; nothing is answered before [`Self::serve`].
    ///
    /// # Errors
    /// The situation and its fix.
    pub async fn bind(config: ListenConfig) -> Result<Self, ListenError> {
        Ok(Self { listener: Listener::bind(config).await? })
    }

    /// The address, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.listener.local()
    }

    /// Answers until `stop`.
    pub fn serve(self, source: Arc<dyn MetricsSource>, stop: CancellationToken) -> Soon<'static, ()> {
        Box::pin(self.answer_all(source, stop))
    }

    async fn answer_all(self, source: Arc<dyn MetricsSource>, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
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
                    tracing::error!(address = %self.address(), %error, "metrics cannot be served any more");
                    break;
                }
            };
            let source = source.clone();
            connections.spawn(async move {
                let _place = place;
                let Ok(stream) = incoming.handshake(HEAD_TIME_MAX).await else { return };
                let answering = service_fn(move |request| {
                    let answer = answer(&request, &*source);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIME_MAX)
                    .serve_connection(TokioIo::new(stream), answering);
                // A scraper that goes in the middle comes again.
                let _ = timeout(CONNECTION_TIME_MAX, connection).await;
            });
        }
        connections.shutdown().await;
    }
}

fn answer(request: &Request<Incoming>, source: &dyn MetricsSource) -> Response<Full<Bytes>> {
    let text = |status: StatusCode, text: String| {
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        let plain = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
        response
    };
    if request.uri().path() != "/metrics" {
        return text(StatusCode::NOT_FOUND, "there is nothing here but /metrics\n".to_owned());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "metrics are read with GET\n".to_owned());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    text(StatusCode::OK, metrics_text(&source.metrics()))
}
