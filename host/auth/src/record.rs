//! A device as it is kept: JSON with a version. The name is the key under which it is kept, and not part of it.
//!
//! ```json
//! { "v": 1, "kind": "sas", "primary": "…", "secondary": "…", "enabled": true, "parent": "edge-1",
//!   "generation": "…", "edge": false, "added_ms": 0 }
//! ```
//! `kind` is `sas` (keys in base64), `selfSigned` (thumbprints), `certificateAuthority` or `none`; `primary`, `secondary` and
//! `parent` may be missing. It holds secrets: whoever writes it seals it ([`crate::Sealer`]).

use crate::device::{BadKey, BadThumbprint, Credential, Device, DeviceStatus, SharedKey, Thumbprint};
use holdfast_types::{Identity, InvalidName, Name, UnixMillis};
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Record {
    v: u32,
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    primary: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secondary: Option<String>,
    enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    generation: String,
    edge: bool,
    added_ms: u64,
}

/// Why a document is no device.
#[derive(Debug, thiserror::Error)]
pub enum RecordFault {
    /// It is not the JSON that it should be.
    #[error("it cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// A later host has written it.
    #[error("its form has version {0}, and this host knows {VERSION}")]
    Version(u32),
    /// The key under which it was kept is no identity.
    #[error("{0:?} is no identity")]
    Identity(String),
    /// A credential without what it needs.
    #[error("its credential has no primary")]
    NoPrimary,
    /// A credential that is not known.
    #[error("its credential is of the unknown kind {0:?}")]
    Kind(String),
    /// A key that is none.
    #[error(transparent)]
    Key(#[from] BadKey),
    /// A thumbprint that is none.
    #[error(transparent)]
    Thumbprint(#[from] BadThumbprint),
    /// A parent that is no name.
    #[error("its parent: {0}")]
    Parent(#[from] InvalidName),
}

impl Device {
    /// As it is kept.
    ///
    /// # Errors
    /// None that is known: it is JSON by its making.
    pub fn to_document(&self) -> Result<Vec<u8>, RecordFault> {
        let (primary, secondary) = match &self.credential {
            Credential::SharedKey { primary, secondary } => {
                (Some(primary.expose()), secondary.as_ref().map(SharedKey::expose))
            }
            Credential::Thumbprints { primary, secondary } => {
                (Some(primary.to_string()), secondary.as_ref().map(Thumbprint::to_string))
            }
            Credential::CertificateAuthority | Credential::None => (None, None),
        };
        let record = Record {
            v: VERSION,
            kind: self.credential.kind().to_owned(),
            primary,
            secondary,
            enabled: self.status == DeviceStatus::Enabled,
            parent: self.parent.as_ref().map(ToString::to_string),
            generation: self.generation.to_string(),
            edge: self.edge,
            added_ms: self.added.0,
        };
        Ok(serde_json::to_vec(&record)?)
    }

    /// From what was kept under `key`.
    ///
    /// # Errors
    /// It is no device that this host knows.
    pub fn from_document(key: &str, text: &[u8]) -> Result<Self, RecordFault> {
        let record: Record = serde_json::from_slice(text)?;
        if record.v != VERSION {
            return Err(RecordFault::Version(record.v));
        }
        let primary = || record.primary.as_deref().ok_or(RecordFault::NoPrimary);
        let secondary = record.secondary.as_deref();
        let credential = match record.kind.as_str() {
            "sas" => Credential::SharedKey {
                primary: SharedKey::parse(primary()?)?,
                secondary: secondary.map(SharedKey::parse).transpose()?,
            },
            "selfSigned" => Credential::Thumbprints {
                primary: Thumbprint::parse(primary()?)?,
                secondary: secondary.map(Thumbprint::parse).transpose()?,
            },
            "certificateAuthority" => Credential::CertificateAuthority,
            "none" => Credential::None,
            other => return Err(RecordFault::Kind(other.to_owned())),
        };
        Ok(Self {
            identity: Identity::parse(key).ok_or_else(|| RecordFault::Identity(key.to_owned()))?,
            credential,
            status: if record.enabled { DeviceStatus::Enabled } else { DeviceStatus::Disabled },
            parent: record.parent.as_deref().map(Name::new).transpose()?,
            generation: record.generation.into(),
            edge: record.edge,
            added: UnixMillis(record.added_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(credential: Credential, module: Option<&str>) -> Device {
        let name = |text: &str| Name::new(text).unwrap();
        Device {
            identity: Identity { device: name("pump"), module: module.map(name) },
            credential,
            status: DeviceStatus::Disabled,
            parent: Some(name("edge-1")),
            generation: "00ff".into(),
            edge: true,
            added: UnixMillis(1_769_860_801_000),
        }
    }

    #[test]
    fn every_device_comes_back_as_it_was() {
        let key = |byte| SharedKey::new(&[byte; 32]).unwrap();
        for credential in [
            Credential::SharedKey { primary: key(1), secondary: Some(key(2)) },
            Credential::SharedKey { primary: key(1), secondary: None },
            Credential::Thumbprints {
                primary: Thumbprint::of(b"a"),
                secondary: Some(Thumbprint::Sha1([7; 20])),
            },
            Credential::CertificateAuthority,
            Credential::None,
        ] {
            for module in [None, Some("scale")] {
                let device = device(credential.clone(), module);
                let key = device.identity.to_string();
                assert_eq!(Device::from_document(&key, &device.to_document().unwrap()).unwrap(), device);
            }
        }
    }

    #[test]
    fn what_another_version_wrote_or_nobody_did_is_not_guessed_at() {
        let good = String::from_utf8(device(Credential::None, None).to_document().unwrap()).unwrap();
        let fault = |text: &str| Device::from_document("pump", text.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            fault(&good.replace("\"v\":1", "\"v\":2")),
            "its form has version 2, and this host knows 1"
        );
        assert_eq!(
            fault(&good.replace("\"none\"", "\"tpm\"")),
            "its credential is of the unknown kind \"tpm\""
        );
        assert_eq!(fault(&good.replace("\"none\"", "\"sas\"")), "its credential has no primary");
        assert!(fault("{}").starts_with("it cannot be read"));
        assert!(Device::from_document("a b", good.as_bytes()).is_err());
    }
}
