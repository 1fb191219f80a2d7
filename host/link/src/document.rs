//! A document on the wire: JSON with a version, within a bound.

use crate::BODY_BYTES_MAX;
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The version of every document so far.
const VERSION: u32 = 1;

/// Why a document cannot be sent or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentFault {
    /// It is larger than may be.
    #[error("the {name} has {bytes} bytes, at most {BODY_BYTES_MAX} are allowed; send less at once")]
    TooLarge {
        /// Which document.
        name: &'static str,
        /// How many it has.
        bytes: usize,
    },
    /// It is not JSON, or a field is missing or wrong.
    #[error(
        "the {name} cannot be read: {why}; both sides must speak the same protocol: compare `holdfast --version`"
    )]
    Malformed {
        /// Which document.
        name: &'static str,
        /// What is wrong, and where.
        why: String,
    },
    /// It has a version that is not known here.
    #[error("the {name} has version {found}, this side knows {VERSION}; update the older side")]
    OtherVersion {
        /// Which document.
        name: &'static str,
        /// Its version.
        found: u32,
    },
    /// It has no JSON form.
    #[error("the {name} cannot be written: {why}")]
    Unwritable {
        /// Which document.
        name: &'static str,
        /// Why.
        why: String,
    },
}

/// A value that travels as the body of a call or an answer.
pub trait Document: Serialize + DeserializeOwned {
    /// What it is called in errors.
    const NAME: &'static str;

    /// What its form cannot say: a reason if a value is not one that may be.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Its JSON.
    ///
    /// # Errors
    /// It is larger than [`BODY_BYTES_MAX`] or cannot be written.
    fn encode(&self) -> Result<Bytes, DocumentFault> {
        let name = Self::NAME;
        self.check().map_err(|why| DocumentFault::Unwritable { name, why })?;
        let bytes = serde_json::to_vec(&Tagged { v: VERSION, document: self })
            .map_err(|error| DocumentFault::Unwritable { name, why: error.to_string() })?;
        checked_size(name, bytes.len())?;
        Ok(bytes.into())
    }

    /// Reads its JSON.
    ///
    /// # Errors
    /// It is too large, malformed, or of a version that is not known here.
    fn decode(bytes: &[u8]) -> Result<Self, DocumentFault> {
        let name = Self::NAME;
        checked_size(name, bytes.len())?;
        let malformed = |why: String| DocumentFault::Malformed { name, why };
        let head: Head = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        if head.v != VERSION {
            return Err(DocumentFault::OtherVersion { name, found: head.v });
        }
        let document: Self = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        document.check().map_err(malformed)?;
        Ok(document)
    }
}

fn checked_size(name: &'static str, bytes: usize) -> Result<(), DocumentFault> {
    if bytes > BODY_BYTES_MAX { Err(DocumentFault::TooLarge { name, bytes }) } else { Ok(()) }
}

#[derive(Serialize)]
struct Tagged<'a, T> {
    v: u32,
    #[serde(flatten)]
    document: &'a T,
}

#[derive(Deserialize)]
struct Head {
    v: u32,
}

/// The answer to a call that has nothing to say but that it was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {}

impl Document for Done {
    const NAME: &'static str = "answer";
}
