//! The documents in memory: what the stream of documents says, up to one of its messages.

use crate::wire::{Input, Written};
use bytes::{BufMut, Bytes, BytesMut};
use holdfast_hub::backend::{Changed, DocumentChange, Expect, Space, Stored, Write};
use holdfast_types::Text;
use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
};

/// Bits of a revision that name the batch within a message; the rest is the sequence of the message.
pub(crate) const BATCH_BITS: u32 = 8;

/// The revision of a batch.
pub(crate) fn revision(sequence: u64, batch: usize) -> u64 {
    (sequence << BATCH_BITS) | batch as u64
}

/// A document, or the memory of one that was followed and is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Document {
    revision: u64,
    /// Its place within the batch.
    place: u32,
    value: Option<Bytes>,
}

/// All documents.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// The message up to which this is all.
    pub(crate) sequence: u64,
    /// The last revision.
    pub(crate) revision: u64,
    spaces: BTreeMap<Space, BTreeMap<Text, Document>>,
    /// Followed documents by their last change.
    changes: BTreeMap<(u64, u32), (Space, Text)>,
    /// Bytes of keys and values.
    pub(crate) bytes: usize,
}

impl State {
    fn document(&self, space: Space, key: &str) -> Option<&Document> {
        self.spaces.get(&space)?.get(key)
    }

    pub(crate) fn get(&self, space: Space, key: &str) -> Option<Stored> {
        let found = self.document(space, key)?;
        Some(Stored { revision: found.revision, value: found.value.clone()? })
    }

    pub(crate) fn len(&self) -> usize {
        self.spaces.values().map(BTreeMap::len).sum()
    }

