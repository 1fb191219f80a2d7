//! Messages passing, for people who watch.

use crate::core::decide::Decision;
use holdfast_types::Envelope;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::broadcast;

/// A message that passes, and what was decided.
#[derive(Clone, Debug)]
pub struct Passing {
    /// The message and who sent it.
    pub envelope: Arc<Envelope>,
    /// The sinks that take it, each with its route.
    pub decision: Arc<Decision>,
}

/// The watcher did not keep up; holds how many messages it has not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapLagged(pub u64);

/// Watches messages pass. A slow watcher misses some and is told how many; it never holds anything up.
pub struct Tap {
    passing: broadcast::Receiver<Passing>,
    watchers: Arc<AtomicUsize>,
}

impl Tap {
    /// Watches from now on, and is counted among those who do.
    pub(crate) fn new(all: &broadcast::Sender<Passing>, watchers: &Arc<AtomicUsize>) -> Self {
        watchers.fetch_add(1, Ordering::Relaxed);
        Self { passing: all.subscribe(), watchers: watchers.clone() }
    }

    /// The next message that passes; None when the broker is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Passing, TapLagged>> {
        match self.passing.recv().await {
            Ok(passing) => Some(Ok(passing)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Err(TapLagged(missed))),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}
