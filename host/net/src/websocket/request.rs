//! Asking for a WebSocket.

use super::{WebSocket, upgrade::write};
use crate::HandshakeFault;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tungstenite::{
    handshake::{
        client::{Response, generate_key},
        derive_accept_key,
        machine::TryParse,
    },
    http::{HeaderMap, StatusCode},
    protocol::Role,
};

/// Most bytes of the answer's head.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// Bytes asked for at once.
const READ_BYTES: usize = 1 << 10;

/// Most characters of an answer's text that are repeated to people.
const TOLD_MAX: usize = 200;

/// Asks for a WebSocket that carries MQTT [MQTT-6.0.0-3].
pub(crate) async fn request<S: AsyncRead + AsyncWrite + Unpin>(
    mut raw: S,
    authority: &str,
    path: &str,
) -> Result<WebSocket<S>, HandshakeFault> {
    let key = generate_key();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    );
    write(&mut raw, request.as_bytes()).await?;
    let mut bytes = Vec::with_capacity(READ_BYTES);
    loop {
        match (&mut raw).take(READ_BYTES as u64).read_buf(&mut bytes).await {
            Ok(0) => return Err(HandshakeFault::Closed),
            Ok(_) => {}
            Err(error) => return Err(HandshakeFault::of(&error)),
        }
        let parsed = Response::try_parse(&bytes)
            .map_err(|error| refused(format!("it does not answer in HTTP ({error})")))?;
        if let Some((length, answer)) = parsed {
            let rest = bytes.split_off(length);
            check(&answer, &derive_accept_key(key.as_bytes()), &rest)?;
            return Ok(WebSocket::begun(raw, rest, Role::Client));
        }
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(refused("its answer has no end"));
        }
    }
}

fn refused(why: impl Into<String>) -> HandshakeFault {
    HandshakeFault::WebSocketRefused(why.into())
}

/// What RFC 6455, section 4.1, wants of the answer.
fn check(answer: &Response, accept: &str, rest: &[u8]) -> Result<(), HandshakeFault> {
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let text: String = String::from_utf8_lossy(rest).trim().chars().take(TOLD_MAX).collect();
        let text = if text.is_empty() { text } else { format!(": {text:?}") };
        return Err(refused(format!("it answered {}{text}", answer.status())));
    }
    let headers = answer.headers();
    let says = |name: &str, wanted: &str| {
        value(headers, name).is_some_and(|found| found.eq_ignore_ascii_case(wanted))
    };
    if !says("Upgrade", "websocket") || !says("Connection", "upgrade") {
        return Err(refused("it changes to another protocol"));
    }
    if value(headers, "Sec-WebSocket-Accept") != Some(accept) {
        return Err(refused("its answer is for another request; something on the way keeps answers"));
    }
    match value(headers, "Sec-WebSocket-Protocol") {
        Some("mqtt") => Ok(()),
        Some(other) => Err(refused(format!("it speaks {other:?} there, not MQTT"))),
        None => Err(refused("it does not say that it speaks MQTT there")),
    }
}

fn value<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}
