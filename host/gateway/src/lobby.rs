//! Connections that have not said who they are.
//!
//! They have a bound of their own, so that strangers who say nothing keep nobody out, and one address has a share of it. Who
//! finds no place waits in the line of its address.
//!
//! When many come at once that all have something to say, closing one for the next would waste its handshake, and it would
//! come again and be closed for another. So a place is kept for a while, also against others of the same address; after that
//! whoever waits may have it. Of those who wait the address that holds the fewest places is next, and it takes the place of
//! one that holds more, or its own: an address that comes by the thousand waits behind itself.
//!
//! In a line it is first come, first served. A line that does not move is served from its other end: those who have waited
//! long have given up, or never meant it. All lines together have a bound as well. Over it, whoever came last into the longest takes
//! the oldest place of its own address, however young: behind a crowd that says nothing it may be the one that means it. Only where
//! that address has no place, who has waited longest is turned away.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// How long a place is kept for who has it: as many handshakes as there are places, on a slow machine. Strangers who hold all
/// places, and take each that is free, slow newcomers down to as many in this time.
const KEPT: Duration = Duration::from_secs(2);

/// A line moves if who is served has waited for less: as long as clients that connect for real are patient.
const MOVES: Duration = Duration::from_secs(1);

/// The connections that wait to be greeted, and those that wait for a place to be.
pub(crate) struct Lobby {
    bounds: Bounds,
    inside: Mutex<Inside>,
    /// Rung when somebody lines up.
    bell: Notify,
}

#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) places: usize,
    pub(crate) places_per_address: usize,
    pub(crate) waiting: usize,
}

#[derive(Default)]
struct Inside {
    /// By the order in which they were taken.
    places: BTreeMap<u64, Taken>,
    /// The numbers of those that come from one address.
    of_address: HashMap<IpAddr, BTreeSet<u64>>,
    lines: HashMap<IpAddr, VecDeque<Waiter>>,
    waiting: usize,
    came: u64,
}

struct Taken {
    from: IpAddr,
    kept_until: Instant,
    pushed_out: CancellationToken,
}

/// Who comes in, and its place.
type Served = (oneshot::Sender<Place>, Place);

struct Waiter {
    number: u64,
    since: Instant,
    answer: oneshot::Sender<Place>,
}

/// A connection's place; given back when dropped.
pub(crate) struct Place {
    lobby: Arc<Lobby>,
    number: u64,
    /// Whose place it was.
    pub(crate) pushed: Pushed,
    /// Cancelled when another connection needs the place.
    pub(crate) pushed_out: CancellationToken,
}

/// Whose place a newcomer took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    Nobody,
    /// That of another address.
    Other,
    /// The oldest that came from the same address.
    OfSameAddress,
}

/// Who stands in a line; dropped, it has left.
struct InLine<'a> {
    lobby: &'a Lobby,
    from: IpAddr,
    number: u64,
}

impl Lobby {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let Bounds { places, places_per_address, waiting } = bounds;
        let at_least_one = Bounds {
            places: places.max(1),
            places_per_address: places_per_address.max(1),
            waiting: waiting.max(1),
        };
        Self { bounds: at_least_one, inside: Mutex::default(), bell: Notify::new() }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place. None if too many wait. Cancel safe: who does not wait any more has left the line.
    pub(crate) async fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let from = network(peer);
        let (answer, place) = oneshot::channel();
        let (number, over) = self.inside().line_up(self, from, answer);
        let _in_line = InLine { lobby: self, from, number };
        // Who has left just now gives its place back.
        over.into_iter().for_each(|(answer, place)| drop(answer.send(place)));
        self.serve();
        self.bell.notify_one();
        place.await.ok()
    }

    /// Gives the places of those who had theirs long enough to those who wait, as long as it is polled. Places that are given
    /// back need nobody for that.
    pub(crate) async fn keep(self: &Arc<Self>) {
        loop {
            let rung = self.bell.notified();
            let next_end = self.inside().next_end(Instant::now());
            match next_end {
                None => rung.await,
                Some(end) => {
                    tokio::select! {
                        () = rung => {}
                        () = sleep_until(end) => {}
                    }
                }
            }
            self.serve();
        }
    }

    /// Lets in whoever may come in now.
    fn serve(self: &Arc<Self>) {
        let served = self.inside().serve(self, Instant::now());
        for (answer, place) in served {
            // Who has left just now gives its place back.
            drop(answer.send(place));
        }
    }
}

impl Inside {
    /// Puts somebody into the line of its address. Gives its number, and who comes in because too many wait.
    fn line_up(
        &mut self,
        lobby: &Arc<Lobby>,
        from: IpAddr,
        answer: oneshot::Sender<Place>,
    ) -> (u64, Option<Served>) {
        self.came += 1;
        let number = self.came;
        self.lines.entry(from).or_default().push_back(Waiter { number, since: Instant::now(), answer });
        self.waiting += 1;
        if self.waiting <= lobby.bounds.waiting {
            return (number, None);
        }
        let first = |line: &VecDeque<Waiter>| line.front().map(|waiter| Reverse(waiter.number));
        let longest = self.lines.iter().max_by_key(|(_, line)| (line.len(), first(line)));
        let Some(longest) = longest.map(|(from, _)| *from) else { return (number, None) };
        let oldest = self.of_address.get(&longest).and_then(BTreeSet::first).copied();
        let Some(before) = oldest.and_then(|oldest| self.push_out(oldest)) else {
            // Dropped, it is told.
            self.call(longest, |_| true);
            return (number, None);
        };
        let last = self.call(longest, |_| false);
        // An address that comes again and again would else be young for ever.
        (number, last.map(|last| self.seat(lobby, longest, last, Pushed::OfSameAddress, before.kept_until)))
    }

