//! TLS of the side that listens. Its certificate can be replaced while connections go on.

use super::{Identity, TlsFault, identity_fault, provider, read_identity, roots_of};
use crate::HandshakeFault;
use rustls::{
    DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    server::{
        ClientHello, ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server};

/// Whether the side that listens asks for client certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// It does not.
    #[default]
    None,
    /// It asks for one and takes in everybody. Of one that is shown the handshake proves only that the client holds its
    /// key; whose it is, whether it has expired and who signed it is for whoever reads [`crate::Stream::peer_certificates`].
    /// So a client without a certificate, or with one that is not known yet, can be told why it is refused.
    Asked,
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

/// TLS of the side that listens, checked and ready. Clones share the certificate.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    shown: Arc<Shown>,
    identity: Identity,
}

impl ServerTls {
    /// Reads and checks everything that `config` names. TLS 1.2 and 1.3 are spoken: SDKs of devices know only 1.2.
    ///
    /// # Errors
    /// Which file is wrong, and how.
    pub fn build(config: &ServerTlsConfig) -> Result<Self, TlsFault> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsFault::Setup(error.to_string()))?;
        let builder =
            match &config.clients {
                ClientAuth::None => builder.with_no_client_auth(),
                ClientAuth::Asked => builder.with_client_cert_verifier(Arc::new(HoldsItsKey::new())),
                ClientAuth::Required(path) => {
                    let verifier =
                        WebPkiClientVerifier::builder_with_provider(Arc::new(roots_of(path)?), provider());
                    builder.with_client_cert_verifier(verifier.build().map_err(|error| {
                        TlsFault::Authority { path: path.clone(), why: error.to_string() }
                    })?)
                }
            };
        let shown = Arc::new(Shown(RwLock::new(read_key(&config.identity)?)));
        let mut built = builder.with_cert_resolver(shown.clone());
        // What a session needs to be resumed goes to the client, sealed, instead of into a table here: many devices that
        // come back at once cost no signature and no memory. The key of the seal lives in memory and changes by itself.
        built.ticketer = ring::Ticketer::new().map_err(|error| TlsFault::Setup(error.to_string()))?;
        built.send_tls13_tickets = 1;
        Ok(Self { config: Arc::new(built), shown, identity: config.identity.clone() })
    }

    /// Reads the files of the certificate again and shows it from the next handshake on, if it is another one.
    /// Connections that are open go on. Gives whether it was another one.
    ///
    /// # Errors
    /// Which file is wrong, and how. The certificate from before is shown on.
    pub fn reload(&self) -> Result<bool, TlsFault> {
        let read = read_key(&self.identity)?;
        let mut shown = self.shown.0.write().unwrap_or_else(PoisonError::into_inner);
        let changed = shown.cert != read.cert;
        if changed {
            *shown = read;
        }
        Ok(changed)
    }

    /// The same for QUIC, which wants the name of what is spoken (RFC 9001, section 8.1).
    pub(crate) fn for_quic(&self, protocol: &[u8]) -> Arc<ServerConfig> {
        let mut config = ServerConfig::clone(&self.config);
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
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

// A configuration holds a key; its debug form says only that it is there.
impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("identity", &self.identity).finish_non_exhaustive()
    }
}

fn read_key(identity: &Identity) -> Result<Arc<CertifiedKey>, TlsFault> {
    let (certificates, key) = read_identity(identity)?;
    let key = CertifiedKey::from_der(certificates, key, &ring::default_provider())
        .map_err(|error| identity_fault(identity, &error))?;
    Ok(Arc::new(key))
}

/// The certificate that is shown now.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Takes every client certificate whose key the client holds.
#[derive(Debug)]
struct HoldsItsKey(WebPkiSupportedAlgorithms);

impl HoldsItsKey {
    fn new() -> Self {
        Self(ring::default_provider().signature_verification_algorithms)
    }
}

impl ClientCertVerifier for HoldsItsKey {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// No names: a client shows whatever it has.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
