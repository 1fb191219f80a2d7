//! HTTP, with the feature `http`: requests to granted hosts, and answers at the host's own HTTP port. On the wire these are
//! the standard `wasi:http/outgoing-handler` and `wasi:http/incoming-handler`.
//!
//! **Out.** [`Request::get`] and its sisters, then [`Request::send`]. A module reaches only what its `.toml` grants
//! (`[grants] hosts = ["api.example:443"]`). The module handles nothing else meanwhile, and what was asked for is not undone if the
//! running call fails: its message comes again, and so does the request. Give what must not happen twice a key that the
//! other side knows it by, such as the id of the message.
//!
//! **In.** A module that implements [`Handler`] and says so, `module!(NAME, http)`, answers requests for the path in its `.toml`
//! (`[http] path = "/name"`) and below. Each request has an instance of its own, beside the one that handles messages: it reads
//! configuration, state and twin, and sends, stores and reports nothing.
//!
//! ```
//! use holdfast_sdk::{Error, Failure, Message, Module, http, state, testing::Harness};
//!
//! struct Relay;
//! impl Module for Relay {
//!     fn start() -> Result<Self, Error> {
//!         Ok(Self)
//!     }
//!     fn handle(&mut self, _: &str, message: Message) -> Result<(), Failure> {
//!         let answer = http::Request::post("https://api.example/readings").body(message.body).send()?.success()?;
//!         Ok(state::set("last", &answer.body)?)
//!     }
//! }
//! impl http::Handler for Relay {
//!     fn answer(request: http::Incoming) -> Result<http::Response, Failure> {
//!         match (&request.method, request.path()) {
//!             (http::Method::Get, "/relay") => Ok(http::Response::bytes(200, state::get("last")?.unwrap_or_default())),
//!             _ => Ok(http::Response::not_found(&request)),
//!         }
//!     }
//! }
//! holdfast_sdk::module!(Relay, http);
//!
//! let harness = Harness::new().respond("POST", "https://api.example/readings", Ok(http::Response::text(201, "no 7")));
//! let mut relay = harness.start::<Relay>().unwrap();
//! relay.handle("in", holdfast_sdk::Outgoing::text("21.5")).unwrap();
//! assert_eq!(relay.take_requests()[0].body, b"21.5");
//! assert_eq!(relay.ask(http::Incoming::get("/relay")).body, b"no 7");
//! ```

mod error;
mod headers;
mod incoming;
mod target;

pub use error::HttpError;
pub use headers::Headers;
pub use incoming::{Handler, Incoming};
pub(crate) use target::Target;

#[cfg(not(target_family = "wasm"))]
pub(crate) use incoming::answer;
#[doc(hidden)]
pub use incoming::is_handler;
#[doc(hidden)]
#[cfg(target_family = "wasm")]
pub use incoming::serve;

use crate::{BodyError, imports, types};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt, time::Duration};

/// How long a request may take with its answer, unless it says so: half of what a call of a module may take by default
/// (`limits.call_ms`), so that the module learns of a server that is too slow.
pub const TIME: Duration = Duration::from_secs(5);

/// Most bytes that are taken of an answer's body, unless the request says so.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// OPTIONS
    Options,
    /// PATCH
    Patch,
    /// Any other, in the letters that it is sent with.
    Other(String),
}

impl Method {
    /// As it is sent.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Other(name) => name,
        }
    }
}

impl From<&str> for Method {
    fn from(name: &str) -> Self {
        let known = [Self::Get, Self::Head, Self::Post, Self::Put, Self::Delete, Self::Options, Self::Patch];
        let found = known.into_iter().find(|method| method.as_str() == name);
        found.unwrap_or_else(|| Self::Other(name.to_owned()))
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A request to another machine. Built step by step, and then [sent](Self::send):
///
/// ```no_run
/// # fn main() -> Result<(), holdfast_sdk::Failure> {
/// use holdfast_sdk::http::Request;
/// let rate: f64 = Request::get("https://api.example/rate?of=EUR").header("accept", "application/json").send()?.success()?.as_json()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Request {
    /// What is asked for.
    pub method: Method,
    /// Of what: `http://` or `https://`, a host, and a port if it is not the usual one. No names and passwords.
    pub url: String,
    /// The headers but for those that the host sets: `host`, `connection` and others about the connection.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
    /// How long all of it may take, to the last byte of the answer; [`TIME`] unless set. The limits of the call count on.
    pub time: Duration,
    /// Most bytes that are taken of the answer's body; [`BODY_BYTES_MAX`] unless set.
    pub body_bytes_max: usize,
}

impl Request {
    /// A request without a body.
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        let (headers, body) = (Headers::default(), Vec::new());
        Self { method, url: url.into(), headers, body, time: TIME, body_bytes_max: BODY_BYTES_MAX }
    }

    /// GET
    pub fn get(url: impl Into<String>) -> Self {
        Self::new(Method::Get, url)
    }

    /// POST
    pub fn post(url: impl Into<String>) -> Self {
        Self::new(Method::Post, url)
    }

    /// PUT
    pub fn put(url: impl Into<String>) -> Self {
        Self::new(Method::Put, url)
    }

    /// DELETE
    pub fn delete(url: impl Into<String>) -> Self {
        Self::new(Method::Delete, url)
    }

