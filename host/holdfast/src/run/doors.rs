//! The doors of the gateway: addresses, what is spoken there, and the certificate that is shown.

use crate::{certificates, commands::check_settings};
use holdfast_config::{Config, Listen, Transport};
use holdfast_net::{ClientAuth, Door, Identity, ListenConfig, PlainTcp, ServerTls, ServerTlsConfig};

/// Where the gateway listens.
pub struct Doors {
    /// One for each address of the configuration, in its order.
    pub listen: Vec<ListenConfig>,
    /// What the encrypted ones share; none if there is no such one.
    pub tls: Option<ServerTls>,
}

/// Reads the certificate, if a door needs one.
pub fn build(config: &Config) -> anyhow::Result<Doors> {
    let tls = if certificates::are_shown(config) {
        // Devices may show a certificate. What it is worth is judged when they have said who they are.
        Some(ServerTls::build(&ServerTlsConfig { identity: identity(config), clients: ClientAuth::Asked })?)
    } else {
        None
    };
    let plain = if config.gateway.allow_remote_plain { PlainTcp::Allowed } else { PlainTcp::LoopbackOnly };
    let mut listen = Vec::new();
    for one in &config.gateway.listen {
        let door = door(*one, tls.as_ref())?;
        listen.push(ListenConfig { address: one.address, door, plain, settings: check_settings() });
    }
    Ok(Doors { listen, tls })
}

fn door(listen: Listen, tls: Option<&ServerTls>) -> anyhow::Result<Door> {
    let tls = || tls.cloned().ok_or_else(|| anyhow::anyhow!("{listen} has no certificate"));
    Ok(match listen.transport {
        Transport::Tcp => Door::Tcp,
        Transport::Tls => Door::Tls(tls()?),
        Transport::WebSocket => Door::WebSocket,
        Transport::WebSocketTls => Door::WebSocketTls(tls()?),
        Transport::Quic => Door::Quic(tls()?),
    })
}

/// What carries the bytes there.
pub fn transport(of: Transport) -> holdfast_net::Transport {
    match of {
        Transport::Tcp => holdfast_net::Transport::Tcp,
        Transport::Tls => holdfast_net::Transport::Tls,
        Transport::WebSocket => holdfast_net::Transport::WebSocket,
        Transport::WebSocketTls => holdfast_net::Transport::WebSocketTls,
        Transport::Quic => holdfast_net::Transport::Quic,
    }
}

/// The files of the certificate that devices are shown: the configured ones, else those of the local authority.
pub fn identity(config: &Config) -> Identity {
    match &config.gateway.identity {
        Some(own) => Identity { certificates: own.cert_file.clone(), key: own.key_file.clone() },
        None => {
            let file = certificates::folder(config).server();
            Identity { certificates: file.clone(), key: file }
        }
    }
}
