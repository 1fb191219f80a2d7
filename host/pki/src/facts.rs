//! What a certificate says.

use crate::RENEW_AT_PERCENT;
use sha2::{Digest, Sha256};
use std::{
    fmt::Write,
    net::IpAddr,
    time::{Duration, SystemTime},
};
use x509_parser::{
    extensions::GeneralName,
    pem::Pem,
    prelude::{FromDer, X509Certificate},
    time::ASN1Time,
};

/// A certificate, as far as people and renewal ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whose it is, such as `CN=press-4`.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// The names and addresses that it holds for, in the order of the alphabet.
    pub names: Vec<String>,
    /// When it begins.
    pub not_before: SystemTime,
    /// When it ends.
    pub not_after: SystemTime,
    /// SHA-256 of the certificate: 64 hexadecimal digits.
    pub sha256: String,
    /// Whether it may sign others.
    pub authority: bool,
    /// The public key as it stands in the certificate.
    pub(crate) public_key: Vec<u8>,
    der: Vec<u8>,
}

/// Where a certificate is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It begins later; or the clock is wrong.
    NotYet,
    /// It is good.
    Good,
    /// It is good, and time to renew it.
    Due,
    /// It is past its end.
    Expired,
}

/// Why a certificate cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no certificate ({0}); it must be PEM text with a line `-----BEGIN CERTIFICATE-----`")]
pub struct Unreadable(String);

impl Facts {
    /// Reads the first certificate in a PEM text; keys and whatever else is there are passed over.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn read(pem: &str) -> Result<Self, Unreadable> {
        let first = Pem::iter_from_buffer(pem.as_bytes())
            .filter_map(Result::ok)
            .find(|block| block.label == "CERTIFICATE")
            .ok_or_else(|| Unreadable("there is no such line".to_owned()))?;
        Self::of_der(first.contents)
    }

    fn of_der(der: Vec<u8>) -> Result<Self, Unreadable> {
        let (_, certificate) =
            X509Certificate::from_der(&der).map_err(|error| Unreadable(error.to_string()))?;
        let mut sha256 = String::with_capacity(64);
        for byte in Sha256::digest(&der) {
            // Writing to a text cannot fail.
            let _ = write!(sha256, "{byte:02x}");
        }
        Ok(Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            names: names(&certificate),
            not_before: moment(certificate.validity().not_before),
            not_after: moment(certificate.validity().not_after),
            sha256,
            authority: certificate.is_ca(),
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
            der,
        })
    }

    /// Whether `authority` signed this certificate.
    pub fn is_signed_by(&self, authority: &Self) -> bool {
        let (Ok((_, this)), Ok((_, issuer))) =
            (X509Certificate::from_der(&self.der), X509Certificate::from_der(&authority.der))
        else {
            return false;
        };
        this.verify_signature(Some(issuer.public_key())).is_ok()
    }

    /// Where it is in its life.
    pub fn life(&self, now: SystemTime) -> Life {
        if now < self.not_before {
            return Life::NotYet;
        }
        if now >= self.not_after {
            return Life::Expired;
        }
        if now >= self.renewal() { Life::Due } else { Life::Good }
    }

    /// When it is to be renewed.
    pub fn renewal(&self) -> SystemTime {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_before + life / 100 * RENEW_AT_PERCENT
    }

    /// How long it is still good.
    pub fn left(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }
}

/// A year before 1970 is that of no certificate; it counts as the beginning.
fn moment(time: ASN1Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or_default())
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let mut names: Vec<String> = extension
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
            _ => None,
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(four.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}
