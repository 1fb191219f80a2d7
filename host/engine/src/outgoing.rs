//! Connections to other machines, as the engine asks for them. It opens none itself: whoever builds it says how.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::pin::Pin;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection that was opened for a module.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection for T {}

/// Something that will be there later.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Why there is no connection. The text says what failed on what, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotConnected {
    /// The name means no address.
    #[error("{0}")]
    Unknown(String),
    /// Nobody answers there, or the network does not lead there.
    #[error("{0}")]
    Unreachable(String),
    /// The other side could not prove who it is.
    #[error("{0}")]
    Untrusted(String),
    /// It took too long.
    #[error("{0}")]
    TooSlow(String),
}

/// Opens connections for modules. The grants of the module have been looked at before.
pub trait Outgoing: Debug + Send + Sync + 'static {
    /// Opens a connection, with TLS if that is wanted.
    fn connect(&self, host: &str, port: u16, tls: bool) -> Later<Result<Box<dyn Connection>, NotConnected>>;

    /// The addresses of a host.
    fn resolve(&self, host: &str, port: u16) -> Later<Result<Vec<SocketAddr>, NotConnected>>;
}
