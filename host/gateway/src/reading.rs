//! What is read from a client at once, and when the other connections are looked at before it goes on.

use crate::{connection::Client, end::End};
use bytes::BytesMut;
use std::time::{Duration, Instant};
use tokio::task::yield_now;

/// Least and most bytes asked for in one read. A connection that is quiet holds the least; one that fills its reads gets
/// twice as much, up to the most.
pub(crate) const READ_BYTES: std::ops::RangeInclusive<usize> = 512..=(64 << 10);

/// A client that was silent for this long is not in the middle of a stream of messages, and one step back costs it nothing.
const SILENCE: Duration = Duration::from_millis(100);

/// The type of PUBLISH in the first byte of a packet.
const PUBLISH: u8 = 3;

/// How a client has been read so far.
pub(crate) struct Reading {
    bytes: usize,
    last: Instant,
    /// The last read was a large one: others are to be looked at before the next.
    filled: bool,
    /// A message has come out of a silence: others are to be looked at before it.
    steps_back: bool,
}

impl Reading {
    pub(crate) fn new(now: Instant) -> Self {
        Self { bytes: *READ_BYTES.start(), last: now, filled: false, steps_back: false }
    }

    /// Makes room for the next read.
    pub(crate) fn make_room(&self, inbuf: &mut BytesMut) {
        if inbuf.capacity() - inbuf.len() < self.bytes / 2 {
            inbuf.reserve(self.bytes);
        }
    }

    /// So many bytes came. Gives how long nothing had come.
    fn took(&mut self, count: usize, now: Instant) -> Duration {
        if count >= self.bytes {
            self.bytes = (self.bytes * 2).min(*READ_BYTES.end());
        } else if count < self.bytes / 8 {
            self.bytes = (self.bytes / 2).max(*READ_BYTES.start());
        }
        self.filled = count >= READ_BYTES.end() / 2;
        now.saturating_duration_since(std::mem::replace(&mut self.last, now))
    }
}

impl Client {
    /// Takes what was read.
    ///
    /// Of connections on which something came at once the runtime looks at the last first. Whoever subscribed a moment
    /// before another publishes counts on that message all the same, so a message that comes out of a silence steps back.
    pub(crate) fn read(&mut self, read: std::io::Result<usize>) -> Result<(), End> {
        let count = match read {
            Ok(0) => return Err(End::Closed),
            Ok(count) => count,
            Err(error) => return Err(End::Broken(error)),
        };
        let now = Instant::now();
        let silence = self.reading.took(count, now);
        self.connection.heard(now);
        self.spend(0, count);
        let is_message = self.inbuf.first().is_some_and(|first| first >> 4 == PUBLISH);
        if silence >= SILENCE && is_message {
            self.reading.steps_back = true;
            return Ok(());
        }
        self.process()
    }

    /// Lets others go first where that is due.
    pub(crate) async fn step_back(&mut self) -> Result<(), End> {
        if std::mem::take(&mut self.reading.filled) {
            yield_now().await;
        }
        if std::mem::take(&mut self.reading.steps_back) {
            yield_now().await;
            return self.process();
        }
        Ok(())
    }
}
