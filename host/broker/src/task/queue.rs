//! What waits for a subscriber: messages in memory, with a bound.
//!
//! To put a message in takes no allocation of its own, and a queue whose subscriber waits holds hardly any memory: most are idle.
//! The bell is apart from the messages, so that whoever hands over many at once rings it once, when they are all there.

use super::subscriber::Published;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{sync::Notify, task::coop::cooperative};

/// How many messages are taken out under one lock: those who put messages in wait no longer than a few microseconds.
const AT_ONCE: usize = 32;

/// Room for so many messages is kept while the subscriber waits for the next one, and no more.
const ROOM_KEPT: usize = 4;

/// The messages of one subscriber, of which there is one who takes them.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    bell: Notify,
    max: usize,
    /// How many wait; read without the lock.
    len: AtomicUsize,
}

struct Waiting {
    messages: VecDeque<Published>,
    /// One of both ends is gone.
    closed: bool,
}

/// What became of a message that was put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// There is no room, or nobody who takes it.
    Refused,
    /// It waits behind others.
    Behind,
    /// It waits alone: the bell is to be rung.
    First,
}

/// Bells that are to be rung, and are when this is dropped.
#[derive(Default)]
pub(crate) struct Bells(Vec<Arc<Queue>>);

impl Bells {
    pub(crate) fn add(&mut self, queue: &Arc<Queue>) {
        self.0.push(queue.clone());
    }
}

impl Drop for Bells {
    fn drop(&mut self) {
        self.0.iter().for_each(|queue| queue.bell.notify_one());
    }
}

impl Queue {
    /// A queue for at most `max` messages.
    pub(crate) fn new(max: usize) -> Self {
        let waiting = Mutex::new(Waiting { messages: VecDeque::new(), closed: false });
        Self { waiting, bell: Notify::new(), max: max.max(1), len: AtomicUsize::new(0) }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counted(&self, waiting: &Waiting) {
        self.len.store(waiting.messages.len(), Ordering::Relaxed);
    }

    /// Puts a message in. Rings nothing.
    pub(crate) fn put(&self, message: Published) -> Put {
        let mut waiting = self.waiting();
        if waiting.closed || waiting.messages.len() >= self.max {
            // What is refused is dropped without the lock.
            drop(waiting);
            return Put::Refused;
        }
        waiting.messages.push_back(message);
        self.counted(&waiting);
        if waiting.messages.len() == 1 { Put::First } else { Put::Behind }
    }

    /// Takes the first messages, at most `max`, and no more once their bodies have `bytes` bytes. Gives the bytes of those that
    /// were taken.
    pub(crate) fn take(&self, out: &mut Vec<Published>, max: usize, bytes: usize) -> usize {
        let (mut left, mut taken) = (max, 0);
        while left > 0 && taken < bytes {
            let mut waiting = self.waiting();
            let mut now = left.min(AT_ONCE);
            while now > 0 && taken < bytes {
                let Some(message) = waiting.messages.pop_front() else { break };
                taken += message.envelope.message.body.len();
                out.push(message);
                (now, left) = (now - 1, left - 1);
            }
            self.counted(&waiting);
            if waiting.messages.is_empty() {
                break;
            }
        }
        taken
    }

    /// The first message, as soon as there is one; none when the queue is closed and empty. Cancel safe.
    pub(crate) async fn first(&self) -> Option<Published> {
        cooperative(async {
            loop {
                {
                    let mut waiting = self.waiting();
                    if let Some(message) = waiting.messages.pop_front() {
                        self.counted(&waiting);
                        return Some(message);
                    }
                    if waiting.closed {
                        return None;
                    }
                    waiting.messages.shrink_to(ROOM_KEPT);
                }
                self.bell.notified().await;
            }
        })
        .await
    }

    /// Nothing more is put in. What waits can still be taken.
    pub(crate) fn close(&self) {
        self.waiting().closed = true;
        self.bell.notify_one();
    }

    /// How many messages wait.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether one more would be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.len() < self.max
    }
}
