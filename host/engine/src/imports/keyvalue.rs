//! `wasi:keyvalue/store`: the module's durable state.
//!
//! A write takes effect with the call that made it: it is committed in one batch with the acknowledgement of the
//! message and the messages sent. Reads see the writes of the running call and of calls whose commit is under way.

use super::NO_TURN;
use super::bindings::wasi::keyvalue::store::{Error, Host as Opening, HostBucket, KeyResponse};
use crate::host::Host;
use crate::state::StateError;
use wasmtime::component::Resource;

/// Most bytes in a key.
const KEY_BYTES_MAX: usize = 512;

/// How many keys one `list-keys` answers.
const KEYS_PER_PAGE: usize = 256;

/// The module's one bucket. All handles mean the same.
#[derive(Debug)]
pub struct Bucket;

impl Opening for Host {
    fn open(&mut self, identifier: String) -> Result<Resource<Bucket>, Error> {
        match identifier.as_str() {
            "" | "default" => self.table.push(Bucket).map_err(|full| Error::Other(full.to_string())),
            _ => Err(Error::NoSuchStore),
        }
    }
}

impl HostBucket for Host {
    fn get(&mut self, _: Resource<Bucket>, key: String) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.state.value(&key).map_err(other)?.map(Into::into))
    }

    fn set(&mut self, _: Resource<Bucket>, key: String, value: Vec<u8>) -> Result<(), Error> {
        if key.len() > KEY_BYTES_MAX {
            return Err(Error::Other(format!(
                "the key has {} bytes; at most {KEY_BYTES_MAX} are allowed",
                key.len()
            )));
        }
        if !self.records {
            return Err(Error::Other(NO_TURN.to_owned()));
        }
        let set = self.state.set(&key, Some(value.into()));
        if let Err(error @ StateError::Quota { .. }) = &set {
            self.log.refuse("limits.state_bytes", || format!("a write was refused: {error}"));
        }
        set.map_err(other)
    }

    fn delete(&mut self, _: Resource<Bucket>, key: String) -> Result<(), Error> {
        if !self.records {
            return Err(Error::Other(NO_TURN.to_owned()));
        }
        self.state.set(&key, None).map_err(other)
    }

    fn exists(&mut self, _: Resource<Bucket>, key: String) -> Result<bool, Error> {
        Ok(self.state.value(&key).map_err(other)?.is_some())
    }

    fn list_keys(&mut self, _: Resource<Bucket>, cursor: Option<u64>) -> Result<KeyResponse, Error> {
        let skip = usize::try_from(cursor.unwrap_or(0)).unwrap_or(usize::MAX);
        let keys = self.state.keys().map_err(other)?;
        let total = keys.len();
        let page: Vec<String> = keys.into_iter().skip(skip).take(KEYS_PER_PAGE).collect();
        let next = skip.saturating_add(page.len());
        Ok(KeyResponse { keys: page, cursor: (next < total).then_some(next as u64) })
    }

    fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

fn other(error: StateError) -> Error {
    Error::Other(error.to_string())
}
