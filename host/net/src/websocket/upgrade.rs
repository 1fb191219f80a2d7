//! The HTTP request that a WebSocket begins with.

use super::WebSocket;
use crate::HandshakeFault;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tungstenite::{
    error::ProtocolError,
    handshake::{
        machine::TryParse,
        server::{Request, create_response, write_response},
    },
    http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
    protocol::Role,
};

/// Most bytes of the request: a token in a header or in the query takes some hundred.
const REQUEST_BYTES_MAX: usize = 8 << 10;

/// Bytes asked for at once.
const READ_BYTES: usize = 1 << 10;

/// What a client asks for that speaks MQTT [MQTT-6.0.0-3], and how version 3.1 called it.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// Where MQTT is spoken: the path of IoT Hub, and the one that all others use.
const PATHS: [&str; 2] = ["/$iothub/websocket", "/mqtt"];

/// Why a request was not taken: the status and the text that it was answered with.
struct Refusal {
    status: &'static str,
    text: String,
    /// Headers that belong to the status, each with its line end.
    headers: &'static str,
}

impl Refusal {
    fn new(status: &'static str, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), headers: "" }
    }
}

/// Reads the request and answers it. A client that asked for something else is told what is to be had here.
pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    mut raw: S,
) -> Result<WebSocket<S>, HandshakeFault> {
    let mut bytes = Vec::with_capacity(READ_BYTES);
    let decided = loop {
        let before = bytes.len();
        match (&mut raw).take(READ_BYTES as u64).read_buf(&mut bytes).await {
            Ok(0) => return Err(HandshakeFault::Closed),
            Ok(_) => {}
            Err(error) => return Err(HandshakeFault::of(&error)),
        }
        // The end of a request may lie across two reads.
        let from = before.saturating_sub(3);
        let ended = bytes.get(from..).is_some_and(|new| new.windows(4).any(|four| four == b"\r\n\r\n"));
        if ended || bytes.len() > REQUEST_BYTES_MAX {
            break decide(&bytes);
        }
    };
    match decided {
        Ok((answer, length)) => {
            write(&mut raw, &answer).await?;
            Ok(WebSocket::begun(raw, bytes.split_off(length), Role::Server))
        }
        Err(refusal) => {
            let Refusal { status, text, headers } = refusal;
            let answer = format!(
                "HTTP/1.1 {status}\r\n{headers}Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{text}\n",
                text.len() + 1
            );
            write(&mut raw, answer.as_bytes()).await?;
            // A client that is gone cannot be told.
            let _ = raw.shutdown().await;
            Err(HandshakeFault::NotWebSocket(text))
        }
    }
}

pub(super) async fn write(raw: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), HandshakeFault> {
    let written = async {
        raw.write_all(bytes).await?;
        raw.flush().await
    };
    written.await.map_err(|error| HandshakeFault::of(&error))
}

/// The answer, and the length of the request.
fn decide(bytes: &[u8]) -> Result<(Vec<u8>, usize), Refusal> {
    if bytes.len() > REQUEST_BYTES_MAX {
        let text = format!("the request has more than {REQUEST_BYTES_MAX} bytes of headers");
        return Err(Refusal::new("431 Request Header Fields Too Large", text));
    }
    let Some((length, request)) = Request::try_parse(bytes).map_err(|error| refusal(&error))? else {
        return Err(Refusal::new("400 Bad Request", "the request has no end"));
    };
    let path = request.uri().path();
    if !PATHS.contains(&path.strip_suffix('/').unwrap_or(path)) {
        let text =
            format!("there is nothing at this path; MQTT over WebSocket is at {}", PATHS.join(" and "));
        return Err(Refusal::new("404 Not Found", text));
    }
    let mut response = create_response(&request).map_err(|error| refusal(&error))?;
    if let Some(chosen) = subprotocol(&request)? {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(chosen));
    }
    let mut answer = Vec::new();
    write_response(&mut answer, &response).map_err(|error| refusal(&error))?;
    Ok((answer, length))
}

