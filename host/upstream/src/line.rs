//! What passes between a connection and those who ask and are asked over it.
//!
//! The task of the connection neither waits for anybody here nor is called back: it takes packets out, and puts in what has
//! come. All of it belongs to one connection: with it go questions without an answer, and what nobody has taken yet.

use holdfast_mqtt::Publish;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

/// How long an answer may take: a hub that is overrun, and a path that is slow.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The connection ended before it came.
    Disconnected,
    /// It did not come within [`ANSWER_WITHIN`].
    TimedOut,
}

/// `I` is what the other side asks for, `A` its answer to a question, `X` what else is known of the connection.
pub(crate) struct Line<I, A, X> {
    state: Mutex<State<I, A, X>>,
    /// Something is to be sent.
    pub(crate) to_send: Notify,
    /// The box has something, or the line was opened or closed.
    changed: Notify,
}

struct State<I, A, X> {
    phase: Phase,
    out: VecDeque<Publish>,
    waiting: HashMap<u64, oneshot::Sender<A>>,
    /// Never used twice while the process lives, so that a late answer of an old connection meets nobody.
    next: u64,
    inbox: VecDeque<I>,
    known: X,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Before,
    Open,
    Closed,
}

impl<I, A, X: Default> State<I, A, X> {
    fn new(phase: Phase, next: u64) -> Self {
        Self {
            phase,
            out: VecDeque::new(),
            waiting: HashMap::new(),
            next,
            inbox: VecDeque::new(),
            known: X::default(),
        }
    }
}

impl<I, A, X: Default> Default for Line<I, A, X> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State::new(Phase::Before, 0)),
            to_send: Notify::new(),
            changed: Notify::new(),
        }
    }
}

impl<I, A, X: Default> Line<I, A, X> {
    fn state(&self) -> MutexGuard<'_, State<I, A, X>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection is about to be made.
    pub(crate) fn begin(&self) {
        let mut state = self.state();
        *state = State::new(Phase::Before, state.next);
    }

    /// From here on it may be asked.
    pub(crate) fn open(&self) {
        self.state().phase = Phase::Open;
        self.changed.notify_waiters();
    }

    /// The connection has ended: nobody gets an answer any longer.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        *state = State::new(Phase::Closed, state.next);
        drop(state);
        self.changed.notify_waiters();
    }

    /// What else is known of the connection.
    pub(crate) fn known<R>(&self, look: impl FnOnce(&mut X) -> R) -> R {
        look(&mut self.state().known)
    }

    /// Waits until the line is opened; false if it is closed instead.
    pub(crate) async fn is_opened(&self) -> bool {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            match self.state().phase {
                Phase::Before => {}
                Phase::Open => return true,
                Phase::Closed => return false,
            }
            changed.await;
        }
    }

    /// Waits until the line is closed.
    pub(crate) async fn closed(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.state().phase == Phase::Closed {
                return;
            }
            changed.await;
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state().phase == Phase::Open
    }

    /// Asks the other side and waits for its answer; the question has the number that it is made with.
    pub(crate) async fn ask(&self, question: impl FnOnce(u64) -> Publish) -> Result<A, NoAnswer> {
        let (send, answer) = oneshot::channel();
        let number = {
            let mut state = self.state();
            if state.phase != Phase::Open {
                return Err(NoAnswer::Disconnected);
            }
            state.next += 1;
            let number = state.next;
            state.waiting.insert(number, send);
            state.out.push_back(question(number));
            number
        };
        self.to_send.notify_one();
        match timeout(ANSWER_WITHIN, answer).await {
            Ok(answer) => answer.map_err(|_| NoAnswer::Disconnected),
            Err(_) => {
                self.state().waiting.remove(&number);
                Err(NoAnswer::TimedOut)
            }
        }
    }

    /// An answer has come. One that nobody waits for is passed over.
    pub(crate) fn answered(&self, number: u64, answer: A) {
        if let Some(waiting) = self.state().waiting.remove(&number) {
            // One who no longer waits has given up.
            let _ = waiting.send(answer);
        }
    }

    /// Sends what nobody waits for an answer to. After the end of the connection it goes nowhere.
    pub(crate) fn send(&self, publish: Publish) {
        let mut state = self.state();
        if state.phase == Phase::Open {
            state.out.push_back(publish);
            drop(state);
            self.to_send.notify_one();
        }
    }

    /// The next packet for the connection.
    pub(crate) fn take(&self) -> Option<Publish> {
        self.state().out.pop_front()
    }

    /// It did not fit; it goes first next time.
    pub(crate) fn put_back(&self, publish: Publish) {
        self.state().out.push_front(publish);
    }

    /// The other side asks for something. It comes back if as many wait already.
    pub(crate) fn came(&self, incoming: I, waiting_max: usize) -> Result<(), I> {
        let mut state = self.state();
        if state.inbox.len() >= waiting_max {
            return Err(incoming);
        }
        state.inbox.push_back(incoming);
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    /// What the other side asks for next; none when the line is closed.
    pub(crate) async fn next(&self) -> Option<I> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let mut state = self.state();
                if let Some(incoming) = state.inbox.pop_front() {
                    return Some(incoming);
                }
                if state.phase == Phase::Closed {
                    return None;
                }
            }
            changed.await;
        }
    }
}
