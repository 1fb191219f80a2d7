//! Methods: requests with a deadline and one reply, never stored.
//!
//! Each identity has one server, the newest; what a method does and what it answers is the server's business. A call
//! waits for a server if its caller says so, then for the reply. It is bounded in size, in time, and in how many one
//! server has in hand.

use super::broker::{Broker, Inner};
use bytes::Bytes;
use holdfast_types::{Identity, Text};
use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{Instant, timeout_at},
};

/// Most bytes of a method's payload, and of its reply: 128 KiB (IoT Hub quotas).
pub const METHOD_BYTES_MAX: usize = 128 * 1024;

/// Most characters of a method's name (IoT Hub: 100).
pub const METHOD_NAME_MAX: usize = 100;

/// Most calls that one server has in hand, answered ones not among them. One more is refused: its caller tries again.
pub const METHODS_IN_FLIGHT_MAX: usize = 16;

/// The shortest time for a reply, in seconds (IoT Hub: 5).
const RESPONSE_SECS_MIN: u64 = 5;

/// The longest time for a reply or for a connection, in seconds (IoT Hub: 300).
const SECS_MAX: u64 = 300;

/// How long a caller waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MethodTimes {
    /// For the reply: 5 to 300 s.
    pub response: Duration,
    /// For the target to be there: 0 to 300 s.
    pub connect: Duration,
}

impl Default for MethodTimes {
    /// 30 s for the reply; the target must be there.
    fn default() -> Self {
        Self { response: Duration::from_secs(30), connect: Duration::ZERO }
    }
}

/// What a method answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodReply {
    /// As the target means it; 200 is success by custom.
    pub status: i32,
    /// JSON by custom, at most [`METHOD_BYTES_MAX`].
    pub payload: Bytes,
}

/// Why a call has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// The name cannot be one.
    #[error(
        "{name:?} is no name of a method; take 1 to {METHOD_NAME_MAX} printable ASCII characters without space, `/`, \
         `?`, `#` and `+`"
    )]
    InvalidName {
        /// The name, cut.
        name: String,
    },
    /// A time is out of range.
    #[error("the {what} time of {seconds} s is out of range; take {min} to {SECS_MAX} s")]
    InvalidTime {
        /// Which.
        what: &'static str,
        /// What it is.
        seconds: u64,
        /// The least.
        min: u64,
    },
    /// The payload is too large.
    #[error("the payload of the method has {bytes} bytes, {METHOD_BYTES_MAX} are allowed; send a reference")]
    PayloadTooLarge {
        /// How many it has.
        bytes: usize,
    },
    /// The reply was too large. The method has run.
    #[error("the reply of {target} has {bytes} bytes, {METHOD_BYTES_MAX} are allowed; the method has run")]
    ReplyTooLarge {
        /// Whose.
        target: Identity,
        /// How many it has.
        bytes: usize,
    },
    /// Nobody serves methods there.
    #[error(
        "{target} is not connected, or serves no methods; try again when it is there, or give a connect time"
    )]
    NotConnected {
        /// Who.
        target: Identity,
    },
    /// It has as many calls in hand as it may.
    #[error("{target} has {METHODS_IN_FLIGHT_MAX} method calls in hand, the most that it may; try again")]
    Busy {
        /// Who.
        target: Identity,
    },
    /// No reply in time. The method may run, or have run.
    #[error("{target} did not answer {name} within {seconds} s; it may have run")]
    TimedOut {
        /// Who.
        target: Identity,
        /// The method.
        name: Text,
        /// The time.
        seconds: u64,
    },
    /// The target went away with the call in hand. The method may have run.
    #[error("{target} went away before it answered {name}; it may have run")]
    Gone {
        /// Who.
        target: Identity,
        /// The method.
        name: Text,
    },
}

impl MethodError {
    /// The status as IoT Hub gives it.
    pub const fn status(&self) -> u16 {
        match self {
            Self::InvalidName { .. } | Self::InvalidTime { .. } => 400,
            Self::NotConnected { .. } => 404,
            Self::PayloadTooLarge { .. } | Self::ReplyTooLarge { .. } => 413,
            Self::Busy { .. } => 429,
            Self::TimedOut { .. } | Self::Gone { .. } => 504,
        }
    }
}

