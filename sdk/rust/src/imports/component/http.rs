//! `wasi:http`, in both directions.
//!
//! Resources are children of one another: a stream goes before its body, a pollable before what it waits for. So each is held in
//! the block that uses it, and order matters where one is dropped by hand.

use crate::http::{Headers, HttpError, Incoming, Method, Request, Response, Target};
use crate::log;
use std::time::Duration;
use wasip2::clocks::monotonic_clock::{self, Instant};
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingRequest, Method as WireMethod,
    OutgoingBody, OutgoingRequest, OutgoingResponse, RequestOptions, ResponseOutparam, Scheme,
    http_error_code,
};
use wasip2::io::error::Error as IoError;
use wasip2::io::poll::{Pollable, poll};
use wasip2::io::streams::{OutputStream, StreamError};

/// Most bytes that are asked for at once.
const READ_BYTES: u64 = 64 * 1024;

/// Most bytes that a stream takes in one blocking write (`wasi:io/streams`).
const WRITE_BYTES: usize = 4_096;

/// When a request must have been answered.
struct Deadline(Instant);

impl Deadline {
    fn after(time: Duration) -> Self {
        Self(monotonic_clock::now().saturating_add(nanos(time)))
    }

    /// Waits until one of these is ready. `false`: the time is over.
    fn wait(&self, ready: &[&Pollable]) -> bool {
        let over = monotonic_clock::subscribe_instant(self.0);
        let mut all = ready.to_vec();
        all.push(&over);
        poll(&all).iter().any(|&at| (at as usize) < ready.len())
    }
}

/// What becomes of one request.
struct Exchange<'a> {
    request: &'a Request,
    target: &'a Target,
    deadline: Deadline,
}

pub fn http_send(request: &Request, target: &Target) -> Result<Response, HttpError> {
    Exchange { request, target, deadline: Deadline::after(request.time) }.run()
}

