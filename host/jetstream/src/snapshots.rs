//! Snapshots of the documents, so that the log of their changes may be let go.
//!
//! The stream `snapshots` keeps one message of each subject. `{prefix}.snapshots.head` says which snapshot holds:
//! `{"v":1,"sequence":…,"revision":…,"name":"…","chunks":…}`; `{prefix}.snapshots.{name}.{number}` are its chunks. The head is
//! written behind the chunks, and only if it is the one that was read before; so of two processes that write one at once
//! one loses and takes its chunks back. Chunks of the snapshot before are let go with it; who was reading it begins anew.

use crate::{
    cluster::{Cluster, Sent},
    state::State,
};
use bytes::Bytes;
use serde_json::{Value, json};

/// About the bytes of a chunk.
const CHUNK_BYTES: usize = 384 * 1024;

/// Messages of the log that stay below a snapshot, for processes that are behind by no more than that.
const LOG_KEPT: u64 = 1000;

/// How often reading begins anew when another snapshot takes the place of the one that is being read.
const TRIES_MAX: usize = 10;

struct Head {
    sequence: u64,
    revision: u64,
    name: String,
    chunks: u64,
}

fn head_subject(cluster: &Cluster) -> String {
    format!("{}.snapshots.head", cluster.prefix)
}

fn chunk_subject(cluster: &Cluster, name: &str, number: &str) -> String {
    format!("{}.snapshots.{name}.{number}", cluster.prefix)
}

async fn head(cluster: &Cluster) -> Result<Option<(u64, Head)>, String> {
    let Some((at, bytes)) = cluster.last(&cluster.snapshots, &head_subject(cluster)).await? else {
        return Ok(None);
    };
    let read: Value =
        serde_json::from_slice(&bytes).map_err(|why| format!("the head of the snapshot: {why}"))?;
    let number = |name: &str| read.get(name).and_then(Value::as_u64);
    match (
        number("v"),
        number("sequence"),
        number("revision"),
        read.get("name").and_then(Value::as_str),
        number("chunks"),
    ) {
        (Some(1), Some(sequence), Some(revision), Some(name), Some(chunks)) => {
            Ok(Some((at, Head { sequence, revision, name: name.to_owned(), chunks })))
        }
        _ => Err("the head of the snapshot is of another version; update this hub".to_owned()),
    }
}

/// The state of the newest snapshot; an empty one if there is none.
pub(crate) async fn load(cluster: &Cluster) -> Result<State, String> {
    'tries: for _ in 0..TRIES_MAX {
        let Some((_, head)) = head(cluster).await? else { return Ok(State::default()) };
        let mut chunks: Vec<Bytes> = Vec::new();
        for number in 0..head.chunks {
            let subject = chunk_subject(cluster, &head.name, &number.to_string());
            match cluster.last(&cluster.snapshots, &subject).await? {
                Some((_, chunk)) => chunks.push(chunk),
                None => continue 'tries,
            }
        }
        return State::of_chunks(head.sequence, head.revision, chunks)
            .ok_or_else(|| "a snapshot of the documents is not understood; update this hub".to_owned());
    }
    Err("the snapshot of the documents has no whole set of chunks".to_owned())
}

/// Writes a snapshot, unless a newer one is there, and lets the log before it go. Gives the sequence of the newest one.
pub(crate) async fn save(cluster: &Cluster, state: &State) -> Result<u64, String> {
    let before = head(cluster).await?;
    if let Some((_, head)) = before.as_ref().filter(|(_, head)| head.sequence >= state.sequence) {
        return Ok(head.sequence);
    }
    let name = format!("{:016x}-{:016x}", state.sequence, cluster.process);
    let chunks = state.chunks(CHUNK_BYTES);
    let count = chunks.len();
    let stored = store(cluster, &name, chunks, before.as_ref().map_or(0, |(at, _)| *at), state).await;
    if stored.is_err() {
        let mine = json!({ "filter": chunk_subject(cluster, &name, ">") });
        // What stays is let go with the next snapshot of this process.
        let _ = cluster.purge(&cluster.snapshots, &mine).await;
    }
    stored?;
    if let Some((_, head)) = before {
        cluster
            .purge(&cluster.snapshots, &json!({ "filter": chunk_subject(cluster, &head.name, ">") }))
            .await?;
    }
    // A purge up to nothing would be one of everything.
    if state.sequence > LOG_KEPT {
        cluster.purge(&cluster.documents, &json!({ "seq": state.sequence - LOG_KEPT })).await?;
    }
    tracing::info!(
        sequence = state.sequence,
        chunks = count,
        documents = state.len(),
        "a snapshot of the documents was taken"
    );
    Ok(state.sequence)
}

async fn store(
    cluster: &Cluster,
    name: &str,
    chunks: Vec<Bytes>,
    before: u64,
    state: &State,
) -> Result<(), String> {
    let head = json!({
        "v": 1, "sequence": state.sequence, "revision": state.revision, "name": name, "chunks": chunks.len(),
    });
    for (number, chunk) in chunks.into_iter().enumerate() {
        put(cluster, chunk_subject(cluster, name, &number.to_string()), 0, chunk).await?;
    }
    put(cluster, head_subject(cluster), before, head.to_string().into()).await
}

async fn put(cluster: &Cluster, subject: String, expected: u64, body: Bytes) -> Result<(), String> {
    match cluster.put(subject, expected, body).await {
        Sent::Stored(_) => Ok(()),
        Sent::Conflict => Err("another process takes a snapshot".to_owned()),
        Sent::Refused(why) | Sent::Unknown(why) => Err(why),
    }
}
