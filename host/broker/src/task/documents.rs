//! Small keyed values: the state of modules, and what the edges keep of their clients.

use super::admission::Refused;
use bytes::Bytes;
use holdfast_store::{Commit, CommitError, DOCUMENT_BYTES_MAX, DocumentWrite, Store, StoreError};
use holdfast_types::{Name, Text};
use std::future::Future;
use tokio::sync::oneshot;

/// Reads what was committed. The state of a module is written with the turn that made it ([`crate::Turn`]).
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

    /// Writes a value of its own, that no message belongs to; none deletes it. Writes are recorded in the order of the
    /// calls; the answer comes when it is on disk. Dropping the answer does not take the write back.
    pub fn write(
        &self,
        space: &str,
        key: &str,
        value: Option<Bytes>,
    ) -> impl Future<Output = Result<(), Refused>> + Send + use<> {
        self.write_all(space, vec![(key.into(), value)])
    }

    /// Writes several values of one space, all of them or none.
    pub fn write_all(
        &self,
        space: &str,
        values: Vec<(Text, Option<Bytes>)>,
    ) -> impl Future<Output = Result<(), Refused>> + Send + use<> {
        let (answer, wait) = oneshot::channel();
        let space = Text::from(space);
        let documents = values
            .into_iter()
            .map(|(key, value)| DocumentWrite { space: space.clone(), key, value })
            .collect();
        self.0.commit_when_room(Commit { documents, ..Commit::default() }, move |result| {
            let result = match result {
                Ok(_) => Ok(()),
                Err(CommitError::Closed) => Err(Refused::Stopping),
                Err(error) if error.is_permanent() => Err(Refused::CannotBeRecorded(error.to_string())),
                Err(error) => Err(Refused::NotRecorded(error.to_string())),
            };
            // One who no longer waits is no fault: the record stands.
            let _ = answer.send(result);
        });
        async move { wait.await.unwrap_or(Err(Refused::Stopping)) }
    }
}