    pub(crate) fn list(
        &self,
        space: Space,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<(Text, Stored)> {
        let Some(documents) = self.spaces.get(&space) else { return Vec::new() };
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        documents
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter_map(|(key, found)| {
                Some((key.clone(), Stored { revision: found.revision, value: found.value.clone()? }))
            })
            .take(limit)
            .collect()
    }

    pub(crate) fn changes(&self, after: u64, limit: usize) -> Vec<Changed> {
        let from = (Bound::Excluded((after, u32::MAX)), Bound::Unbounded);
        let changed = |(&(revision, _), (space, key)): (&(u64, u32), &(Space, Text))| Changed {
            revision,
            space: *space,
            key: key.clone(),
        };
        self.changes.range(from).take(limit).map(changed).collect()
    }

    fn set(&mut self, space: Space, key: Text, document: Document) -> Option<Document> {
        let size =
            |key: &Text, document: &Document| key.len() + document.value.as_ref().map_or(0, Bytes::len);
        self.bytes += size(&key, &document);
        let documents = self.spaces.entry(space).or_default();
        let before = if document.value.is_none() && !space.is_followed() {
            self.bytes -= size(&key, &document);
            documents.remove(&key)
        } else {
            if space.is_followed() {
                self.changes.insert((document.revision, document.place), (space, key.clone()));
            }
            documents.insert(key.clone(), document)
        };
        if let Some(before) = &before {
            self.bytes -= size(&key, before);
            if space.is_followed() {
                self.changes.remove(&(before.revision, before.place));
            }
        }
        before
    }

    /// Takes the next message of the stream.
    pub(crate) fn apply(&mut self, sequence: u64, batches: Vec<Vec<Written>>) -> Vec<DocumentChange> {
        let mut changes = Vec::new();
        for (number, batch) in batches.into_iter().enumerate() {
            let revision = revision(sequence, number);
            for (place, Written { space, key, value }) in batch.into_iter().enumerate() {
                let place = u32::try_from(place).unwrap_or(u32::MAX);
                let before = self.set(space, key.clone(), Document { revision, place, value: value.clone() });
                changes.push(DocumentChange { revision, space, key, before: stored(before), value });
            }
            self.revision = revision;
        }
        self.sequence = sequence;
        changes
    }

    /// What is other here than in an older state.
    pub(crate) fn since(&self, older: &Self) -> Vec<DocumentChange> {
        let mut changes = Vec::new();
        for (space, documents) in &self.spaces {
            for (key, now) in documents {
                let before = older.document(*space, key);
                if before.map(|before| before.revision) != Some(now.revision) {
                    changes.push(DocumentChange {
                        revision: now.revision,
                        space: *space,
                        key: key.clone(),
                        before: stored(before.cloned()),
                        value: now.value.clone(),
                    });
                }
            }
        }
        for (space, documents) in &older.spaces {
            for (key, before) in documents {
                if before.value.is_some() && self.document(*space, key).is_none() {
                    changes.push(DocumentChange {
                        revision: self.revision,
                        space: *space,
                        key: key.clone(),
                        before: stored(Some(before.clone())),
                        value: None,
                    });
                }
            }
        }
        changes.sort_by_key(|change| change.revision);
        changes
    }

    /// Every document, in chunks of about so many bytes: space, key, revision, place, value as in a message.
    pub(crate) fn chunks(&self, bytes_max: usize) -> Vec<Bytes> {
        let (mut chunks, mut chunk) = (Vec::new(), BytesMut::new());
        let text = |out: &mut BytesMut, bytes: &[u8]| {
            out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            out.put_slice(bytes);
        };
        for (space, documents) in &self.spaces {
            for (key, document) in documents {
                text(&mut chunk, space.name().as_bytes());
                text(&mut chunk, key.as_bytes());
                chunk.put_u64(document.revision);
                chunk.put_u32(document.place);
                chunk.put_u8(document.value.is_some().into());
                document.value.iter().for_each(|value| text(&mut chunk, value));
                if chunk.len() >= bytes_max {
                    chunks.push(chunk.split().freeze());
                }
            }
        }
        if !chunk.is_empty() {
            chunks.push(chunk.freeze());
        }
        chunks
    }

    /// The state that these chunks are of; none if they are not understood.
    pub(crate) fn of_chunks(
        sequence: u64,
        revision: u64,
        chunks: impl IntoIterator<Item = Bytes>,
    ) -> Option<Self> {
        let mut state = Self { sequence, revision, ..Self::default() };
        for chunk in chunks {
            let mut input = Input(chunk);
            while !input.0.is_empty() {
                let (space, key) = (Space::of(&input.text()?)?, input.text()?);
                let (revision, place) = (input.u64()?, input.u32()?);
                let value = match input.u8()? {
                    0 => None,
                    _ => Some(Bytes::copy_from_slice(&input.bytes()?)),
                };
                state.set(space, key, Document { revision, place, value });
            }
        }
        Some(state)
    }
}

fn stored(document: Option<Document>) -> Option<Stored> {
    let document = document?;
    Some(Stored { revision: document.revision, value: document.value? })
}

/// A state with batches above it that are not stored yet.
#[derive(Default)]
pub(crate) struct Above {
    revisions: HashMap<(Space, Text), Option<u64>>,
}

impl Above {
    /// Looks whether every document is as a batch expects it, and if so puts the batch above the others.
    pub(crate) fn take(
        &mut self,
        state: &State,
        writes: &[Write],
        revision: u64,
    ) -> Result<(), (Space, Text)> {
        for (at, one) in writes.iter().enumerate() {
            let name = (one.space, one.key.clone());
            // A document that stands twice in a batch is as the batch itself has made it.
            let own =
                writes.iter().take(at).rfind(|before| before.space == one.space && before.key == one.key);
            let found = match (own, self.revisions.get(&name)) {
                (Some(own), _) => own.value.as_ref().map(|_| revision),
                (None, Some(found)) => *found,
                (None, None) => state.get(one.space, &one.key).map(|stored| stored.revision),
            };
            let as_expected = match one.expect {
                Expect::Anything => true,
                Expect::Absent => found.is_none(),
                Expect::Revision(wanted) => found == Some(wanted),
            };
            if !as_expected {
                return Err(name);
            }
        }
        for one in writes {
            self.revisions.insert((one.space, one.key.clone()), one.value.as_ref().map(|_| revision));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(space: Space, key: &str, value: Option<&str>) -> Written {
        let value = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
        Written { space, key: key.into(), value }
    }

    #[test]
    fn a_state_comes_back_from_its_chunks_with_what_is_gone() {
        let mut state = State::default();
        let first = vec![
            written(Space::Twins, "a", Some("1")),
            written(Space::Twins, "b", Some("2")),
            written(Space::Hub, "c", Some("3")),
        ];
        state.apply(1, vec![first]);
        state.apply(2, vec![vec![written(Space::Twins, "b", None)], vec![written(Space::Hub, "c", None)]]);
        let chunks = state.chunks(1);
        assert!(chunks.len() > 1);
        let again = State::of_chunks(state.sequence, state.revision, chunks).unwrap();
        assert_eq!(
            (again.bytes, again.len()),
            (state.bytes, 2),
            "only what is followed is remembered when gone"
        );
        assert_eq!(again.changes(0, 9), state.changes(0, 9));
        assert_eq!(again.changes(0, 9).len(), 2);
        assert!(again.since(&state).is_empty());
        assert!(State::of_chunks(1, 1, [Bytes::from_static(b"abc")]).is_none());
        // Who lags hears of all that is other.
        let mut lagging = State::default();
        lagging
            .apply(1, vec![vec![written(Space::Hub, "c", Some("3")), written(Space::Twins, "a", Some("0"))]]);
        let keys: Vec<_> =
            again.since(&lagging).into_iter().map(|one| (one.key.to_string(), one.value.is_some())).collect();
        assert_eq!(keys.len(), 2, "{keys:?}");
    }
}