    /// Takes somebody out of a line, from its front or from its back.
    fn call(&mut self, from: IpAddr, front: impl FnOnce(&VecDeque<Waiter>) -> bool) -> Option<Waiter> {
        let line = self.lines.get_mut(&from)?;
        let waiter = if front(line) { line.pop_front() } else { line.pop_back() };
        self.waiting -= usize::from(waiter.is_some());
        if line.is_empty() {
            self.lines.remove(&from);
        }
        waiter
    }

    fn leave_line(&mut self, from: IpAddr, number: u64) {
        let Some(line) = self.lines.get_mut(&from) else { return };
        let before = line.len();
        line.retain(|waiter| waiter.number != number);
        self.waiting -= before - line.len();
        if line.is_empty() {
            self.lines.remove(&from);
        }
    }

    fn serve(&mut self, lobby: &Arc<Lobby>, now: Instant) -> Vec<Served> {
        let mut served = Vec::new();
        while let Some((from, leaves)) = self.next(&lobby.bounds, now) {
            let pushed = match leaves.and_then(|number| self.push_out(number)) {
                Some(one) if one.from == from => Pushed::OfSameAddress,
                Some(_) => Pushed::Other,
                None => Pushed::Nobody,
            };
            let Some(waiter) = self.call(from, |line| moves(line, now)) else { break };
            served.push(self.seat(lobby, from, waiter, pushed, now + KEPT));
        }
        served
    }

    fn push_out(&mut self, number: u64) -> Option<Taken> {
        self.remove(number).inspect(|one| one.pushed_out.cancel())
    }

    fn seat(
        &mut self,
        lobby: &Arc<Lobby>,
        from: IpAddr,
        waiter: Waiter,
        pushed: Pushed,
        kept_until: Instant,
    ) -> Served {
        self.came += 1;
        let (number, pushed_out) = (self.came, CancellationToken::new());
        self.places.insert(number, Taken { from, kept_until, pushed_out: pushed_out.clone() });
        self.of_address.entry(from).or_default().insert(number);
        (waiter.answer, Place { lobby: lobby.clone(), number, pushed, pushed_out })
    }

    /// The address that is next, and whose place it takes, if there is none that is free.
    fn next(&self, bounds: &Bounds, now: Instant) -> Option<(IpAddr, Option<u64>)> {
        let is_full = self.places.len() >= bounds.places;
        let most = self.of_most(now).filter(|_| is_full);
        let one = |(from, line): (&IpAddr, &VecDeque<Waiter>)| {
            let held = self.held(*from);
            let leaves = if held >= bounds.places_per_address {
                Some(self.own(*from, now)?)
            } else if is_full {
                let of_more = most.filter(|(theirs, _)| *theirs > held).map(|(_, number)| number);
                Some(of_more.or_else(|| self.own(*from, now))?)
            } else {
                None
            };
            Some((held, line.front()?.number, *from, leaves))
        };
        let next = self.lines.iter().filter_map(one).min_by_key(|(held, number, ..)| (*held, *number));
        next.map(|(_, _, from, leaves)| (from, leaves))
    }

    /// Of those who had their while: one whose address holds most places, how many these are, and the oldest of them.
    fn of_most(&self, now: Instant) -> Option<(usize, u64)> {
        let had_theirs = self.places.iter().filter(|(_, one)| one.kept_until <= now);
        let most = had_theirs.map(|(number, one)| (self.held(one.from), Reverse(*number))).max();
        most.map(|(held, Reverse(number))| (held, number))
    }

    /// The oldest from there that had its while.
    fn own(&self, from: IpAddr, now: Instant) -> Option<u64> {
        let had_its = |number: &&u64| self.places.get(number).is_some_and(|one| one.kept_until <= now);
        self.of_address.get(&from)?.iter().find(had_its).copied()
    }

    fn held(&self, from: IpAddr) -> usize {
        self.of_address.get(&from).map_or(0, BTreeSet::len)
    }

    /// When the next place has been kept long enough, if that concerns anybody.
    fn next_end(&self, now: Instant) -> Option<Instant> {
        if self.waiting == 0 {
            return None;
        }
        self.places.values().map(|one| one.kept_until).filter(|until| *until > now).min()
    }

    fn remove(&mut self, number: u64) -> Option<Taken> {
        let taken = self.places.remove(&number)?;
        if let Some(same) = self.of_address.get_mut(&taken.from) {
            same.remove(&number);
            if same.is_empty() {
                self.of_address.remove(&taken.from);
            }
        }
        Some(taken)
    }
}

fn moves(line: &VecDeque<Waiter>, now: Instant) -> bool {
    line.front().is_none_or(|first| now.saturating_duration_since(first.since) < MOVES)
}

/// What one machine can choose freely does not tell machines apart: the lower half of an address of IPv6.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.lobby.inside().remove(self.number).is_some() {
            self.lobby.serve();
        }
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.lobby.inside().leave_line(self.from, self.number);
    }
}

#[cfg(test)]
mod tests;
