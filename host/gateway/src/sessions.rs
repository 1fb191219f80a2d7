//! All sessions: which client is connected, which is away, and taking over.
//!
//! A session belongs to a user and a client identifier, so that no user can take over another's by using its identifier.
//! It is in one of two states: attached to one connection, or away with what the connection left. The newest connection
//! wins: it asks the one before to end and waits until that has left its session behind (MQTT-3.1.4-2, MQTT-3.1.4-3).

use crate::{
    subscriptions::{Facts, Subscriptions},
    wills::UserWill,
};
use holdfast_broker::SessionRecord;
use holdfast_mqtt::server::Session;
use holdfast_types::Name;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Whose session it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) user: Name,
    pub(crate) client_id: String,
}

/// What outlives a connection.
pub(crate) struct Kept {
    pub(crate) session: Session,
    pub(crate) subscriptions: Subscriptions,
}

enum Slot {
    Attached {
        number: u64,
        replaced: CancellationToken,
        left: CancellationToken,
        /// What an operator sees, and how long the session lives afterwards; from CONNACK on.
        facts: Option<(Arc<Facts>, Duration)>,
    },
    Away(Box<Away>),
}

struct Away {
    kept: Box<Kept>,
    expires: Instant,
    will: Option<(Instant, UserWill)>,
}

/// All sessions of the gateway.
pub(crate) struct Sessions {
    slots: Arc<Mutex<Slots>>,
    max: usize,
    /// Somebody went away, so that there is an end to wait for.
    went_away: Notify,
}

#[derive(Default)]
struct Slots {
    by_key: HashMap<Key, Slot>,
    attached: u64,
    away: usize,
}

/// There are as many sessions as may be.
#[derive(Debug)]
pub(crate) struct TooMany;

/// The hold of a connection on its session. Dropped without [`Sessions::detach`], the session ends.
pub(crate) struct Held {
    slots: Arc<Mutex<Slots>>,
    key: Key,
    number: u64,
    left: CancellationToken,
    /// Cancelled when another connection wants the session.
    pub(crate) replaced: CancellationToken,
}

/// A session taken up.
pub(crate) struct Attached {
    pub(crate) held: Held,
    /// What the connection before left; none if the session is new.
    pub(crate) kept: Option<Box<Kept>>,
    /// A will that is due because the session before has ended now.
    pub(crate) will: Option<UserWill>,
    /// A will that is not wanted any more because the client is back.
    pub(crate) unwanted: Option<UserWill>,
    /// The session before, if it has ended now.
    pub(crate) ended: Option<Box<Kept>>,
}

