//! TLS of the side that dials.

use super::{Identity, TlsFault, identity_fault, provider, read_identity, roots_of};
use crate::{HandshakeFault, HostName};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};
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
        let (built, _) = configured(config)?;
        Ok(Self { config: Arc::new(built), server_name: config.server_name.clone() })
    }

    pub(crate) async fn connect(
        &self,
        host: &HostName,
        stream: TcpStream,
    ) -> Result<client::TlsStream<TcpStream>, HandshakeFault> {
        let name = match self.server_name.as_ref().unwrap_or(host) {
            HostName::Ip(address) => ServerName::from(*address),
            HostName::Dns(name) => {
                ServerName::try_from(without_last_dot(name).to_owned()).map_err(|error| {
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

/// A dot at the end is for resolvers; certificates and SNI do without (RFC 6066, section 3).
pub(super) fn without_last_dot(name: &str) -> &str {
    name.trim_end_matches('.')
}

/// Reads and checks everything that `config` names. What the verifier refuses is told by the second.
pub(super) fn configured(config: &ClientTlsConfig) -> Result<(ClientConfig, Refusals), TlsFault> {
    let roots = match &config.roots {
        Roots::Native => native_roots()?,
        Roots::File(path) => roots_of(path)?,
    };
    let setup = |error: String| TlsFault::Setup(error);
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| setup(error.to_string()))?;
    let refusals = Refusals::default();
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Telling { verifier, refusals: refusals.clone() }));
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
    Ok((built, refusals))
}

/// The last refusal of a certificate. Over QUIC the library passes only its text on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusals(Arc<Mutex<Option<rustls::Error>>>);

impl Refusals {
    pub(crate) fn take(&self) -> Option<rustls::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The usual verifier of the library, which tells what it refuses.
#[derive(Debug)]
struct Telling {
    verifier: Arc<WebPkiServerVerifier>,
    refusals: Refusals,
}

impl ServerCertVerifier for Telling {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        *self.refusals.0.lock().unwrap_or_else(PoisonError::into_inner) = verified.as_ref().err().cloned();
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
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
