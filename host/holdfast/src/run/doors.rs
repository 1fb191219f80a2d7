//! The doors of the gateway: addresses, what is spoken there, and the certificate that is shown.

use crate::commands::check_settings;
use holdfast_config::{Config, Listen, Transport};
use holdfast_net::{ClientAuth, Door, Identity, ListenConfig, PlainTcp, ServerTls, ServerTlsConfig};
use std::path::PathBuf;

/// Where the gateway listens.
pub struct Doors {
    /// One for each address of the configuration, in its order.
    pub listen: Vec<ListenConfig>,
    /// What the encrypted ones share; none if there is no such one.
    pub tls: Option<ServerTls>,
}

/// Reads the certificate, if a door needs one.
pub fn build(config: &Config) -> anyhow::Result<Doors> {
    let wanted = config.gateway.listen.iter().any(|listen| listen.transport.is_encrypted());
    let tls = if wanted {
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
    })
}

/// The files of the certificate that devices are shown: the configured ones, else those of the local authority.
pub fn identity(config: &Config) -> Identity {
    match &config.gateway.identity {
        Some(own) => Identity { certificates: own.cert_file.clone(), key: own.key_file.clone() },
        None => Identity { certificates: local_server(config), key: local_server(config) },
    }
}

/// The folder of the local authority.
pub fn certificates(config: &Config) -> PathBuf {
    config.paths.data.join("certificates")
}

/// The certificate that the local authority issued for this edge, with its key.
fn local_server(config: &Config) -> PathBuf {
    certificates(config).join("server.pem")
}