impl Sessions {
    pub(crate) fn new(max: usize) -> Self {
        Self { slots: Arc::default(), max, went_away: Notify::new() }
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.slots).by_key.len()
    }

    /// Takes up the session of `key`, from a connection that has it if need be.
    pub(crate) async fn attach(&self, key: Key, clean: bool) -> Result<Attached, TooMany> {
        loop {
            let left = {
                let mut slots = lock(&self.slots);
                match slots.by_key.get(&key) {
                    Some(Slot::Attached { replaced, left, .. }) => {
                        replaced.cancel();
                        left.clone()
                    }
                    None if slots.by_key.len() >= self.max => return Err(TooMany),
                    None | Some(Slot::Away(_)) => return Ok(self.take(&mut slots, key, clean)),
                }
            };
            left.cancelled().await;
        }
    }

    fn take(&self, slots: &mut Slots, key: Key, clean: bool) -> Attached {
        slots.attached += 1;
        let number = slots.attached;
        let (replaced, left) = (CancellationToken::new(), CancellationToken::new());
        let slot = Slot::Attached { number, replaced: replaced.clone(), left: left.clone(), facts: None };
        let before = slots.by_key.insert(key.clone(), slot);
        let held = Held { slots: self.slots.clone(), key, number, left, replaced };
        let Some(Slot::Away(away)) = before else {
            return Attached { held, kept: None, will: None, unwanted: None, ended: None };
        };
        let Away { kept, expires, will } = *away;
        slots.away -= 1;
        let will = will.map(|(_, will)| will);
        if clean || expires <= Instant::now() {
            return Attached { held, kept: None, will, unwanted: None, ended: Some(kept) };
        }
        Attached { held, kept: Some(kept), will: None, unwanted: will, ended: None }
    }

    /// Leaves a session behind for `expiry`, with a will that comes later unless the client comes back.
    pub(crate) fn detach(
        &self,
        held: Held,
        kept: Box<Kept>,
        expiry: Duration,
        will: Option<(Instant, UserWill)>,
    ) {
        let expires = Instant::now() + expiry;
        {
            let mut slots = lock(&self.slots);
            if is_held(&slots, &held) {
                slots.by_key.insert(held.key.clone(), Slot::Away(Box::new(Away { kept, expires, will })));
                slots.away += 1;
            }
        }
        self.went_away.notify_one();
        held.left.cancel();
    }

    /// Says what an operator is to see of a session that is held, and how long it lives after its connection.
    pub(crate) fn introduce(&self, held: &Held, of: Arc<Facts>, expiry: Duration) {
        let mut slots = lock(&self.slots);
        if let Some(Slot::Attached { number, facts, .. }) = slots.by_key.get_mut(&held.key)
            && *number == held.number
        {
            *facts = Some((of, expiry));
        }
    }

    /// Shows every session: whose it is, whether its client is there, and how long it lives without it.
    pub(crate) fn each<T>(
        &self,
        mut show: impl FnMut(&Key, bool, Duration, Option<&Arc<Facts>>) -> T,
    ) -> Vec<T> {
        let slots = lock(&self.slots);
        let now = Instant::now();
        let one = |(key, slot): (&Key, &Slot)| match slot {
            Slot::Attached { facts: Some((facts, expiry)), .. } => show(key, true, *expiry, Some(facts)),
            Slot::Attached { facts: None, .. } => show(key, true, Duration::ZERO, None),
            Slot::Away(away) => {
                let left = away.expires.saturating_duration_since(now);
                show(key, false, left, Some(away.kept.subscriptions.facts()))
            }
        };
        slots.by_key.iter().map(one).collect()
    }

    /// Whether one more session may be.
    pub(crate) fn has_room(&self) -> bool {
        self.len() < self.max
    }

    /// Takes in a session that was kept when the host ended. Its client is away.
    pub(crate) fn restore(&self, record: &SessionRecord, kept: Box<Kept>, left: Duration) {
        let key = Key { user: record.user.clone(), client_id: record.client_id.to_string() };
        let away = Away { kept, expires: Instant::now() + left, will: None };
        let mut slots = lock(&self.slots);
        slots.by_key.insert(key, Slot::Away(Box::new(away)));
        slots.away += 1;
        drop(slots);
        self.went_away.notify_one();
    }

    /// Gives a will that was kept to its session, to be said after `left`. Gives it back if there is no such session.
    pub(crate) fn will_later(&self, number: u32, left: Duration, will: UserWill) -> Option<UserWill> {
        let mut slots = lock(&self.slots);
        let of = |slot: &&mut Slot| match slot {
            Slot::Away(away) => away.kept.subscriptions.stored().is_some_and(|one| one.number() == number),
            Slot::Attached { .. } => false,
        };
        match slots.by_key.values_mut().find(of) {
            Some(Slot::Away(away)) => {
                away.will = Some((Instant::now() + left, will));
                None
            }
            _ => Some(will),
        }
    }

    /// A device is there no more: what it has left behind ends, and its wills come now.
    pub(crate) fn end_of(&self, user: &Name) {
        let now = Instant::now();
        for (key, slot) in &mut lock(&self.slots).by_key {
            if let (true, Slot::Away(away)) = (key.user == *user, slot) {
                away.expires = now;
            }
        }
    }

    /// Waits until at least one client is away.
    pub(crate) async fn somebody_away(&self) {
        while lock(&self.slots).away == 0 {
            self.went_away.notified().await;
        }
    }

    /// Takes out what has expired, which is to be ended, and gives the wills that are due.
    pub(crate) fn expire(&self, now: Instant) -> (Vec<UserWill>, Vec<Kept>) {
        let mut due = Vec::new();
        let mut ended = Vec::new();
        let mut slots = lock(&self.slots);
        for (key, slot) in &mut slots.by_key {
            let Slot::Away(away) = slot else { continue };
            let over = away.expires <= now;
            if over || away.will.as_ref().is_some_and(|(at, _)| *at <= now) {
                due.extend(away.will.take().map(|(_, will)| will));
            }
            if over {
                ended.push(key.clone());
            }
        }
        slots.away -= ended.len();
        let ended = ended.iter().filter_map(|key| match slots.by_key.remove(key)? {
            Slot::Away(away) => Some(*away.kept),
            Slot::Attached { .. } => None,
        });
        (due, ended.collect())
    }
}

impl Held {
    /// Whose session it is.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut slots = lock(&self.slots);
        if is_held(&slots, self) {
            slots.by_key.remove(&self.key);
        }
        drop(slots);
        self.left.cancel();
    }
}

fn is_held(slots: &Slots, held: &Held) -> bool {
    matches!(slots.by_key.get(&held.key), Some(Slot::Attached { number, .. }) if *number == held.number)
}

fn lock(slots: &Mutex<Slots>) -> MutexGuard<'_, Slots> {
    slots.lock().unwrap_or_else(PoisonError::into_inner)
}
