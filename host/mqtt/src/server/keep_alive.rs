//! How long a client may be silent.

use std::time::{Duration, Instant};

/// The keep alive check: a client that is silent for one and a half times its keep alive is gone (MQTT-3.1.2-24 in
/// version 3.1.1, MQTT-3.1.2-22 in version 5).
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    longest: Option<Duration>,
    heard: Instant,
}

impl KeepAlive {
    /// A check for a client that announced `seconds`; 0 turns it off.
    pub fn new(seconds: u16, now: Instant) -> Self {
        let longest = (seconds > 0).then(|| Duration::from_millis(u64::from(seconds) * 1500));
        Self { longest, heard: now }
    }

    /// Bytes came from the client, or the client was not listened to until now.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// When the client's time is over, unless it is heard before.
    pub fn deadline(&self) -> Option<Instant> {
        self.longest.and_then(|longest| self.heard.checked_add(longest))
    }
}
