//! Who may connect to an edge.

use crate::fields;
use holdfast_types::{Identity, Name};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A device or a module of one, as the hub knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityRecord {
    /// Who.
    #[serde(with = "fields::identity")]
    pub identity: Identity,
    /// What it proves itself with.
    pub proof: Proof,
    /// Whether it may connect.
    pub status: Access,
    /// The edge that it reaches the hub through; none for the edge itself.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "fields::name::optional")]
    pub parent: Option<Name>,
    /// Tells two devices apart of which one was removed before the other was added under the same name.
    pub generation: String,
    /// Whether it is an edge itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub edge: bool,
}

/// Whether a device may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// It may.
    Enabled,
    /// It may not, nor may its modules.
    Disabled,
}

/// What a device proves itself with; the names are those of IoT Hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Proof {
    /// Tokens signed with one of two keys.
    Sas {
        /// Tried first.
        primary: Secret,
        /// Tried next.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secondary: Option<Secret>,
    },
    /// One of two certificates, by their thumbprints in hexadecimal digits.
    SelfSigned {
        /// The one.
        primary: String,
        /// The other.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secondary: Option<String>,
    },
    /// Any certificate of its name from an authority that the edge trusts.
    CertificateAuthority,
    /// Nothing: it is known, and cannot connect by itself.
    None,
}

/// A key in base64. Its debug form does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
