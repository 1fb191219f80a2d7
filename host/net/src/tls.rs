//! Certificates, keys and trust, read once and checked.

use crate::{HandshakeFault, HostName};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// Whom to trust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Roots {
    /// The authorities that the system trusts.
    #[default]
    Native,
    /// Only the authorities in this PEM file.
    File(PathBuf),
}

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// A PEM file with the certificate and then those of its issuers.
    pub certificates: PathBuf,
    /// A PEM file with the private key (PKCS #8, PKCS #1 or SEC 1).
    pub key: PathBuf,
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

/// Whether the side that listens asks for client certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// It does not.
    #[default]
    None,
    /// It checks one that is shown, against the authorities in this PEM file.
    Optional(PathBuf),
    /// It takes nobody in without one from the authorities in this PEM file.
    Required(PathBuf),
}

/// TLS of the side that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTlsConfig {
    /// The server certificate.
    pub identity: Identity,
    /// Whether clients show one too.
    pub clients: ClientAuth,
}

/// Why certificates and keys cannot be used. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    /// A file cannot be read.
    #[error("the {what} file {} cannot be read ({why}); check the path, and that this user may read it", path.display())]
    Unreadable {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// A file does not hold what it should.
    #[error(
        "the file {} holds no {what}; it must be PEM text with a line that begins `-----BEGIN`, and a key must not be \
         locked with a password",
        path.display()
    )]
    Missing {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key do not belong together, or are of a kind that cannot be used.
    #[error(
        "the certificate {} cannot be used with the key {} ({why}); give the key that the certificate was issued for",
        certificates.display(), key.display()
    )]
    Identity {
        /// The certificate file.
        certificates: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// An authority cannot be used.
    #[error("the certificate authority in {} cannot be used ({why}); give the certificate of an authority", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The system trusts nobody.
    #[error(
        "this system has no trusted certificates{detail}; install them (on Debian the package ca-certificates), or name \
         a file with the certificate of the authority"
    )]
    NoNativeRoots {
        /// What the look-up said, with its own punctuation.
        detail: String,
    },
    /// The TLS library cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// TLS of the side that dials, checked and ready.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    server_name: Option<HostName>,
}

/// TLS of the side that listens, checked and ready.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
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

impl ServerTls {
    /// Reads and checks everything that `config` names.
    ///
    /// # Errors
    /// Which file is wrong, and how.
    pub fn build(config: &ServerTlsConfig) -> Result<Self, TlsFault> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsFault::Setup(error.to_string()))?;
        let verifier = |path: &PathBuf, required: bool| {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots_of(path)?), provider());
            let verifier = if required { verifier } else { verifier.allow_unauthenticated() };
            verifier
                .build()
                .map_err(|error| TlsFault::Authority { path: path.clone(), why: error.to_string() })
        };
        let builder = match &config.clients {
            ClientAuth::None => builder.with_no_client_auth(),
            ClientAuth::Optional(path) => builder.with_client_cert_verifier(verifier(path, false)?),
            ClientAuth::Required(path) => builder.with_client_cert_verifier(verifier(path, true)?),
        };
        let (certificates, key) = read_identity(&config.identity)?;
        let built = builder
            .with_single_cert(certificates, key)
            .map_err(|error| identity_fault(&config.identity, &error))?;
        Ok(Self { config: Arc::new(built) })
    }

    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<server::TlsStream<TcpStream>, HandshakeFault> {
        TlsAcceptor::from(self.config.clone())
            .accept(stream)
            .await
            .map_err(|error| HandshakeFault::of(&error))
    }
}

// Configurations hold keys; their debug form says only that they are there.
impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

/// One provider for the whole program, named here rather than installed for the process, so that no order of
/// initialisation matters.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
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

fn roots_of(path: &Path) -> Result<RootCertStore, TlsFault> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates("certificate authority", path)? {
        roots
            .add(certificate)
            .map_err(|error| TlsFault::Authority { path: path.to_owned(), why: error.to_string() })?;
    }
    Ok(roots)
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsFault> {
    std::fs::read(path).map_err(|error| TlsFault::Unreadable {
        what,
        path: path.to_owned(),
        why: error.to_string(),
    })
}

fn read_certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let missing = || TlsFault::Missing { what: "certificate", path: path.to_owned() };
    let text = read(what, path)?;
    let all: Vec<_> =
        CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|_| missing())?;
    if all.is_empty() { Err(missing()) } else { Ok(all) }
}

fn read_identity(
    identity: &Identity,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsFault> {
    let certificates = read_certificates("certificate", &identity.certificates)?;
    let key = PrivateKeyDer::from_pem_slice(&read("key", &identity.key)?)
        .map_err(|_| TlsFault::Missing { what: "private key", path: identity.key.clone() })?;
    Ok((certificates, key))
}

fn identity_fault(identity: &Identity, error: &rustls::Error) -> TlsFault {
    let why = match error {
        rustls::Error::InconsistentKeys(_) => "they do not belong together".to_owned(),
        other => other.to_string(),
    };
    TlsFault::Identity { certificates: identity.certificates.clone(), key: identity.key.clone(), why }
}
