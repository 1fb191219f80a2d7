//! Certificates that clients show.
//!
//! The handshake has proved that the client holds the private key. What the certificate is worth is judged here, with
//! the time passed in: known by its thumbprint, or issued under an authority of the trust bundle.

use crate::device::Thumbprint;
use holdfast_types::{Name, UnixMillis};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::time::Duration;
use webpki::{
    EndEntityCert, KeyUsage, anchor_from_trusted_cert,
    ring::{
        ECDSA_P256_SHA256, ECDSA_P256_SHA384, ECDSA_P384_SHA256, ECDSA_P384_SHA384, ED25519,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    },
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// The signatures that a chain may have: all of them that the handshake takes too.
const SIGNATURES: &[&dyn rustls_pki_types::SignatureVerificationAlgorithm] = &[
    ECDSA_P256_SHA256,
    ECDSA_P256_SHA384,
    ECDSA_P384_SHA256,
    ECDSA_P384_SHA384,
    ED25519,
    RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512,
];

/// The authorities whose certificates prove a device of the kind [`crate::Credential::CertificateAuthority`].
#[derive(Clone, Default)]
pub struct TrustBundle(Vec<TrustAnchor<'static>>);

impl TrustBundle {
    /// A bundle of the certificates of authorities. The error says which of them, from 0, is none and why.
    pub fn new<'a>(
        authorities: impl IntoIterator<Item = &'a CertificateDer<'a>>,
    ) -> Result<Self, (usize, String)> {
        let anchors = authorities.into_iter().enumerate().map(|(number, authority)| {
            let anchor = anchor_from_trusted_cert(authority).map_err(|why| (number, why.to_string()))?;
            Ok(anchor.to_owned())
        });
        anchors.collect::<Result<_, _>>().map(Self)
    }

    /// How many authorities there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none, so that no certificate is proved by its authority.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Why a certificate does not prove a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCertificate {
    /// It is no certificate that can be read.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// Its time has not come.
    #[error("it is not valid before {from}; is the clock of this machine right?")]
    NotYet {
        /// When it will be valid.
        from: String,
    },
    /// Its time is over.
    #[error("it has expired at {until}; give the device a new one")]
    Expired {
        /// Until when it was valid.
        until: String,
    },
    /// It is another one than the registry has.
    #[error("its thumbprint {0:?} is not one of the device's")]
    Thumbprint(Thumbprint),
    /// Its common name is not the device's.
    #[error("its common name is {0:?} and not that of the device")]
    Name(String),
    /// There is no authority at all.
    #[error(
        "the trust bundle is empty; `holdfast init` makes an authority for this edge, and gateway.tls.client_ca_file names another"
    )]
    NoAuthority,
    /// No authority of the trust bundle vouches for it.
    #[error("no authority of the trust bundle vouches for it: {0}")]
    Chain(String),
}

/// A certificate that a client showed, read.
pub(crate) struct Shown<'a> {
    der: &'a CertificateDer<'a>,
    intermediates: &'a [CertificateDer<'a>],
    /// The last of its common names; none if it has none.
    name: Option<String>,
    from: (i64, String),
    until: (i64, String),
}

impl<'a> Shown<'a> {
    /// Reads the first of `chain`. None if there is none.
    pub(crate) fn read(chain: &'a [CertificateDer<'a>]) -> Option<Result<Self, BadCertificate>> {
        let (der, intermediates) = chain.split_first()?;
        let read = X509Certificate::from_der(der).map_err(|why| BadCertificate::Unreadable(why.to_string()));
        Some(read.map(|(_, certificate)| {
            let names = certificate.subject().iter_common_name();
            let validity = certificate.validity();
            let time = |time: &x509_parser::time::ASN1Time| (time.timestamp(), time.to_string());
            Self {
                der,
                intermediates,
                name: names.last().and_then(|name| name.as_str().ok()).map(str::to_owned),
                from: time(&validity.not_before),
                until: time(&validity.not_after),
            }
        }))
    }

    /// The name of the device that it was issued to, if that can be a name.
    pub(crate) fn device(&self) -> Option<Name> {
        Name::new(self.name.as_deref()?).ok()
    }

    /// Until when it is good.
    pub(crate) fn until(&self) -> UnixMillis {
        UnixMillis(u64::try_from(self.until.0).unwrap_or(0).saturating_mul(1000))
    }

    /// Whether a thumbprint is its own.
    pub(crate) fn has(&self, thumbprint: &Thumbprint) -> bool {
        thumbprint.is_of(self.der)
    }

    /// Whether it is one of these, and valid now.
    pub(crate) fn is_one_of(
        &self,
        primary: &Thumbprint,
        secondary: Option<&Thumbprint>,
        now: UnixMillis,
    ) -> Result<(), BadCertificate> {
        if !self.has(primary) && !secondary.is_some_and(|secondary| self.has(secondary)) {
            return Err(BadCertificate::Thumbprint(Thumbprint::of(self.der)));
        }
        self.is_valid(now)
    }

    /// Whether it was issued to a device of this name under one of the authorities, and is valid now.
    pub(crate) fn is_issued_to(
        &self,
        device: &Name,
        authorities: &TrustBundle,
        now: UnixMillis,
    ) -> Result<(), BadCertificate> {
        match &self.name {
            Some(name) if name == device.as_str() => {}
            other => return Err(BadCertificate::Name(other.clone().unwrap_or_default())),
        }
        self.is_valid(now)?;
        if authorities.is_empty() {
            return Err(BadCertificate::NoAuthority);
        }
        let chain = |why: webpki::Error| BadCertificate::Chain(why.to_string());
        let time = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
        let end = EndEntityCert::try_from(self.der).map_err(chain)?;
        end.verify_for_usage(
            SIGNATURES,
            &authorities.0,
            self.intermediates,
            time,
            KeyUsage::client_auth(),
            None,
            None,
        )
        .map(drop)
        .map_err(chain)
    }

    fn is_valid(&self, now: UnixMillis) -> Result<(), BadCertificate> {
        let now_s = i64::try_from(now.0 / 1000).unwrap_or(i64::MAX);
        if now_s < self.from.0 {
            return Err(BadCertificate::NotYet { from: self.from.1.clone() });
        }
        if now_s > self.until.0 {
            return Err(BadCertificate::Expired { until: self.until.1.clone() });
        }
        Ok(())
    }
}
