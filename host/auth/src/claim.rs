//! Is it this device?
//!
//! The rules are those of IoT Hub and of IoT Edge in its place: a token signed with one of the device's keys, or a
//! certificate that the handshake has proved. They need no link: everything they ask for is in the registry.

use crate::{
    device::{Credential, Device, DeviceStatus, SharedKey},
    sas::{BadToken, Resource, Token},
    x509::{BadCertificate, Shown, TrustBundle},
};
use holdfast_types::{Identity, Text, UnixMillis};
use rustls_pki_types::CertificateDer;
use std::{fmt, time::Duration};

/// How long a token is good after its expiry, since the clocks of small devices are wrong: 5 minutes, as in IoT Edge.
pub const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// What a client shows to prove that it is a device or a module.
#[derive(Clone, Copy)]
pub struct Claim<'a> {
    /// Who it says it is.
    pub identity: &'a Identity,
    /// The password of CONNECT: a token. Empty is none.
    pub password: Option<&'a [u8]>,
    /// The certificates of the handshake, its own first.
    pub certificates: &'a [CertificateDer<'a>],
    /// The time now.
    pub now: UnixMillis,
}

/// What a device has proved itself with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// A token signed with a shared key.
    SharedKey,
    /// A certificate known by its thumbprint.
    Thumbprint,
    /// A certificate of an authority.
    CertificateAuthority,
}

/// A device or module that has proved itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// Who it is.
    pub identity: Identity,
    /// By what.
    pub means: Means,
    /// From then on the proof is worth nothing: the connection ends.
    pub until: UnixMillis,
    /// The generation of the device or module.
    pub generation: Text,
    /// The change of the registry up to which this holds.
    pub(crate) change: u64,
}

/// Why a client is not the device it says it is. The client is told the same in every case; the text is for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceNotProved {
    /// It is not in the registry.
    #[error("there is no device {0:?} here; add it with `holdfast device add`")]
    NoSuchDevice(String),
    /// It may not connect.
    #[error("{0} is disabled; `holdfast device enable` lets it in again")]
    Disabled(Identity),
    /// It has no credential.
    #[error(
        "{0} has no credential; give it one with `holdfast hub device set {0} --generate` at its hub, or here remove it and \
         add it again with `holdfast device add`"
    )]
    NoCredential(Identity),
    /// It showed nothing.
    #[error("{0} gave neither a token nor a certificate")]
    NoProof(Identity),
    /// It showed what is not its credential.
    #[error("{identity} proves itself with {has}, and gave {gave}")]
    OtherMeans {
        /// Who.
        identity: Identity,
        /// The kind of its credential.
        has: &'static str,
        /// What it gave.
        gave: &'static str,
    },
    /// Its password is no token.
    #[error("the password of {identity} is no token: {why}")]
    BadToken {
        /// Who.
        identity: Identity,
        /// What is wrong with it.
        why: BadToken,
    },
    /// Its token is signed with the key of a policy of the hub.
    #[error(
        "the token of {identity} is signed with the policy {policy:?} of the hub, which only the hub can verify; \
         sign it with the key of the device"
    )]
    Policy {
        /// Who.
        identity: Identity,
        /// The policy.
        policy: String,
    },
    /// Its token is for another host.
    #[error(
        "the token of {identity} is for the host {host:?}; this edge goes by {names}; set hub.host_name if it should be another"
    )]
    OtherHost {
        /// Who.
        identity: Identity,
        /// The host in the token.
        host: String,
        /// The names that are accepted.
        names: String,
    },
    /// Its token is for another device or module.
    #[error("the token of {identity} is for {resource:?}")]
    OtherIdentity {
        /// Who.
        identity: Identity,
        /// The resource of the token.
        resource: String,
    },
    /// Its token was good once.
    #[error("the token of {identity} has expired {ago} ago; is the clock of the device right?")]
    Expired {
        /// Who.
        identity: Identity,
        /// How long ago.
        ago: Ago,
    },
    /// No key of the device has signed the token.
    #[error("the token of {0} is not signed with a key of the device")]
    WrongSignature(Identity),
    /// A module showed a certificate.
    #[error("{0} is a module, and modules cannot prove themselves with a certificate; use a token")]
    ModuleByCertificate(Identity),
    /// The certificate does not prove the device.
    #[error("the certificate of {identity} is refused: {why}")]
    Certificate {
        /// Who.
        identity: Identity,
        /// What is wrong with it.
        why: BadCertificate,
    },
    /// A certificate alone, which says nothing of who it is.
    #[error("the certificate names no device: {0}")]
    Anonymous(String),
}

/// A span of time for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ago(pub u64);

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            seconds @ 0..120 => write!(f, "{seconds} s"),
            seconds @ 120..7200 => write!(f, "{} min", seconds / 60),
            seconds @ 7200..172_800 => write!(f, "{} h", seconds / 3600),
            seconds => write!(f, "{} days", seconds / 86_400),
        }
    }
}

/// The device and module that a claim is about, as far as they are known.
pub(crate) struct Known<'a> {
    pub(crate) device: Option<&'a Device>,
    /// The module itself, if the claim is a module's.
    pub(crate) module: Option<&'a Device>,
}

/// What a judgement needs beside the claim.
pub(crate) struct Bench<'a> {
    pub(crate) hosts: &'a [String],
    pub(crate) authorities: &'a TrustBundle,
    /// A key that is nobody's: it is tried where there is no device, so that an answer takes as long.
    pub(crate) decoy: &'a SharedKey,
    pub(crate) change: u64,
}