/// What is chosen of that which the client offers. One that offers nothing gets nothing, and may speak.
fn subprotocol(request: &Request) -> Result<Option<&'static str>, Refusal> {
    let mut offered = false;
    for header in request.headers().get_all(SEC_WEBSOCKET_PROTOCOL) {
        offered = true;
        let mut names = header.to_str().unwrap_or_default().split(',').map(str::trim);
        let known = |name| SUBPROTOCOLS.iter().copied().find(|known| *known == name);
        if let Some(chosen) = names.find_map(known) {
            return Ok(Some(chosen));
        }
    }
    if offered {
        return Err(Refusal::new("400 Bad Request", "only the subprotocol \"mqtt\" is spoken here"));
    }
    Ok(None)
}

fn refusal(error: &tungstenite::Error) -> Refusal {
    use tungstenite::Error;
    let upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    match error {
        Error::Protocol(ProtocolError::WrongHttpMethod) => Refusal {
            headers: "Allow: GET\r\n",
            ..Refusal::new("405 Method Not Allowed", "a WebSocket begins with GET")
        },
        Error::Protocol(
            ProtocolError::MissingConnectionUpgradeHeader
            | ProtocolError::MissingUpgradeWebSocketHeader
            | ProtocolError::MissingSecWebSocketVersionHeader,
        ) => Refusal {
            headers: upgrade,
            ..Refusal::new(
                "426 Upgrade Required",
                "this is MQTT over WebSocket (version 13), and nothing else",
            )
        },
        Error::Protocol(ProtocolError::HttparseError(_)) => {
            Refusal::new("400 Bad Request", "this is not HTTP; the port speaks MQTT over WebSocket")
        }
        other => Refusal::new("400 Bad Request", format!("this is no request for a WebSocket: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(request: &str) -> String {
        match decide(request.as_bytes()) {
            Ok((answer, length)) => {
                assert_eq!(length, request.len());
                String::from_utf8(answer).unwrap()
            }
            Err(refusal) => format!("{} {}", refusal.status, refusal.text),
        }
    }

    fn request(path: &str, headers: &str) -> String {
        format!(
            "GET {path} HTTP/1.1\r\nHost: edge\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        )
    }

    #[test]
    fn the_usual_paths_and_subprotocols_are_taken() {
        for path in ["/mqtt", "/mqtt/", "/$iothub/websocket", "/$iothub/websocket?iothub-no-client-cert=true"]
        {
            let answered = answer(&request(path, "Sec-WebSocket-Protocol: amqp, mqtt\r\n"));
            assert!(answered.starts_with("HTTP/1.1 101"), "{answered}");
            // The key and its answer are those of RFC 6455, section 1.3.
            let lower = answered.to_ascii_lowercase();
            assert!(lower.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{answered}");
            assert!(lower.contains("sec-websocket-protocol: mqtt\r\n"), "{answered}");
        }
        let silent = answer(&request("/mqtt", ""));
        assert!(
            silent.starts_with("HTTP/1.1 101") && !silent.to_ascii_lowercase().contains("websocket-protocol")
        );
        assert!(answer(&request("/mqtt", "Sec-WebSocket-Protocol: mqttv3.1\r\n")).contains("mqttv3.1"));
    }

    #[test]
    fn whoever_asks_for_something_else_is_told_what_there_is() {
        let plain = "GET /mqtt HTTP/1.1\r\nHost: edge\r\n\r\n";
        let post = request("/mqtt", "").replace("GET", "POST");
        for (request, told) in [
            (request("/", ""), "404 Not Found there is nothing at this path; MQTT over WebSocket is at"),
            (plain.to_owned(), "426 Upgrade Required"),
            (post, "405 Method"),
            (request("/mqtt", "Sec-WebSocket-Protocol: amqp\r\n"), "400 Bad Request only the subprotocol"),
            (request("/mqtt", "").replace(": 13", ": 8"), "426 Upgrade Required"),
            (request("/mqtt", "").replace("dGhl", "d"), "400 Bad Request this is no request"),
            ("\u{10}\u{16}MQTT\r\n\r\n".to_owned(), "400 Bad Request this is not HTTP"),
            ("a".repeat(9000), "431 Request Header"),
            (request("/mqtt", &"X: y\r\n".repeat(500)), "400 Bad Request this is no request"),
        ] {
            let answered = answer(&request);
            assert!(answered.starts_with(told), "{told:?}: {answered}");
        }
    }
}
