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

    /// Puts messages in, in order. Gives how many were taken, and whether the bell is to be rung. Rings nothing; what is not
    /// there is refused.
    pub(crate) fn put_all(&self, messages: &mut dyn Iterator<Item = Option<Published>>) -> (usize, bool) {
        let (mut taken, mut rings, mut more) = (0, false, true);
        while more {
            let mut waiting = self.waiting();
            for _ in 0..AT_ONCE {
                let Some(next) = messages.next() else {
                    more = false;
                    break;
                };
                let Some(message) = next else { continue };
                if !waiting.closed && waiting.messages.len() < self.max {
                    rings |= waiting.messages.is_empty();
                    waiting.messages.push_back(message);
                    taken += 1;
                }
            }
            self.counted(&waiting);
        }
        (taken, rings)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::room::{Account, Budget, Room};
    use holdfast_types::{Envelope, Message, Name, QoS, Source, Topic, UnixMillis};
    use std::{
        sync::atomic::AtomicBool,
        task::{Context, Poll, Wake, Waker},
    };

    fn message(body: usize) -> Published {
        let source = Source::Module { module: Name::new("m").unwrap(), output: None };
        let message = Message::new(vec![b'x'; body]);
        let room = Room { messages: 1, bytes: 1_000, budget: Budget::new(1_000) };
        Published {
            topic: Topic::new("t").unwrap(),
            envelope: Arc::new(Envelope { message, source, received: UnixMillis(0), hops: 0 }),
            qos: QoS::AtMostOnce,
            retain: false,
            ids: Vec::new(),
            expires: None,
            properties: None,
            shared: None,
            order: None,
            held: Arc::new(Account::new(room)).hold_anyhow(body),
        }
    }

    fn bodies(taken: &[Published]) -> Vec<usize> {
        taken.iter().map(|one| one.envelope.message.body.len()).collect()
    }

    #[test]
    fn messages_come_in_order_up_to_the_bounds_and_what_is_too_many_is_refused() {
        let queue = Queue::new(100);
        let put: Vec<Put> = (0..102).map(|n| queue.put(message(n))).collect();
        assert_eq!((put[0], put[1], put[99]), (Put::First, Put::Behind, Put::Behind));
        assert_eq!(put[100..], [Put::Refused, Put::Refused]);
        assert!((queue.len(), queue.has_room()) == (100, false));

        let mut taken = Vec::new();
        assert_eq!(queue.take(&mut taken, 4, 3), 3, "no more once there are three bytes");
        assert_eq!(queue.take(&mut taken, 50, usize::MAX), (3..53).sum::<usize>());
        assert!(bodies(&taken).into_iter().eq(0..53));
        assert!((queue.len(), queue.has_room()) == (47, true));
        assert_eq!(queue.put(message(7)), Put::Behind);
        queue.close();
        assert_eq!(queue.put(message(8)), Put::Refused);
        taken.clear();
        queue.take(&mut taken, usize::MAX, usize::MAX);
        assert!(bodies(&taken).into_iter().eq((53..100).chain([7])), "what was there before it closed");
    }

    /// Whether somebody was woken.
    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_waits_is_woken_by_the_bell_once_for_all_and_by_the_end() {
        let queue = Arc::new(Queue::new(10));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut context = Context::from_waker(&waker);
        let mut first = Box::pin(queue.first());
        assert!(first.as_mut().poll(&mut context).is_pending());
        let mut bells = Bells::default();
        for n in 1..4 {
            if queue.put(message(n)) == Put::First {
                bells.add(&queue);
            }
        }
        assert!(!woken.0.load(Ordering::Relaxed), "not before all of it is there");
        drop(bells);
        assert!(woken.0.swap(false, Ordering::Relaxed));
        let Poll::Ready(Some(one)) = first.as_mut().poll(&mut context) else { panic!("it was there") };
        assert_eq!(bodies(&[one]), [1]);
        let mut taken = Vec::new();
        queue.take(&mut taken, 9, usize::MAX);
        assert_eq!(bodies(&taken), [2, 3]);

        let mut next = Box::pin(queue.first());
        assert!(next.as_mut().poll(&mut context).is_pending());
        queue.close();
        assert!(woken.0.load(Ordering::Relaxed));
        assert!(matches!(next.as_mut().poll(&mut context), Poll::Ready(None)));
    }
}
