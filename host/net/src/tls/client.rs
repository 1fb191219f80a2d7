//! TLS of the side that dials.

use super::{Identity, TlsFault, identity_fault, provider, read_identity, roots_of};
use crate::{HandshakeFault, HostName};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use std::{path::PathBuf, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client};

/// Whom to trust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Roots {
    /// The authorities that the system trusts.
    #[default]
    Native,
    /// Only the authorities in this PEM file.
    File(PathBuf),
}

/// TLS of the side that dials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTlsConfig {
    /// Whom to trust.
    pub roots: Roots,
    /// The client certificate, where the other side wants one.
    pub identity: Option<Identity>,
    /// The name that the certificate must have, where it is not the host dialled.
    pub server_name: Option<HostName>,
    /// Protocols to offer (ALPN), most wanted first. Usually none.
    pub protocols: Vec<Vec<u8>>,
}

/// TLS of the side that dials, checked and ready.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    server_name: Option<HostName>,
}

impl ClientTls {
    /// Reads and checks everything that `config` names.
    ///
    /// # Errors
    /// Which file is wrong, and how.
    pub fn build(config: &ClientTlsConfig) -> Result<Self, TlsFault> {
        let roots = match &config.roots {
            Roots::Native => native_roots()?,
            Roots::File(path) => roots_of(path)?,
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsFault::Setup(error.to_string()))?
            .with_root_certificates(roots);
        let mut built = match &config.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (certificates, key) = read_identity(identity)?;
                builder
                    .with_client_auth_cert(certificates, key)
                    .map_err(|error| identity_fault(identity, &error))?
            }
        };
        built.alpn_protocols.clone_from(&config.protocols);
        Ok(Self { config: Arc::new(built), server_name: config.server_name.clone() })
    }

    pub(crate) async fn connect(
        &self,
        host: &HostName,
        stream: TcpStream,
    ) -> Result<client::TlsStream<TcpStream>, HandshakeFault> {
        let name = match self.server_name.as_ref().unwrap_or(host) {
            HostName::Ip(address) => ServerName::from(*address),
            // A dot at the end is for resolvers; certificates and SNI do without (RFC 6066, section 3).
            HostName::Dns(name) => {
                ServerName::try_from(name.trim_end_matches('.').to_owned()).map_err(|error| {
                    HandshakeFault::Other(format!("{name} cannot stand in a certificate: {error}"))
                })?
            }
        };
        TlsConnector::from(self.config.clone())
            .connect(name, stream)
            .await
            .map_err(|error| HandshakeFault::of(&error))
    }
}

// A configuration holds a key; its debug form says only that it is there.
impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

fn native_roots() -> Result<RootCertStore, TlsFault> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let detail = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(TlsFault::NoNativeRoots { detail });
    }
    tracing::debug!(
        added,
        ignored,
        faults = found.errors.len(),
        "took the trusted certificates of the system"
    );
    Ok(roots)
}
