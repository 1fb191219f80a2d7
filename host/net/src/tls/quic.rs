//! TLS of the side that dials QUIC.

use super::{
    ClientTlsConfig, TlsFault,
    client::{Refusals, configured, without_last_dot},
};
use crate::{HostName, quic::Heard};
use quinn::crypto::rustls::QuicClientConfig;
use std::sync::Arc;

/// TLS of the side that dials QUIC, checked and ready. Clones share what is needed to resume a session: tickets of the
/// server, kept in memory, which spare a connection that comes back the signatures and most of the bytes of a handshake.
///
/// 0-RTT is off. What a client sends in it anyone who recorded it can send again. A repeated CONNECT is not harmless: the
/// server would end the connection that the client holds by then, as another one with the same client identifier has
/// come, and whoever has the recording could keep an edge off its link. It would save one round trip for each connection.
#[derive(Clone)]
pub struct QuicTls {
    config: Arc<QuicClientConfig>,
    refusals: Refusals,
    heard: Heard,
    server_name: Option<HostName>,
}

impl QuicTls {
    /// Reads and checks everything that `config` names. Its protocols are not offered: over QUIC MQTT is one of its own.
    ///
    /// # Errors
    /// Which file is wrong, and how.
    pub fn build(config: &ClientTlsConfig) -> Result<Self, TlsFault> {
        let (mut built, refusals) = configured(config)?;
        built.alpn_protocols = vec![crate::quic::ALPN.to_vec()];
        built.enable_early_data = false;
        let crypto = QuicClientConfig::try_from(Arc::new(built))
            .map_err(|error| TlsFault::Setup(error.to_string()))?;
        Ok(Self {
            config: Arc::new(crypto),
            refusals,
            heard: Heard::default(),
            server_name: config.server_name.clone(),
        })
    }

    pub(crate) fn crypto(&self) -> Arc<QuicClientConfig> {
        self.config.clone()
    }

    pub(crate) fn heard(&self) -> &Heard {
        &self.heard
    }

    pub(crate) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// The name that the certificate must have.
    pub(crate) fn name(&self, host: &HostName) -> String {
        match self.server_name.as_ref().unwrap_or(host) {
            HostName::Ip(address) => address.to_string(),
            HostName::Dns(name) => without_last_dot(name).to_owned(),
        }
    }
}

// A configuration holds a key; its debug form says only that it is there.
impl std::fmt::Debug for QuicTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuicTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}