impl Exchange<'_> {
    fn run(&self) -> Result<Response, HttpError> {
        let outgoing = self.head()?;
        let options = RequestOptions::new();
        let time = nanos(self.request.time);
        // A host that knows no such option has its own bounds, and ours holds in any case.
        let _ = options.set_connect_timeout(Some(time));
        let _ = options.set_first_byte_timeout(Some(time));
        let body = match self.request.body.is_empty() {
            true => None,
            false => Some(outgoing.body().map_err(|()| self.broken("its body was not taken"))?),
        };
        let answer = outgoing_handler::handle(outgoing, Some(options)).map_err(|code| self.failed(&code))?;
        if let Some(body) = body {
            self.write(body, &answer)?;
        }
        let arrived = {
            let ready = answer.subscribe();
            self.deadline.wait(&[&ready])
        };
        if !arrived {
            return Err(self.too_slow());
        }
        let response = match answer.get() {
            Some(Ok(Ok(response))) => response,
            Some(Ok(Err(code))) => return Err(self.failed(&code)),
            _ => return Err(self.broken("its answer is not there")),
        };
        let (status, headers) = (response.status(), Headers::from(response.headers().entries()));
        let body = response.consume().map_err(|()| self.broken("the answer has no body"))?;
        Ok(Response { status, headers, body: self.read(body)? })
    }

    /// The request but for its body.
    fn head(&self) -> Result<OutgoingRequest, HttpError> {
        let Request { method, headers, body, .. } = self.request;
        let called = &self.target.called;
        let fields = fields(headers).map_err(|why| HttpError::Invalid(format!("{called}: {why}")))?;
        // Without it a body goes out in chunks, which not every server takes.
        let _ = match body.is_empty() {
            true => fields.delete("content-length"),
            false => fields.set("content-length", &[body.len().to_string().into_bytes()]),
        };
        let outgoing = OutgoingRequest::new(fields);
        let invalid = |what: &str| HttpError::Invalid(format!("{called}: the host does not take its {what}"));
        let scheme = if self.target.tls { Scheme::Https } else { Scheme::Http };
        outgoing.set_method(&wire_method(method)).map_err(|()| invalid("method"))?;
        outgoing.set_scheme(Some(&scheme)).map_err(|()| invalid("scheme"))?;
        outgoing.set_authority(Some(&self.target.authority)).map_err(|()| invalid("host"))?;
        outgoing.set_path_with_query(Some(&self.target.path)).map_err(|()| invalid("path"))?;
        Ok(outgoing)
    }

    /// Writes the body. A host that takes no more of it has an answer, or an error that says why.
    fn write(&self, body: OutgoingBody, answer: &FutureIncomingResponse) -> Result<(), HttpError> {
        {
            let stream = body.write().map_err(|()| self.broken("its body was not taken"))?;
            let writable = stream.subscribe();
            let answered = answer.subscribe();
            let mut rest = self.request.body.as_slice();
            while !rest.is_empty() && !answered.ready() {
                let Ok(room) = stream.check_write() else { return Ok(()) };
                let room = usize::try_from(room).unwrap_or(usize::MAX).min(rest.len());
                if room == 0 {
                    if !self.deadline.wait(&[&writable, &answered]) {
                        return Err(self.too_slow());
                    }
                    continue;
                }
                let (now, later) = rest.split_at(room);
                if stream.write(now).is_err() {
                    return Ok(());
                }
                rest = later;
            }
            // What was written is handed on in the background; the answer says whether it arrived.
            let _ = stream.flush();
        }
        let _ = OutgoingBody::finish(body, None);
        Ok(())
    }

    fn read(&self, body: IncomingBody) -> Result<Vec<u8>, HttpError> {
        let max = self.request.body_bytes_max;
        let stream = body.stream().map_err(|()| self.broken("the answer's body cannot be read"))?;
        let readable = stream.subscribe();
        let mut all = Vec::new();
        loop {
            match stream.read(READ_BYTES) {
                Ok(bytes) if bytes.is_empty() => {
                    if !self.deadline.wait(&[&readable]) {
                        return Err(self.too_slow());
                    }
                }
                Ok(bytes) if all.len() + bytes.len() > max => return Err(self.target.too_large(max)),
                Ok(bytes) => all.extend(bytes),
                Err(StreamError::Closed) => return Ok(all),
                Err(StreamError::LastOperationFailed(error)) => {
                    let code = http_error_code(&error);
                    let failed = code.map(|code| self.failed(&code));
                    return Err(failed.unwrap_or_else(|| self.broken(&error.to_debug_string())));
                }
            }
        }
    }

    fn too_slow(&self) -> HttpError {
        let (called, time) = (&self.target.called, self.request.time);
        HttpError::TooSlow(format!("{called}: no whole answer within {time:?}"))
    }

    fn broken(&self, why: &str) -> HttpError {
        HttpError::Broken(format!("{}: {why}", self.target.called))
    }

    fn failed(&self, code: &ErrorCode) -> HttpError {
        let called = &self.target.called;
        match code {
            ErrorCode::HttpRequestDenied => self.target.not_granted(),
            ErrorCode::ConnectionLimitReached => HttpError::Busy(format!(
                "{called}: the module has as many connections as it may; raise limits.connections in its .toml"
            )),
            ErrorCode::DnsTimeout | ErrorCode::DnsError(_) | ErrorCode::DestinationNotFound => {
                HttpError::NotConnected(format!(
                    "{called}: no address is known for {}",
                    self.target.authority
                ))
            }
            ErrorCode::DestinationUnavailable
            | ErrorCode::DestinationIpProhibited
            | ErrorCode::DestinationIpUnroutable
            | ErrorCode::ConnectionRefused => {
                HttpError::NotConnected(format!("{called}: nobody takes a connection there"))
            }
            ErrorCode::TlsCertificateError | ErrorCode::TlsProtocolError | ErrorCode::TlsAlertReceived(_) => {
                HttpError::NotConnected(format!(
                    "{called}: the other side could not prove who it is: {code:?}"
                ))
            }
            ErrorCode::ConnectionTimeout
            | ErrorCode::ConnectionReadTimeout
            | ErrorCode::ConnectionWriteTimeout
            | ErrorCode::HttpResponseTimeout => {
                HttpError::TooSlow(format!("{called}: no answer within {:?}", self.request.time))
            }
            ErrorCode::HttpRequestMethodInvalid
            | ErrorCode::HttpRequestUriInvalid
            | ErrorCode::HttpRequestUriTooLong
            | ErrorCode::HttpRequestBodySize(_)
            | ErrorCode::HttpRequestHeaderSize(_)
            | ErrorCode::HttpRequestHeaderSectionSize(_) => {
                HttpError::Invalid(format!("{called}: the host does not send it: {code:?}"))
            }
            other => HttpError::Broken(format!("{called}: {other:?}")),
        }
    }
}

