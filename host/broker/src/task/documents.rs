//! Small keyed values that modules keep.

use bytes::Bytes;
use holdfast_store::{DOCUMENT_BYTES_MAX, Store, StoreError};
use holdfast_types::{Name, Text};

/// Reads what was committed. Writes go in with the turn that made them ([`crate::Turn`]).
#[derive(Clone)]
pub struct Documents(pub(crate) Store);

impl Documents {
    /// Most bytes of one value.
    pub const VALUE_BYTES_MAX: usize = DOCUMENT_BYTES_MAX;

    /// The space that holds a module's state.
    pub fn state_space(module: &Name) -> Text {
        format!("state/{module}").into()
    }

    /// The value of a key.
    pub fn value(&self, space: &str, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.0.document(space, key)
    }

    /// Up to `limit` keys with their values that start with `prefix`, in the order of their bytes.
    pub fn scan(&self, space: &str, prefix: &str, limit: usize) -> Result<Vec<(Text, Bytes)>, StoreError> {
        self.0.documents(space, prefix, limit)
    }
}
