//! HTTP requests that modules answer: each module that exports `wasi:http/incoming-handler` has a path, and all below it.
//!
//! Each request has an instance of its own, as components for `wasi:http` expect, within the module's limits and a bounded
//! number at a time. Such an instance does not belong to a message: it sends and stores nothing.

use crate::instance::{Parts, Surroundings, answer_request};
use crate::module::Version;
use crate::outgoing::Connection;
use crate::status::Shared;
use bytes::Bytes;
use holdfast_types::Soon;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use wasmtime_wasi_http::{Error, WasiBody};

/// Longest time for the head of a request.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

type Reply = Response<WasiBody>;

/// Where requests come in. Clones are the same door.
#[derive(Clone, Default)]
pub struct HttpDoor(Arc<RwLock<BTreeMap<String, Arc<Site>>>>);

/// A module that answers.
pub(crate) struct Site {
    version: Arc<Version>,
    surroundings: Surroundings,
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
}

impl Site {
    pub(crate) fn new(version: Arc<Version>, surroundings: Surroundings, shared: Arc<Shared>) -> Self {
        let places = Arc::new(Semaphore::new(version.settings.limits.http_requests as usize));
        Self { version, surroundings, shared, places }
    }
}

/// Takes a module off the door when it is dropped.
pub(crate) struct Served {
    door: HttpDoor,
    path: String,
    site: Arc<Site>,
}

impl Drop for Served {
    fn drop(&mut self) {
        let mut sites = self.door.0.write().unwrap_or_else(PoisonError::into_inner);
        // Its path may be another version's by now.
        if sites.get(&self.path).is_some_and(|site| Arc::ptr_eq(site, &self.site)) {
            sites.remove(&self.path);
        }
    }
}

impl HttpDoor {
    fn sites(&self) -> RwLockReadGuard<'_, BTreeMap<String, Arc<Site>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests for `path` and below go to this module from now on. Another module that has the path keeps it: its
    /// name is given.
    pub(crate) fn serve(&self, path: &str, site: Site) -> Result<Served, String> {
        let mut sites = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = sites.get(path)
            && other.surroundings.name != site.surroundings.name
        {
            return Err(other.surroundings.name.to_string());
        }
        let site = Arc::new(site);
        sites.insert(path.to_owned(), site.clone());
        drop(sites);
        Ok(Served { door: self.clone(), path: path.to_owned(), site })
    }

    /// Answers the requests of one connection until it ends.
    pub fn connection(&self, stream: Box<dyn Connection>) -> Soon<'_, ()> {
        Box::pin(self.serve_connection(stream))
    }

    async fn serve_connection(&self, stream: Box<dyn Connection>) {
        let answering = service_fn(|request| async { Ok::<_, Infallible>(self.answer(request).await) });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX)
            .serve_connection(TokioIo::new(stream), answering);
        // A client that goes in the middle comes again.
        let _ = connection.await;
    }

    /// The module with the longest path that the request lies in.
    fn site(&self, path: &str) -> Option<Arc<Site>> {
        let sites = self.sites();
        let mut at = path.trim_end_matches('/');
        loop {
            if let Some(site) = sites.get(if at.is_empty() { "/" } else { at }) {
                return Some(site.clone());
            }
            at = at.rsplit_once('/')?.0;
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let path = request.uri().path();
        let Some(site) = self.site(path) else {
            let known: Vec<String> = self.sites().keys().cloned().collect();
            return plain(
                StatusCode::NOT_FOUND,
                &format!("no module answers {path}; known are: {}", known.join(", ")),
            );
        };
        let limits = site.version.settings.limits;
        let Ok(place) = site.places.clone().try_acquire_owned() else {
            let most = limits.http_requests;
            site.surroundings.log.refuse("limits.http_requests", || {
                format!("refused: {most} requests are being answered; raise limits.http_requests in the module's .toml")
            });
            return plain(
                StatusCode::SERVICE_UNAVAILABLE,
                "the module answers as many requests as it may; try again",
            );
        };
        let announced =
            request.headers().get(CONTENT_LENGTH).and_then(|n| n.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|bytes| bytes > limits.http_body_bytes) {
            site.too_large();
            return plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than the module may get");
        }
        let most = usize::try_from(limits.http_body_bytes).unwrap_or(usize::MAX);
        let bounded = site.clone();
        let request = request.map(|body| -> WasiBody {
            let body =
                Limited::new(body, most).map_err(move |error| match error.downcast::<hyper::Error>() {
                    Ok(error) => Error::Hyper(*error),
                    Err(_) => {
                        bounded.too_large();
                        Error::HttpRequestBodySize(Some(most as u64))
                    }
                });
            body.boxed_unsync()
        });
        site.shared.status().requests += 1;
        let (answer, answered) = oneshot::channel();
        let answering = site.clone();
        // The instance goes on after the head of its answer, until the body has been written.
        let task = tokio::spawn(async move {
            let _place = place;
            let parts = Parts { version: &answering.version, surroundings: &answering.surroundings };
            let ended = answer_request(parts, request, answer).await;
            if let Err(reason) = &ended {
                answering
                    .surroundings
                    .log
                    .host(crate::logs::LogLevel::Error, &format!("a request failed: {reason}"));
                answering.shared.status().last_error = Some(reason.clone());
            }
            ended
        });
        match answered.await {
            Ok(Ok(response)) => response,
            Ok(Err(code)) => plain(StatusCode::BAD_GATEWAY, &format!("the module gave an error: {code}")),
            Err(_) => match task.await {
                Ok(Err(reason)) if reason.contains("took longer") => {
                    plain(StatusCode::GATEWAY_TIMEOUT, "the module did not answer in time")
                }
                _ => plain(StatusCode::INTERNAL_SERVER_ERROR, "the module did not answer; its log says why"),
            },
        }
    }
}

impl Site {
    fn too_large(&self) {
        let most = self.version.settings.limits.http_body_bytes;
        self.surroundings.log.refuse("limits.http_body_bytes", || {
            format!("refused: a body of more than {most} bytes; raise limits.http_body_bytes in the module's .toml")
        });
    }
}

fn plain(status: StatusCode, text: &str) -> Reply {
    let body = Full::new(Bytes::from(format!("{text}\n"))).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
