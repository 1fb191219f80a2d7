//! An authority and what it issues. Pure: the time comes from outside, and nothing is written.

use crate::{Facts, Names, facts::Unreadable};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use std::{
    fmt,
    net::IpAddr,
    time::{Duration, SystemTime},
};
use time::OffsetDateTime;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Life of an authority: ten years, about that of a device. Its certificate is on every device, so it is never renewed in
/// place.
pub const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Life of a server's certificate: 30 days. It renews itself, so short is safe, and a stolen key is soon worth nothing.
pub const SERVER_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Life of a device's certificate unless somebody says otherwise: a year. It is carried to the device by hand.
pub const DEVICE_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// A certificate is renewed when this much of its life has passed, as IoT Edge does: with 30 days, six are left for
/// whatever keeps the renewal from happening.
pub const RENEW_AT_PERCENT: u32 = 80;

/// How long before it is issued a certificate begins: clocks of devices go wrong by hours.
const BACKDATED: Duration = DAY;

/// 2026-01-01 00:00:00 UTC. A machine without a battery clock starts in 1970; what it issues before its clock is set would
/// be past its end as soon as it is.
const EARLIEST: Duration = Duration::from_secs(1_767_225_600);

/// Most characters in a part of a distinguished name (X.520).
const PART_CHARACTERS_MAX: usize = 64;

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    facts: Facts,
}

/// A certificate that was issued, with its key.
pub struct Issued {
    /// The certificate (PEM).
    pub certificate: String,
    /// Its private key (PKCS #8, PEM).
    pub key: String,
}

/// The key is not shown.
impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// Why nothing was issued.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The authority's life has ended.
    #[error("the authority {subject} has expired; make a new one, and give its certificate to the devices")]
    Expired {
        /// Its name.
        subject: String,
    },
    /// Certificate and key are not those of one authority.
    #[error(
        "the authority cannot be used: {0}; bring its certificate and its key back from a backup, or make a new one"
    )]
    Unusable(String),
    /// The private key of the authority cannot be read.
    #[error(
        "no private key of an authority can be read from it ({0}); bring it back from a backup, or make a new authority"
    )]
    BadKey(rcgen::Error),
    /// The certificate cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The name of a device does not fit into a certificate.
    #[error(
        "the name {0:?} has more than {PART_CHARACTERS_MAX} characters, which no certificate takes as a common name; give the device \
         a certificate of its own, and add it with --thumbprint"
    )]
    NameTooLong(String),
    /// The system gave no key, or a name cannot be written.
    #[error("no certificate can be made: {0}")]
    Refused(#[from] rcgen::Error),
}

impl Authority {
    /// A new authority for the edge of this name. Gives its private key beside it (PKCS #8, PEM).
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn create(edge: &str, now: SystemTime) -> Result<(Self, String), PkiError> {
        let begin = plausible(now);
        let mut params = CertificateParams::default();
        let name: String = format!("Holdfast {edge}").chars().take(PART_CHARACTERS_MAX).collect();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date(begin - BACKDATED);
        params.not_after = date(begin + AUTHORITY_LIFE);
        // It signs certificates of servers and devices, and no other authority.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let key_text = key.serialize_pem();
        let certificate = CertifiedIssuer::self_signed(params, key)?.pem();
        Ok((Self::load(certificate, &key_text)?, key_text))
    }

    /// An authority from its certificate and its private key (PEM).
    ///
    /// # Errors
    /// One of the two cannot be read, or they do not belong together.
    pub fn load(certificate: String, key: &str) -> Result<Self, PkiError> {
        let facts = Facts::read(&certificate)?;
        let key = KeyPair::from_pem(key).map_err(PkiError::BadKey)?;
        if !facts.authority {
            return Err(PkiError::Unusable(format!("{} is no authority", facts.subject)));
        }
        if facts.public_key != key.public_key_raw() {
            return Err(PkiError::Unusable("its certificate and its key do not belong together".to_owned()));
        }
        let issuer = Issuer::from_ca_cert_pem(&certificate, key)?;
        Ok(Self { issuer, certificate, facts })
    }

    /// Its own certificate (PEM).
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// What its own certificate says.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Issues the certificate of a server, with a new key. It ends after `life`, or with the authority.
    ///
    /// # Errors
    /// The authority has expired.
    pub fn issue_to_server(
        &self,
        names: &Names,
        life: Duration,
        now: SystemTime,
    ) -> Result<Issued, PkiError> {
        let mut params = CertificateParams::default();
        for name in names.iter() {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.try_into()?),
            });
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params, names.first(), life, now)
    }

    /// Issues a certificate that a device shows, with a new key. Its common name is the device's, as it stands.
    ///
    /// # Errors
    /// The name is too long, or the authority has expired.
    pub fn issue_to_device(&self, device: &str, life: Duration, now: SystemTime) -> Result<Issued, PkiError> {
        if device.chars().count() > PART_CHARACTERS_MAX {
            return Err(PkiError::NameTooLong(device.to_owned()));
        }
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, device, life, now)
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        name: &str,
        life: Duration,
        now: SystemTime,
    ) -> Result<Issued, PkiError> {
        let begin = plausible(now);
        if begin >= self.facts.not_after {
            return Err(PkiError::Expired { subject: self.facts.subject.clone() });
        }
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date((begin - BACKDATED).max(self.facts.not_before));
        params.not_after = date((begin + life).min(self.facts.not_after));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Strict verifiers (Python from 3.13 on) want it.
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued { certificate, key: key.serialize_pem() })
    }
}

fn plausible(now: SystemTime) -> SystemTime {
    now.max(SystemTime::UNIX_EPOCH + EARLIEST)
}

/// Certificates count whole seconds.
fn date(at: SystemTime) -> OffsetDateTime {
    let at = OffsetDateTime::from(at);
    at.replace_nanosecond(0).unwrap_or(at)
}
