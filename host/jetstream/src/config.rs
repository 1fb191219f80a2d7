//! What the storage is told, and why it cannot be used.

use std::{path::PathBuf, time::Duration};

/// Where the servers are, and how they keep what they are given.
#[derive(Clone, Debug)]
pub struct JetStreamConfig {
    /// Servers of one cluster: `nats://host:4222`, or `tls://host:4222`. One that answers is enough.
    pub servers: Vec<String>,
    /// Who this hub is.
    pub user: Option<User>,
    /// The authority to trust with `tls://` (PEM); none is those of the system.
    pub ca_file: Option<PathBuf>,
    /// Certificate chain and private key (PEM) of this hub.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// How many servers keep each message: 1, 3 or 5.
    pub replicas: usize,
    /// What the names of streams and subjects begin with, so that several fleets may share a cluster.
    pub prefix: String,
    /// How long telemetry is kept; none is as long as there is room.
    pub age_max: Option<Duration>,
    /// Most bytes of telemetry; none is what the servers have.
    pub bytes_max: Option<u64>,
    /// A log of documents with fewer messages than this is not worth a snapshot.
    pub snapshot_after: u64,
}

/// What is usual for [`JetStreamConfig::snapshot_after`]: a process that starts reads so many messages in seconds.
pub const SNAPSHOT_AFTER: u64 = 10_000;

/// A user of the servers. `Debug` hides the password.
#[derive(Clone)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why the cluster cannot be used as a storage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// An address cannot be one.
    #[error(
        "{server:?} is no address of a NATS server ({why}); write for example nats://nats-1.example:4222"
    )]
    Address {
        /// As it was given.
        server: String,
        /// What is wrong.
        why: String,
    },
    /// No server answers.
    #[error("no NATS server answers at {servers}: {why}; start one, or correct storage.servers")]
    NoServer {
        /// Where.
        servers: String,
        /// What was tried last.
        why: String,
    },
    /// The servers do not let this hub in.
    #[error("the NATS server does not let this hub in; correct storage.user and storage.password_file")]
    NotLetIn,
    /// TLS failed.
    #[error(
        "no encrypted connection to {servers}: {why}; is storage.ca_file the authority of the servers, and do they trust that of storage.cert_file?"
    )]
    Tls {
        /// Where.
        servers: String,
        /// What failed.
        why: String,
    },
    /// The server is too old.
    #[error("the NATS server has version {found}, 2.9 is needed; update it")]
    TooOld {
        /// Its version.
        found: String,
    },
    /// The server is too old to keep more than one copy.
    #[error(
        "the NATS server has version {found}, 2.11 is needed for more than one copy: those of older ones (seen with 2.9) can come apart when a server dies; update all servers, or set storage.replicas = 1"
    )]
    TooOldForCopies {
        /// Its version.
        found: String,
    },
    /// JetStream is off.
    #[error(
        "JetStream is not enabled on the NATS servers ({0}); add jetstream {{ store_dir = … }} to their configuration"
    )]
    NoJetStream(String),
    /// Too few servers of the cluster are there.
    #[error("the NATS servers have no quorum: {0}; start the others, more than half of them must run")]
    NoQuorum(String),
    /// A stream cannot be made or changed.
    #[error(
        "the stream {name} cannot be made or changed: {why}; storage.replicas needs as many servers with JetStream and room on their disks"
    )]
    Stream {
        /// Which.
        name: String,
        /// What the server says.
        why: String,
    },
    /// What is stored cannot be read.
    #[error("what is stored in {name} cannot be read: {why}")]
    Unreadable {
        /// In which stream.
        name: String,
        /// What is wrong.
        why: String,
    },
}
