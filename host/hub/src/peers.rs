//! Other processes of the same hub: what one asks another, where the storage is shared.
//!
//! A device is connected to one process. Whoever else wants something of it asks the one that attends to it. The questions
//! are JSON: `{"ask":"method",…}`, `{"ask":"yield"}`, `{"ask":"present",…}`.

use bytes::Bytes;
use holdfast_types::Name;
use std::{future::Future, pin::Pin, time::Duration};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::DropGuard;

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskFault {
    /// No process attends to the device.
    #[error("it is connected to no hub process")]
    Nobody,
    /// The process did not answer in time.
    #[error("the hub process that it is connected to did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The question did not reach anybody.
    #[error("the other hub processes cannot be asked: {0}")]
    Failed(String),
}

/// An answer of another process.
pub type Asked<'a> = Pin<Box<dyn Future<Output = Result<Bytes, AskFault>> + Send + 'a>>;

/// That this process attends to a device, until it is dropped.
#[derive(Debug)]
pub struct Attendance {
    _until: DropGuard,
}

impl Attendance {
    /// Ends what the guard guards with it.
    pub fn new(until: DropGuard) -> Self {
        Self { _until: until }
    }
}

/// A question of another process.
#[derive(Debug)]
pub struct Question {
    /// About whom.
    pub device: Name,
    /// What is asked.
    pub body: Bytes,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Bytes>,
}

/// The other processes of the same hub.
pub trait Peers: Send + Sync + 'static {
    /// From now on this process answers for a device.
    fn attend(&self, device: &Name) -> Attendance;

    /// Asks the process that attends to a device.
    fn ask(&self, device: &Name, body: Bytes, within: Duration) -> Asked<'_>;

    /// What others ask this process; once.
    fn questions(&self) -> Option<mpsc::Receiver<Question>>;
}
