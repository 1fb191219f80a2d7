//! What is wrong with a manifest, and what of it is not carried over.

use serde_json::Value;
use std::fmt;

/// What kind of fault it is, in the numbers by which IoT Edge reports the last desired status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultCode {
    /// 417: there is nothing to deploy.
    Empty,
    /// 412: the schema version is missing or not known.
    Schema,
    /// 400: something else.
    Format,
}

impl FaultCode {
    /// IoT Edge's number.
    pub const fn status(self) -> u16 {
        match self {
            Self::Empty => 417,
            Self::Schema => 412,
            Self::Format => 400,
        }
    }
}

/// One fault of a manifest: where, why, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The document, if it was named: see [`super::Document`].
    pub document: String,
    /// The place in it (RFC 6901); empty for the whole.
    pub pointer: String,
    /// What kind it is.
    pub code: FaultCode,
    /// What is wrong.
    pub reason: String,
    /// What to change.
    pub fix: String,
}

/// `document: pointer: reason` and the fix on a line of its own.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.document.is_empty() {
            write!(f, "{}: ", self.document)?;
        }
        if !self.pointer.is_empty() {
            write!(f, "{}: ", self.pointer)?;
        }
        write!(f, "{}\n    fix: {}", self.reason, self.fix)
    }
}

/// Every fault of a manifest; of a hopeless one the first thousand. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub(super) Vec<Fault>);

impl Faults {
    /// The faults, in the order in which they were found.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Fault> {
        self.0.iter()
    }

    /// The kind of all of them together: the first that would stop IoT Edge.
    pub fn code(&self) -> FaultCode {
        self.iter().map(|fault| fault.code).min().unwrap_or(FaultCode::Format)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "1 fault in the manifest")?,
            count => write!(f, "{count} faults in the manifest")?,
        }
        self.0.iter().try_for_each(|fault| write!(f, "\n{fault}"))
    }
}

impl std::error::Error for Faults {}

/// Something of a manifest that has no meaning here, and why. What must not be shown, such as a password, is hidden in
/// `value`.
#[derive(Clone, Debug, PartialEq)]
pub struct NotCarried {
    /// The document, if it was named.
    pub document: String,
    /// The place in it (RFC 6901).
    pub pointer: String,
    /// What stands there.
    pub value: Value,
    /// Why it is not carried over, and what does its work here if anything does.
    pub reason: String,
}

/// `pointer = value: reason`.
impl fmt::Display for NotCarried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.document.is_empty() {
            write!(f, "{}: ", self.document)?;
        }
        write!(f, "{} = {}: {}", self.pointer, self.value, self.reason)
    }
}
