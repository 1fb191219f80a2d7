//! A way through an HTTP proxy: CONNECT (RFC 9110, section 9.3.6), with a password where the proxy wants one (RFC 7617).

use super::DialError;
use crate::HostName;
use base64::{Engine, prelude::BASE64_STANDARD};
use holdfast_types::Text;
use std::{fmt, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Most bytes of the proxy's answer.
const ANSWER_BYTES_MAX: usize = 8 << 10;

/// An HTTP proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Its host.
    pub host: HostName,
    /// Its port.
    pub port: u16,
    /// User name and password, where it wants them.
    pub credentials: Option<(String, String)>,
    /// The setting that names it.
    pub setting: Text,
}

/// The password is not shown.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.credentials.as_ref().map(|(user, _)| user);
        f.debug_struct("Proxy")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &user)
            .finish()
    }
}

/// Why the proxy did not make a way. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ProxyFault {
    /// It cannot be reached itself.
    #[error("it cannot be reached itself: {0}")]
    Unreachable(Box<DialError>),
    /// It wants a user name and a password, and none were given.
    #[error("it wants a user name and a password (407); give it both, as http://user:password@host:port")]
    WantsPassword,
    /// It does not take the user name and the password.
    #[error("it refuses the user {0:?} with this password (407); check both")]
    PasswordRefused(String),
    /// It does not let this connection through.
    #[error(
        "it does not let us through to {to} ({status}); have it allow that, or use a port that it allows: most allow 443 \
         (WebSocket)"
    )]
    Denied {
        /// Where to.
        to: String,
        /// Its answer.
        status: String,
    },
    /// It could not reach the host.
    #[error("it could not reach {to} ({status}); check the name and the port, and what the proxy can reach")]
    NoWay {
        /// Where to.
        to: String,
        /// Its answer.
        status: String,
    },
    /// It did not answer in HTTP.
    #[error("it does not answer as an HTTP proxy does ({0}); check its address and its port")]
    NotAProxy(String),
    /// It did not answer in time.
    #[error("it did not answer within {0:?}; look at its log, it may try to reach the host in vain")]
    TimedOut(Duration),
}

impl Proxy {
    /// Asks for a way to `host` on a connection to the proxy.
    pub(super) async fn tunnel(
        &self,
        stream: &mut TcpStream,
        host: &HostName,
        port: u16,
    ) -> Result<(), ProxyFault> {
        let to = format!("{host}:{port}");
        let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
        if let Some((user, password)) = &self.credentials {
            let both = BASE64_STANDARD.encode(format!("{user}:{password}"));
            request.push_str("Proxy-Authorization: Basic ");
            request.push_str(&both);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        let broken = |error: std::io::Error| ProxyFault::NotAProxy(error.to_string());
        stream.write_all(request.as_bytes()).await.map_err(broken)?;
        let status = read_answer(stream).await?;
        match status.get(..3).unwrap_or_default() {
            code if code.starts_with('2') => Ok(()),
            "407" => Err(match &self.credentials {
                None => ProxyFault::WantsPassword,
                Some((user, _)) => ProxyFault::PasswordRefused(user.clone()),
            }),
            code if code.starts_with('4') => Err(ProxyFault::Denied { to, status }),
            _ => Err(ProxyFault::NoWay { to, status }),
        }
    }
}

/// Reads the head of the answer; gives its status, such as `403 Forbidden`. Not a byte behind the head is read, since it
/// would be the other side's: so it goes byte by byte, a hundred of them once for each connection.
async fn read_answer(stream: &mut TcpStream) -> Result<String, ProxyFault> {
    let not_a_proxy = |why: &str| ProxyFault::NotAProxy(why.to_owned());
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= ANSWER_BYTES_MAX {
            return Err(not_a_proxy("its answer has no end"));
        }
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if head.is_empty() => {
                return Err(ProxyFault::NotAProxy(format!("it closed the connection: {error}")));
            }
            Err(error) => return Err(ProxyFault::NotAProxy(error.to_string())),
        }
        if head.len() == 5 && head != b"HTTP/" {
            return Err(not_a_proxy("its answer is not HTTP"));
        }
    }
    let text = String::from_utf8_lossy(&head);
    let line = text.lines().next().unwrap_or_default();
    let status = line.split_once(' ').map(|(_, status)| status.trim()).unwrap_or_default();
    if status.len() < 3 || !status.bytes().take(3).all(|byte| byte.is_ascii_digit()) {
        return Err(ProxyFault::NotAProxy(format!("{line:?}")));
    }
    Ok(status.to_owned())
}
