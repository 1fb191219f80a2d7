//! Certificates, keys and trust, read once and checked.

mod client;
mod quic;
mod server;

pub use client::{ClientTls, ClientTlsConfig, Roots};
pub use quic::QuicTls;
pub use server::{ClientAuth, ServerTls, ServerTlsConfig};

use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, ring},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// A PEM file with the certificate and then those of its issuers.
    pub certificates: PathBuf,
    /// A PEM file with the private key (PKCS #8, PKCS #1 or SEC 1).
    pub key: PathBuf,
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

/// One provider for the whole program, named here rather than installed for the process, so that no order of
/// initialisation matters.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
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
