//! Messages passing, for people who watch.

use crate::core::decide::Decision;
use holdfast_types::Envelope;
use std::sync::Arc;
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
pub struct Tap(pub(crate) broadcast::Receiver<Passing>);

impl Tap {
    /// The next message that passes; None when the broker is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Passing, TapLagged>> {
        match self.0.recv().await {
            Ok(passing) => Some(Ok(passing)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Err(TapLagged(missed))),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