/// Another way to methods than those who serve them here.
pub trait MethodWay: Send + Sync + 'static {
    /// Calls a method; none if this is no way to the target.
    fn call(&self, target: &Identity, name: &str, payload: Bytes, times: MethodTimes) -> Option<WayAnswer>;
}

/// What a method answers that is called another way.
pub type WayAnswer = Pin<Box<dyn Future<Output = Result<MethodReply, MethodError>> + Send>>;

/// Calls methods and serves them. Clones mean the same.
#[derive(Clone)]
pub struct Methods(Arc<Inner>);

impl Broker {
    /// The methods.
    pub fn methods(&self) -> Methods {
        Methods(self.inner.clone())
    }
}

/// Who serves methods now.
#[derive(Default)]
pub(crate) struct Servers {
    serving: Mutex<HashMap<Identity, Serving>>,
    numbers: AtomicU64,
    came: Notify,
    /// To whom those are behind that nobody serves here.
    way: RwLock<Option<Arc<dyn MethodWay>>>,
}

#[derive(Clone)]
struct Serving {
    number: u64,
    calls: mpsc::Sender<MethodCall>,
    in_hand: Arc<Semaphore>,
}

impl Servers {
    fn serving(&self) -> MutexGuard<'_, HashMap<Identity, Serving>> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, who: &Identity) -> Option<Serving> {
        self.serving().get(who).cloned()
    }

    /// Waits for somebody who serves there.
    async fn arrival(&self, who: &Identity) -> Serving {
        loop {
            let mut came = std::pin::pin!(self.came.notified());
            came.as_mut().enable();
            if let Some(serving) = self.of(who) {
                return serving;
            }
            came.await;
        }
    }
}

impl Methods {
    /// Serves the methods of an identity from now on, in the place of whoever did. Calls that the one before has not
    /// taken are answered as gone; those that it has taken it may still answer.
    pub fn serve(&self, who: &Identity) -> MethodServer {
        let (calls, receiver) = mpsc::channel(METHODS_IN_FLIGHT_MAX);
        let number = self.0.servers.numbers.fetch_add(1, Ordering::Relaxed);
        let serving = Serving { number, calls, in_hand: Arc::new(Semaphore::new(METHODS_IN_FLIGHT_MAX)) };
        self.0.servers.serving().insert(who.clone(), serving);
        self.0.servers.came.notify_waiters();
        MethodServer { inner: self.0.clone(), who: who.clone(), number, calls: receiver }
    }

    /// From now on methods that nobody serves here are called this way, where it is one.
    pub fn set_way(&self, way: Arc<dyn MethodWay>) {
        *self.0.servers.way.write().unwrap_or_else(PoisonError::into_inner) = Some(way);
    }

    /// Whether somebody serves methods there now.
    pub fn is_served(&self, who: &Identity) -> bool {
        self.0.servers.serving().contains_key(who)
    }

