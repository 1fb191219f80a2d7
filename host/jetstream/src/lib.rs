//! The storage of a hub on a NATS JetStream cluster, so that several hub processes without a state of their own serve one fleet.
//!
//! What this room does: it keeps what [`holdfast_hub::backend::Backend`] asks for in three streams. Telemetry goes as one message
//! for each batch of an edge, with the marks in it (`lanes.rs`). Documents are a log that every process follows and a state in
//! memory (`documents.rs`). All else that processes have to say to one another goes over plain subjects (`peers.rs`).
//! Nothing is acknowledged before the servers say that enough of them have it.
//!
//! What it does not do: it knows neither edges nor twins, and decides nothing; it brings no server. What is on disk is the
//! business of the servers: they write to their disks now and then (`sync_interval`), so that durability is in the copies.
//!
//! | what | name |
//! |---|---|
//! | streams | `{prefix}-events`, `{prefix}-documents`, `{prefix}-snapshots` |
//! | telemetry of an edge, of devices that are connected to a process | `{prefix}.events.edge.{edge}`, `{prefix}.events.direct.{process}` |
//! | documents | `{prefix}.documents`, `{prefix}.snapshots.>` |
//! | news, questions to who attends to a device | `{prefix}.news.documents`, `{prefix}.news.events`, `{prefix}.at.{device}` |
//!
//! What stands in the messages is said in `wire.rs`.

mod cluster;
mod config;
mod documents;
mod lanes;
mod peers;
mod snapshots;
mod state;
mod stream;
mod wire;

pub use config::{JetStreamConfig, OpenError, SNAPSHOT_AFTER, User};
pub use peers::NatsPeers;

use cluster::{AGAIN, Cluster, START_TIME};
use documents::{Documents, Writer};
use futures_util::StreamExt;
use holdfast_hub::backend::{
    Answer, Appended, Backend, Batch, Changed, DocumentChange, Events, Progress, Space, Span, Stored, Write,
};
use holdfast_types::{Name, Soon, Text};
use lanes::Lanes;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// How often consumers at other processes are told that there is something new, at most.
const NEWS_EVERY: Duration = Duration::from_millis(20);

/// How long consumers of the stream wait at most before they look by themselves.
const LOOK: Duration = Duration::from_secs(2);

/// What has been done since the start, and how large it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JetStreamCounts {
    /// Messages of telemetry that were stored.
    pub messages: u64,
    /// How often one was published again because no answer came.
    pub again: u64,
    /// How often another process had written for the same edge.
    pub conflicts: u64,
    /// Documents in memory.
    pub documents: usize,
    /// Their bytes.
    pub document_bytes: usize,
}

/// The backend on a cluster. What it began ends when it is dropped.
pub struct JetStream {
    cluster: Arc<Cluster>,
    documents: Arc<Documents>,
    lanes: Arc<Lanes>,
    appended: watch::Receiver<u64>,
    peers: Arc<NatsPeers>,
    tasks: TaskTracker,
    _stop: DropGuard,
}

impl JetStream {
    /// Looks whether the servers can be used, and makes the streams that are not there.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn check(config: &JetStreamConfig) -> Soon<'_, Result<String, OpenError>> {
        Box::pin(async {
            let cluster = Cluster::open(config).await?;
            let info = cluster.client.server_info();
            Ok(format!(
                "NATS {} at {}, {} of each message",
                info.version,
                config.servers.join(", "),
                if config.replicas == 1 {
                    "one copy".to_owned()
                } else {
                    format!("{} copies", config.replicas)
                }
            ))
        })
    }

    /// Connects, and reads all documents.
    ///
    /// # Errors
    /// The cluster cannot be used; what is wrong, and what to do.
    pub fn open(config: &JetStreamConfig) -> Soon<'_, Result<Self, OpenError>> {
        Box::pin(Self::connect(config))
    }

    async fn connect(config: &JetStreamConfig) -> Result<Self, OpenError> {
        let cluster = Arc::new(Cluster::open(config).await?);
        let (documents, writer) = read(&cluster).await?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (rung, told) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (appends, appended) = watch::channel(0);
        let appends = Arc::new(appends);
        let (count, tell) = (appends.clone(), told.clone());
        let ring = Box::new(move |_| {
            count.send_modify(|count| *count += 1);
            tell.notify_one();
        });
        let lanes = Lanes::new(cluster.clone(), documents.clone(), tasks.clone(), stop.clone(), ring);
        let news = cluster.client.clone();
        let subject = format!("{}.news.documents", cluster.prefix);
        let stored = move || {
            let (news, subject) = (news.clone(), subject.clone());
            // Who does not hear of it looks by itself.
            tokio::spawn(async move { drop(news.publish(subject, Vec::new().into()).await) });
        };
        let until = stop.clone();
        tasks.spawn(async move { writer.run(until, stored).await });
        tasks.spawn(documents.clone().keep_up(rung.clone(), stop.clone()));
        tasks.spawn(lanes.clone().keep_marks());
        tasks.spawn(tell_of_events(cluster.clone(), told, stop.clone()));
        tasks.spawn(hear(cluster.clone(), rung, appends, stop.clone()));
        let peers = Arc::new(NatsPeers::new(cluster.clone(), tasks.clone(), stop.clone()));
        Ok(Self { cluster, documents, lanes, appended, peers, tasks, _stop: stop.drop_guard() })
    }

    /// The other processes on the same cluster.
    pub fn peers(&self) -> Arc<NatsPeers> {
        self.peers.clone()
    }

    /// What is counted.
    pub fn counts(&self) -> JetStreamCounts {
        let count =
            |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
        let (documents, document_bytes) = self.documents.size();
        JetStreamCounts {
            messages: count(&self.lanes.counts.messages),
            again: count(&self.lanes.counts.again),
            conflicts: count(&self.lanes.counts.conflicts),
            documents,
            document_bytes,
        }
    }

    /// Ends what is under way, and waits for it.
    pub fn close(self) -> Soon<'static, ()> {
        let Self { tasks, _stop, cluster, .. } = self;
        drop(_stop);
        tasks.close();
        Box::pin(async move {
            tasks.wait().await;
            // What is not written to the socket yet is an answer that nobody waits for.
            let _ = cluster.client.flush().await;
        })
    }
}