    /// Sets a header, in place of those of that name.
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.set(name, value);
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the body to JSON, and `content-type` with it.
    ///
    /// # Errors
    /// The value cannot be written as JSON, for example a map whose keys are not text.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<Self, BodyError> {
        let body = serde_json::to_vec(value).map_err(BodyError::Json)?;
        Ok(self.header("content-type", "application/json").body(body))
    }

    /// Sets how long all of it may take.
    pub fn time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Sets most bytes that are taken of the answer's body.
    pub fn body_bytes_max(mut self, max: usize) -> Self {
        self.body_bytes_max = max;
        self
    }

    /// Sends it and waits for the answer, whatever its status: [`Response::success`] looks at that. The module handles nothing
    /// else meanwhile.
    ///
    /// # Errors
    /// There is no answer: see [`HttpError`]. `?` makes a [`Failure`](crate::Failure) of it that says whether another try can help.
    pub fn send(self) -> Result<Response, HttpError> {
        let target = Target::of(&self)?;
        imports::http_send(&self, &target)
    }
}

/// GET of a URL: [`Request::get`] and [`Request::send`].
///
/// # Errors
/// See [`HttpError`].
pub fn get(url: &str) -> Result<Response, HttpError> {
    Request::get(url).send()
}

/// POST of a body to a URL: [`Request::post`], [`Request::body`] and [`Request::send`].
///
/// # Errors
/// See [`HttpError`].
pub fn post(url: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Result<Response, HttpError> {
    Request::post(url).header("content-type", content_type).body(body).send()
}

/// An answer: of another machine to a request, or of this module to one that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status, 100 to 599 (RFC 9110, 15).
    pub status: u16,
    /// The headers.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// An answer without a body.
    pub const fn empty(status: u16) -> Self {
        Self { status, headers: Headers::new(), body: Vec::new() }
    }

    /// An answer of bytes that say nothing about what they are.
    pub fn bytes(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::empty(status) }
    }

    /// An answer of text.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self::bytes(status, body.into()).header("content-type", "text/plain; charset=utf-8")
    }

    /// An answer of JSON.
    ///
    /// # Errors
    /// The value cannot be written as JSON.
    pub fn json<T: Serialize + ?Sized>(status: u16, value: &T) -> Result<Self, BodyError> {
        let body = serde_json::to_vec(value).map_err(BodyError::Json)?;
        Ok(Self::bytes(status, body).header("content-type", "application/json"))
    }

    /// The answer to a request for what is not there: 404.
    pub fn not_found(request: &Incoming) -> Self {
        Self::text(404, format!("nothing is at {}\n", request.path()))
    }

    /// The answer to a request with another method than these: 405.
    pub fn method_not_allowed(allowed: &[Method]) -> Self {
        let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
        let names = names.join(", ");
        Self::text(405, format!("use {names}\n")).header("allow", names)
    }

    /// Sets a header, in place of those of that name.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.set(name, value);
        self
    }

    /// Whether the status is one of success, 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The answer, if its status is one of success.
    ///
    /// # Errors
    /// [`HttpError::Status`] otherwise.
    pub fn success(self) -> Result<Self, HttpError> {
        if self.is_success() {
            return Ok(self);
        }
        // Enough for whoever reads the log; a whole page of HTML is not.
        const SHOWN_CHARS_MAX: usize = 200;
        let body = String::from_utf8_lossy(&self.body).trim().chars().take(SHOWN_CHARS_MAX).collect();
        Err(HttpError::Status(self.status, body))
    }

    /// The body as text.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub fn as_text(&self) -> Result<&str, BodyError> {
        types::text_of(&self.body)
    }

    /// The body read as JSON.
    ///
    /// # Errors
    /// It is not JSON, or not of this shape.
    pub fn as_json<T: DeserializeOwned>(&self) -> Result<T, BodyError> {
        types::json_of(&self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Failure;

    #[test]
    fn a_method_is_known_by_its_name_and_any_other_is_kept_as_it_is() {
        for word in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
            let method = Method::from(word);
            assert!(!matches!(method, Method::Other(_)), "{word}");
            assert_eq!(method.to_string(), word);
        }
        assert_eq!(Method::from("get"), Method::Other("get".to_owned()), "methods are told apart by case");
        assert_eq!(Method::from("PURGE").to_string(), "PURGE");
    }

    #[test]
    fn a_status_says_whether_another_try_can_help() {
        assert!(Response::empty(204).success().is_ok());
        for (status, again) in [
            (304, false),
            (400, false),
            (404, false),
            (408, true),
            (425, true),
            (429, true),
            (500, true),
            (503, true),
        ] {
            let failure: Failure = Response::text(status, "because ").success().unwrap_err().into();
            assert_eq!(matches!(&failure, Failure::Retry(_)), again, "{failure}");
            assert!(failure.to_string().ends_with(&format!("status {status}: because")), "{failure}");
        }
        let long = Response::text(500, "x".repeat(1_000)).success().unwrap_err().to_string();
        assert!(long.len() < 300, "{long}");
    }

    #[test]
    fn a_body_of_json_says_that_it_is_json() {
        let request = Request::post("http://a.example/").json(&[1, 2]).unwrap();
        assert_eq!(
            (request.headers.get("Content-Type"), &request.body[..]),
            (Some("application/json"), &b"[1,2]"[..])
        );
        let response = Response::json(200, "x").unwrap();
        assert_eq!(response.as_json::<String>().unwrap(), "x");
        assert!(response.as_json::<u32>().is_err());
        assert_eq!(
            Response::method_not_allowed(&[Method::Get, Method::Head]).headers.get("allow"),
            Some("GET, HEAD")
        );
    }
}
