//! The side that dials.

use super::{
    Branch, IDLE_TIME_MAX, QuicStream, certificates, congestion::Congestion, fault, knock::Knocking,
};
use crate::{HandshakeFault, HostName, QuicTls};
use quinn::{
    ClientConfig, ConnectionError, Endpoint, EndpointConfig, Runtime, TokioRuntime, TransportConfig, VarInt,
};
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

/// How often something is sent on a quiet connection: address translation forgets those that are quiet for half a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The round trip that is assumed before one was measured: the first packet is sent again after three of them. The usual
/// assumption of 333 ms is for a network of which nothing is known; that of an edge takes 20 to 100 ms, and where a
/// satellite takes 600 ms one packet is sent twice.
const ROUND_TRIP_ASSUMED: Duration = Duration::from_millis(100);

/// Why there is no connection.
pub(crate) enum Failed {
    /// The other side is there, and the handshake failed.
    Handshake(HandshakeFault),
    /// Nobody answered, or the system refused.
    Socket(io::Error),
}

/// Connects to one address, from a port of its own: what a firewall remembers of a connection before does not matter then.
/// The first stream is open, and the other side learns of it by the first bytes.
pub(crate) async fn connect(
    tls: &QuicTls,
    host: &HostName,
    address: SocketAddr,
) -> Result<QuicStream, Failed> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let endpoint = endpoint(any, tls).map_err(Failed::Socket)?;
    let mut config = ClientConfig::new(tls.crypto());
    config.transport_config(Arc::new(transport()));
    let connecting = endpoint
        .connect_with(config, address, &tls.name(host))
        .map_err(|error| Failed::Handshake(HandshakeFault::Quic(error.to_string())))?;
    let connection = connecting.await.map_err(|error| failed(error, tls))?;
    let (send, receive) = connection.open_bi().await.map_err(|error| failed(error, tls))?;
    Ok(QuicStream {
        branch: Branch { send, receive, delivered: None },
        certificates: certificates(&connection),
        connection,
    })
}

/// Needs the context of a runtime.
fn endpoint(any: SocketAddr, tls: &QuicTls) -> io::Result<Endpoint> {
    let runtime = Arc::new(TokioRuntime);
    let socket = runtime.wrap_udp_socket(UdpSocket::bind(any)?)?;
    let socket = Knocking::over(socket, tls.heard().clone());
    Endpoint::new_with_abstract_socket(EndpointConfig::default(), None, socket, runtime)
}

fn failed(error: ConnectionError, tls: &QuicTls) -> Failed {
    match (&error, tls.refusals().take()) {
        (ConnectionError::TransportError(_), Some(refused)) => {
            Failed::Handshake(HandshakeFault::of_tls(&refused))
        }
        (ConnectionError::TimedOut, _) => Failed::Socket(io::ErrorKind::TimedOut.into()),
        _ => Failed::Handshake(fault(error)),
    }
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from(0_u8))
        .max_concurrent_uni_streams(VarInt::from(0_u8))
        .datagram_receive_buffer_size(None)
        .congestion_controller_factory(Arc::new(Congestion))
        .initial_rtt(ROUND_TRIP_ASSUMED)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(IDLE_TIME_MAX.try_into().ok());
    transport
}
