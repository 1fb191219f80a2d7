//! Requests that come to the host's HTTP port, and who answers them.

use super::{Headers, Method, Response};
use crate::{BodyError, Failure, types};
use serde::de::DeserializeOwned;

/// A module that answers HTTP requests; `module!(NAME, http)` makes its component do so.
pub trait Handler {
    /// Called for each request for the module's path and below, in an instance that ends with the answer. What it reads of
    /// [state](crate::state) and [twin](crate::twins) is what messages have left there; a send, a write or a report is refused.
    ///
    /// A failure is answered with its reason: [`Failure::Reject`] with status 400, [`Failure::Retry`] with 503.
    fn answer(request: Incoming) -> Result<Response, Failure>;
}

/// A request that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// What is asked for.
    pub method: Method,
    /// Of what: the whole path, the module's own among it, and the query behind `?` if there is one.
    pub path_and_query: String,
    /// The headers.
    pub headers: Headers,
    /// The body; the host bounds it (`limits.http_body_bytes`).
    pub body: Vec<u8>,
}

impl Incoming {
    /// A request without a body, as tests make one.
    pub fn new(method: Method, path_and_query: impl Into<String>) -> Self {
        Self { method, path_and_query: path_and_query.into(), headers: Headers::new(), body: Vec::new() }
    }

    /// GET
    pub fn get(path_and_query: impl Into<String>) -> Self {
        Self::new(Method::Get, path_and_query)
    }

    /// POST
    pub fn post(path_and_query: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new(Method::Post, path_and_query) }
    }

    /// Sets a header, in place of those of that name.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.set(name, value);
        self
    }

    /// The path without the query, as it was sent.
    pub fn path(&self) -> &str {
        self.path_and_query.split('?').next().unwrap_or_default()
    }

    /// The first value of a name in the query (`?name=value&…`), with what stands there in `%` and `+` put back. A name
    /// without a value has an empty one.
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.path_and_query.split_once('?')?;
        let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|(key, _)| plain(key) == name).map(|(_, value)| plain(value))
    }

    /// The body as text.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub fn text(&self) -> Result<&str, BodyError> {
        types::text_of(&self.body)
    }

    /// The body read as JSON.
    ///
    /// # Errors
    /// It is not JSON, or not of this shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, BodyError> {
        types::json_of(&self.body)
    }
}

/// A part of a query as its sender meant it: `+` is a space, `%` and two digits a byte (WHATWG, URL, 5.1). What is no such byte
/// stays as it is.
fn plain(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte =
            digits.filter(|digits| !digits.starts_with('+')).and_then(|d| u8::from_str_radix(d, 16).ok());
        let (meant, behind) = match (first, byte) {
            (b'%', Some(byte)) => (byte, after.get(2..).unwrap_or_default()),
            (b'+', _) => (b' ', after),
            _ => (first, after),
        };
        bytes.push(meant);
        rest = behind;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The answer to a request, in place of a failure too.
pub(crate) fn answer<H: Handler>(request: Incoming) -> Response {
    let asked = format!("{} {}", request.method, request.path());
    H::answer(request).unwrap_or_else(|failure| {
        crate::log::warn!("{asked} has failed: {failure}");
        match failure {
            Failure::Reject(why) => Response::text(400, format!("{why}\n")),
            Failure::Retry(why) => Response::text(503, format!("{why}\n")),
        }
    })
}

/// What [`module!`](crate::module) asks of the module that it is given.
#[doc(hidden)]
pub const fn is_handler<H: Handler>() {}

/// What the export of the component comes to.
#[doc(hidden)]
#[cfg(target_family = "wasm")]
pub fn serve<H: Handler>(
    request: wasip2::http::types::IncomingRequest,
    out: wasip2::http::types::ResponseOutparam,
) {
    crate::imports::http_serve(request, out, answer::<H>);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_query_are_told_apart_and_the_query_is_read_as_it_was_meant() {
        let request = Incoming::get("/latest/a?key=line+1%2F%C3%A4&flag&key=2&%6Bind=%zz%+1");
        assert_eq!(request.path(), "/latest/a");
        for (name, value) in [("key", "line 1/ä"), ("flag", ""), ("kind", "%zz% 1")] {
            assert_eq!(request.query(name).as_deref(), Some(value));
        }
        assert_eq!((request.query("other"), Incoming::get("/x").query("key")), (None, None));
    }

    struct Fails;
    impl Handler for Fails {
        fn answer(request: Incoming) -> Result<Response, Failure> {
            match request.text()? {
                "later" => Err(Failure::retry("not yet")),
                _ => Err(Failure::reject("never")),
            }
        }
    }

    #[test]
    fn a_failure_is_answered_with_its_reason() {
        for (body, status, reason) in [
            (&b"later"[..], 503, "not yet\n"),
            (b"no", 400, "never\n"),
            (&[0xff], 400, "the body is not UTF-8"),
        ] {
            let response = answer::<Fails>(Incoming::post("/", body));
            assert_eq!(response.status, status);
            assert!(response.as_text().unwrap().starts_with(reason), "{response:?}");
        }
    }
}
