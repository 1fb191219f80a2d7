//! Small keyed values beside the logs: module state, twins, sessions. Written in the same batch as the messages they
//! belong to; rewritten whole; read straight from the database.
//!
//! The key on disk is `space NUL key`, so that a space cannot reach into another.

use crate::{
    config::{DOCUMENT_BYTES_MAX, DOCUMENT_KEY_BYTES_MAX},
    engine::fault,
    error::{CommitError, StoreError},
    message::DocumentWrite,
    shared::Shared,
};
use bytes::Bytes;
use holdfast_types::Text;

fn document_key(space: &str, key: &str) -> Vec<u8> {
    [space.as_bytes(), b"\0", key.as_bytes()].concat()
}

/// Whether key and value are within their bounds.
pub(crate) fn check(write: &DocumentWrite) -> Result<(), CommitError> {
    let key_bytes = write.space.len() + 1 + write.key.len();
    let value_bytes = write.value.as_ref().map_or(0, Bytes::len);
    let too_large = |bytes, bytes_max| CommitError::DocumentTooLarge {
        space: write.space.clone(),
        key: write.key.clone(),
        bytes,
        bytes_max,
    };
    if key_bytes > DOCUMENT_KEY_BYTES_MAX {
        return Err(too_large(key_bytes, DOCUMENT_KEY_BYTES_MAX));
    }
    if value_bytes > DOCUMENT_BYTES_MAX {
        return Err(too_large(value_bytes, DOCUMENT_BYTES_MAX));
    }
    Ok(())
}

/// A document in its form on disk.
pub(crate) fn key_and_value(write: DocumentWrite) -> (Vec<u8>, Option<Bytes>) {
    (document_key(&write.space, &write.key), write.value)
}

pub(crate) fn one(shared: &Shared, space: &str, key: &str) -> Result<Option<Bytes>, StoreError> {
    shared.with_engine(|engine| {
        let value = engine.documents.get(document_key(space, key)).map_err(fault("read a document"))?;
        Ok(value.map(Bytes::from))
    })
}

pub(crate) fn many(
    shared: &Shared,
    space: &str,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(Text, Bytes)>, StoreError> {
    let skip = space.len() + 1;
    shared.with_engine(|engine| {
        let mut found = Vec::new();
        let prefix = document_key(space, prefix);
        // The key that comes next after a key is the same with a zero byte behind it.
        let next = after.map(|after| [document_key(space, after).as_slice(), b"\0"].concat());
        let from = next.filter(|next| *next > prefix).unwrap_or_else(|| prefix.clone());
        for guard in engine.documents.range(from..).take(limit) {
            let (key, value) = guard.into_inner().map_err(fault("read documents"))?;
            if !key.starts_with(&prefix) {
                break;
            }
            let name = key.get(skip..).and_then(|name| std::str::from_utf8(name).ok());
            found.extend(name.map(|name| (Text::from(name), Bytes::from(value))));
        }
        Ok(found)
    })
}