    /// Calls a method and waits for its reply. Dropping the future gives the call up; the method may run all the same.
    pub async fn call(
        &self,
        target: &Identity,
        name: &str,
        payload: Bytes,
        times: MethodTimes,
    ) -> Result<MethodReply, MethodError> {
        check(name, &payload, times)?;
        let now = Instant::now();
        if self.0.servers.of(target).is_none() {
            let way = self.0.servers.way.read().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(answer) = way.and_then(|way| way.call(target, name, payload.clone(), times)) {
                return answer.await;
            }
        }
        let serving = match self.0.servers.of(target) {
            Some(serving) => serving,
            None => timeout_at(now + times.connect, self.0.servers.arrival(target))
                .await
                .map_err(|_| MethodError::NotConnected { target: target.clone() })?,
        };
        let busy = || MethodError::Busy { target: target.clone() };
        let permit = serving.in_hand.try_acquire_owned().map_err(|_| busy())?;
        let (answer, reply) = oneshot::channel();
        let name = Text::from(name);
        let deadline = Instant::now() + times.response;
        let call = MethodCall {
            name: name.clone(),
            payload,
            deadline: deadline.into_std(),
            answer,
            _permit: permit,
        };
        let gone = || MethodError::Gone { target: target.clone(), name: name.clone() };
        let sent = serving.calls.try_send(call).map_err(|full| match full {
            mpsc::error::TrySendError::Full(_) => busy(),
            mpsc::error::TrySendError::Closed(_) => MethodError::NotConnected { target: target.clone() },
        });
        // A server that is replaced ends when nobody can send to it any more.
        drop(serving.calls);
        sent?;
        let reply = timeout_at(deadline, reply).await.map_err(|_| MethodError::TimedOut {
            target: target.clone(),
            name: name.clone(),
            seconds: times.response.as_secs(),
        })?;
        let reply = reply.map_err(|_| gone())?;
        if reply.payload.len() > METHOD_BYTES_MAX {
            return Err(MethodError::ReplyTooLarge { target: target.clone(), bytes: reply.payload.len() });
        }
        Ok(reply)
    }
}

fn check(name: &str, payload: &Bytes, times: MethodTimes) -> Result<(), MethodError> {
    let allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '?' | '#' | '+');
    if name.is_empty() || name.len() > METHOD_NAME_MAX || !name.chars().all(allowed) {
        return Err(MethodError::InvalidName { name: name.chars().take(METHOD_NAME_MAX).collect() });
    }
    if payload.len() > METHOD_BYTES_MAX {
        return Err(MethodError::PayloadTooLarge { bytes: payload.len() });
    }
    for (what, time, min) in [("response", times.response, RESPONSE_SECS_MIN), ("connect", times.connect, 0)]
    {
        if time < Duration::from_secs(min) || time > Duration::from_secs(SECS_MAX) {
            return Err(MethodError::InvalidTime { what, seconds: time.as_secs(), min });
        }
    }
    Ok(())
}

/// A call that waits for its reply. Dropping it answers that the target is gone.
#[derive(Debug)]
pub struct MethodCall {
    /// The method.
    pub name: Text,
    /// JSON by custom; may be empty.
    pub payload: Bytes,
    /// When the caller stops waiting.
    pub deadline: std::time::Instant,
    answer: oneshot::Sender<MethodReply>,
    _permit: OwnedSemaphorePermit,
}

impl MethodCall {
    /// Answers. A caller that no longer waits is no fault.
    pub fn reply(self, reply: MethodReply) {
        let _ = self.answer.send(reply);
    }

    /// Whether the caller has stopped waiting.
    pub fn is_given_up(&self) -> bool {
        self.answer.is_closed()
    }
}

/// Takes the calls of one identity.
pub struct MethodServer {
    inner: Arc<Inner>,
    who: Identity,
    number: u64,
    calls: mpsc::Receiver<MethodCall>,
}

impl MethodServer {
    /// Waits for the next call; none when a newer server has taken the place. Calls whose callers have stopped waiting
    /// are passed over. Cancel safe.
    pub async fn next(&mut self) -> Option<MethodCall> {
        while let Some(call) = self.calls.recv().await {
            if !call.is_given_up() && self.is_newest() {
                return Some(call);
            }
        }
        None
    }

    /// The next call if there is one.
    pub fn take(&mut self) -> Option<MethodCall> {
        while let Ok(call) = self.calls.try_recv() {
            if !call.is_given_up() && self.is_newest() {
                return Some(call);
            }
        }
        None
    }

    /// Whether a call waits to be taken.
    pub fn has_waiting(&self) -> bool {
        !self.calls.is_empty()
    }

    fn is_newest(&self) -> bool {
        self.inner.servers.serving().get(&self.who).is_some_and(|serving| serving.number == self.number)
    }
}

impl Drop for MethodServer {
    fn drop(&mut self) {
        let mut serving = self.inner.servers.serving();
        if serving.get(&self.who).is_some_and(|serving| serving.number == self.number) {
            serving.remove(&self.who);
        }
    }
}