/// Answers one request with what `answer` makes of it.
pub fn http_serve(request: IncomingRequest, out: ResponseOutparam, answer: fn(Incoming) -> Response) {
    let response = match incoming(&request) {
        Ok(incoming) => answer(incoming),
        Err(why) => {
            log::warn!("a request could not be read: {why}");
            Response::text(400, format!("the body of the request could not be read: {why}\n"))
        }
    };
    let (head, body) = match response_head(&response) {
        Ok(head) => (head, response.body),
        Err(why) => {
            log::error!("an answer cannot be sent: {why}");
            let head = OutgoingResponse::new(Fields::new());
            let _ = head.set_status_code(500);
            (head, Vec::new())
        }
    };
    let stream = head.body();
    ResponseOutparam::set(out, Ok(head));
    let Ok(outgoing) = stream else { return };
    let written = outgoing.write().is_ok_and(|stream| write_all(&stream, &body).is_ok());
    // One that was not written to its end must not look whole.
    if written {
        let _ = OutgoingBody::finish(outgoing, None);
    }
}

fn incoming(request: &IncomingRequest) -> Result<Incoming, String> {
    let method = match request.method() {
        WireMethod::Get => Method::Get,
        WireMethod::Head => Method::Head,
        WireMethod::Post => Method::Post,
        WireMethod::Put => Method::Put,
        WireMethod::Delete => Method::Delete,
        WireMethod::Options => Method::Options,
        WireMethod::Patch => Method::Patch,
        WireMethod::Connect => Method::Other("CONNECT".to_owned()),
        WireMethod::Trace => Method::Other("TRACE".to_owned()),
        WireMethod::Other(name) => Method::Other(name),
    };
    let path_and_query = request.path_with_query().unwrap_or_else(|| "/".to_owned());
    let headers = Headers::from(request.headers().entries());
    let body = request.consume().map_err(|()| "it was read before".to_owned())?;
    let stream = body.stream().map_err(|()| "it was read before".to_owned())?;
    let mut all = Vec::new();
    loop {
        match stream.blocking_read(READ_BYTES) {
            Ok(bytes) => all.extend(bytes),
            Err(StreamError::Closed) => return Ok(Incoming { method, path_and_query, headers, body: all }),
            Err(StreamError::LastOperationFailed(error)) => return Err(cause(&error)),
        }
    }
}

fn response_head(response: &Response) -> Result<OutgoingResponse, String> {
    let fields = fields(&response.headers)?;
    let _ = fields.set("content-length", &[response.body.len().to_string().into_bytes()]);
    let head = OutgoingResponse::new(fields);
    head.set_status_code(response.status).map_err(|()| format!("{} is no status", response.status))?;
    Ok(head)
}

fn write_all(stream: &OutputStream, body: &[u8]) -> Result<(), StreamError> {
    body.chunks(WRITE_BYTES).try_for_each(|part| stream.blocking_write_and_flush(part))
}

fn fields(headers: &Headers) -> Result<Fields, String> {
    let fields = Fields::new();
    for (name, value) in headers.iter() {
        fields.append(name, value).map_err(|error| format!("the header {name:?} is not taken: {error:?}"))?;
    }
    Ok(fields)
}

fn wire_method(method: &Method) -> WireMethod {
    match method {
        Method::Get => WireMethod::Get,
        Method::Head => WireMethod::Head,
        Method::Post => WireMethod::Post,
        Method::Put => WireMethod::Put,
        Method::Delete => WireMethod::Delete,
        Method::Options => WireMethod::Options,
        Method::Patch => WireMethod::Patch,
        Method::Other(name) => WireMethod::Other(name.clone()),
    }
}

fn cause(error: &IoError) -> String {
    http_error_code(error).map_or_else(|| error.to_debug_string(), |code| format!("{code:?}"))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