/// Decides.
pub(crate) fn judge(
    claim: &Claim<'_>,
    known: &Known<'_>,
    bench: &Bench<'_>,
) -> Result<Proved, DeviceNotProved> {
    let identity = claim.identity;
    let own = if identity.module.is_some() { known.module } else { known.device };
    for one in [known.device, own].into_iter().flatten() {
        if one.status == DeviceStatus::Disabled {
            return Err(DeviceNotProved::Disabled(one.identity.clone()));
        }
    }
    // A module needs no entry of its own where its device vouches for it.
    if known.device.is_none() {
        if let Some(token) = claim.password.and_then(|password| Token::parse(password).ok()) {
            token.is_signed_by(bench.decoy);
        }
        return Err(DeviceNotProved::NoSuchDevice(identity.to_string()));
    }
    match claim.password.filter(|password| !password.is_empty()) {
        Some(password) => by_token(claim, password, own, known.device, bench),
        None if claim.certificates.is_empty() => Err(DeviceNotProved::NoProof(identity.clone())),
        None if identity.module.is_some() => Err(DeviceNotProved::ModuleByCertificate(identity.clone())),
        None => match own {
            Some(device) => by_certificate(claim, device, bench),
            None => Err(DeviceNotProved::NoSuchDevice(identity.to_string())),
        },
    }
}

fn by_token(
    claim: &Claim<'_>,
    password: &[u8],
    own: Option<&Device>,
    device: Option<&Device>,
    bench: &Bench<'_>,
) -> Result<Proved, DeviceNotProved> {
    let identity = claim.identity;
    let token = Token::parse(password)
        .map_err(|why| DeviceNotProved::BadToken { identity: identity.clone(), why })?;
    if let Some(policy) = token.policy {
        return Err(DeviceNotProved::Policy { identity: identity.clone(), policy: policy.to_owned() });
    }
    check_resource(identity, &token.resource, bench)?;
    let for_itself = token.resource.is(identity);
    let own_keys = own.filter(|_| for_itself).map(|own| &own.credential);
    // The key of a device is good for its modules too.
    let device_keys = device.filter(|_| identity.module.is_some()).map(|device| &device.credential);
    if !is_signed(&token, [own_keys, device_keys]) {
        return Err(not_signed(identity, own.or(device)));
    }
    let until_s = token.expiry_s.saturating_add(CLOCK_SKEW.as_secs());
    let now_s = claim.now.0 / 1000;
    if now_s > until_s {
        let ago = Ago(now_s - token.expiry_s);
        return Err(DeviceNotProved::Expired { identity: identity.clone(), ago });
    }
    Ok(Proved {
        identity: identity.clone(),
        means: Means::SharedKey,
        until: UnixMillis(until_s.saturating_mul(1000)),
        generation: generation(own.or(device)),
        change: bench.change,
    })
}

fn check_resource(
    identity: &Identity,
    resource: &Resource,
    bench: &Bench<'_>,
) -> Result<(), DeviceNotProved> {
    if !bench.hosts.iter().any(|host| host.eq_ignore_ascii_case(&resource.host)) {
        return Err(DeviceNotProved::OtherHost {
            identity: identity.clone(),
            host: resource.host.clone(),
            names: bench.hosts.join(", "),
        });
    }
    if !resource.is(identity) && !resource.is_device_of(identity) {
        return Err(DeviceNotProved::OtherIdentity {
            identity: identity.clone(),
            resource: resource.to_string(),
        });
    }
    Ok(())
}

fn is_signed(token: &Token<'_>, credentials: [Option<&Credential>; 2]) -> bool {
    credentials.into_iter().flatten().any(|credential| match credential {
        Credential::SharedKey { primary, secondary } => {
            token.is_signed_by(primary)
                || secondary.as_ref().is_some_and(|secondary| token.is_signed_by(secondary))
        }
        _ => false,
    })
}

/// Why no key has signed a token: the key is another one, or there is none.
fn not_signed(identity: &Identity, own: Option<&Device>) -> DeviceNotProved {
    let identity = identity.clone();
    match own.map(|own| &own.credential) {
        Some(Credential::SharedKey { .. }) => DeviceNotProved::WrongSignature(identity),
        Some(Credential::None) | None => DeviceNotProved::NoCredential(identity),
        Some(Credential::Thumbprints { .. } | Credential::CertificateAuthority) => {
            DeviceNotProved::OtherMeans { identity, has: "a certificate", gave: "a token" }
        }
    }
}

fn by_certificate(claim: &Claim<'_>, device: &Device, bench: &Bench<'_>) -> Result<Proved, DeviceNotProved> {
    let identity = claim.identity;
    let refused = |why| DeviceNotProved::Certificate { identity: identity.clone(), why };
    let shown = match Shown::read(claim.certificates) {
        Some(shown) => shown.map_err(refused)?,
        None => return Err(DeviceNotProved::NoProof(identity.clone())),
    };
    let means = match &device.credential {
        Credential::Thumbprints { primary, secondary } => {
            shown.is_one_of(primary, secondary.as_ref(), claim.now).map_err(refused)?;
            Means::Thumbprint
        }
        Credential::CertificateAuthority => {
            shown.is_issued_to(&identity.device, bench.authorities, claim.now).map_err(refused)?;
            Means::CertificateAuthority
        }
        Credential::SharedKey { .. } => {
            let (has, gave) = ("a token", "a certificate");
            return Err(DeviceNotProved::OtherMeans { identity: identity.clone(), has, gave });
        }
        Credential::None => return Err(DeviceNotProved::NoCredential(identity.clone())),
    };
    Ok(Proved {
        identity: identity.clone(),
        means,
        until: shown.until(),
        generation: generation(Some(device)),
        change: bench.change,
    })
}

fn generation(device: Option<&Device>) -> Text {
    device.map_or_else(|| "".into(), |device| device.generation.clone())
}