/// Reads all documents. Where the servers have just lost one of them the stream may be without a leader for some seconds; a hub
/// that starts then waits for that, as one does that runs.
async fn read(cluster: &Arc<Cluster>) -> Result<(Arc<Documents>, Writer), OpenError> {
    let until = Instant::now() + START_TIME;
    loop {
        match Documents::open(cluster.clone()).await {
            Err(why) if Instant::now() < until => {
                tracing::warn!(why, "what the servers hold cannot be read yet; it is tried again");
                sleep(AGAIN).await;
            }
            opened => {
                let name = || cluster.documents.name.clone();
                return opened.map_err(|why| OpenError::Unreadable { name: name(), why });
            }
        }
    }
}

/// Tells other processes that the stream has grown, not too often.
async fn tell_of_events(cluster: Arc<Cluster>, told: Arc<Notify>, stop: CancellationToken) {
    let subject = format!("{}.news.events", cluster.prefix);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = told.notified() => {}
        }
        // Who does not hear of it looks by itself.
        let _ = cluster.client.publish(subject.clone(), Vec::new().into()).await;
        sleep(NEWS_EVERY).await;
    }
}

/// Hears what other processes tell.
async fn hear(
    cluster: Arc<Cluster>,
    rung: Arc<Notify>,
    appends: Arc<watch::Sender<u64>>,
    stop: CancellationToken,
) {
    let documents = format!("{}.news.documents", cluster.prefix);
    // The client keeps the subscription over connections; it fails only when the client has ended.
    let Ok(mut news) = cluster.client.subscribe(format!("{}.news.*", cluster.prefix)).await else { return };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            message = news.next() => match message {
                Some(message) if *message.subject == *documents => rung.notify_one(),
                Some(_) => appends.send_modify(|count| *count += 1),
                None => return,
            },
            () = sleep(LOOK) => appends.send_modify(|count| *count += 1),
        }
    }
}

impl Backend for JetStream {
    fn append(&self, batch: Batch, done: Appended) {
        self.lanes.append(batch, done);
    }

    fn events(&self, from: u64, events_max: usize, bytes_max: usize) -> Answer<'_, Events> {
        Box::pin(stream::events(&self.cluster, from, events_max, bytes_max))
    }

    fn span(&self) -> Answer<'_, Span> {
        Box::pin(stream::span(&self.cluster))
    }

    fn before_end(&self, count: u64) -> Answer<'_, u64> {
        Box::pin(stream::before_end(&self.cluster, count))
    }

    fn appends(&self) -> watch::Receiver<u64> {
        self.appended.clone()
    }

    fn progress(&self, edge: &Name) -> Answer<'_, Vec<Progress>> {
        let edge = edge.clone();
        Box::pin(async move { self.lanes.progress(&edge).await })
    }

    fn is_idle(&self, edge: &Name) -> bool {
        !self.lanes.is_running(edge)
    }

    fn get(&self, space: Space, key: &str) -> Answer<'_, Option<Stored>> {
        let found = self.documents.get(space, key);
        Box::pin(async move { Ok(found) })
    }

    fn list(
        &self,
        space: Space,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Answer<'_, Vec<(Text, Stored)>> {
        let found = self.documents.list(space, prefix, after, limit);
        Box::pin(async move { Ok(found) })
    }

    fn put(&self, writes: Vec<Write>) -> Answer<'_, u64> {
        Box::pin(self.documents.put(writes))
    }

    fn changes(&self, after: u64, limit: usize) -> Answer<'_, Vec<Changed>> {
        let found = self.documents.changes(after, limit);
        Box::pin(async move { Ok(found) })
    }

    fn revision(&self) -> watch::Receiver<u64> {
        self.documents.revision()
    }

    fn heard(&self) -> Answer<'_, Option<mpsc::Receiver<Vec<DocumentChange>>>> {
        Box::pin(async move { Ok(Some(self.documents.heard().await)) })
    }

    fn fault(&self) -> Option<String> {
        self.cluster.fault()
    }
}
