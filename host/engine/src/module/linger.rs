//! Before a module waits it looks again for a moment, if it is likely that something comes.
//!
//! To wake a task that waits can cost its sender more than the message does: the system is asked, and a processor that
//! rests has to be roused. A module that is a little faster than who feeds it would wait, and be woken, for each message.
//! So one whose last wait was short gives way a few times instead, and finds the next messages without a call of the
//! system. One that waits for long, as modules do that are fed now and then, does not: at rest this costs nothing.

use super::runner::Runner;
use std::time::{Duration, Instant as Moment};

/// How long it looks, and how short its last wait must have been: about what it costs to wait and to be woken.
const LINGER: Duration = Duration::from_micros(20);

/// Whether the last wait was a short one.
#[derive(Debug, Default)]
pub(super) struct Linger {
    is_likely: bool,
}

impl Linger {
    /// It has waited so long.
    pub(super) fn waited(&mut self, time: Duration) {
        self.is_likely = time <= LINGER;
    }
}

impl Runner {
    /// Looks for messages, and gives way to others in between. Says whether there is something to be done.
    pub(super) async fn linger(&mut self, messages_max: usize) -> bool {
        if !self.linger.is_likely {
            return false;
        }
        let began = Moment::now();
        while began.elapsed() < LINGER && !self.is_called() {
            tokio::task::yield_now().await;
            // What cannot be read is told of at the next look.
            if self.read_ready(messages_max).is_err() || !self.inbox.is_empty() {
                return true;
            }
        }
        false
    }
}
