//! Connections that have not said who they are.
//!
//! They have a bound of their own, so that strangers who say nothing keep nobody out: when it is reached, the one that
//! has waited longest makes room for the newest. One address has a share of it, so that one machine pushes out only its own.
//!
//! When many come at once that all have something to say, pushing out would waste their handshakes, and they would come again
//! and push out others. So nobody makes room for another address before it had a while; until then newcomers wait where the
//! system keeps them. Who takes the place of its own address has no more of that while than is left of it: an address that
//! comes again and again would be young for ever.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// How long a place is kept for who has it: as many handshakes as there are places, on a slow machine. Strangers who hold all
/// places, and take each that is free, slow newcomers down to as many in this time.
const KEPT: Duration = Duration::from_secs(2);

/// The connections that wait to be greeted.
pub(crate) struct Lobby {
    max: usize,
    per_address_max: usize,
    waiting: Mutex<Waiting>,
    /// Rung when a place is given back.
    left: Notify,
}

#[derive(Default)]
struct Waiting {
    /// By the order in which they came: from where, until when they are kept, and what pushes them out.
    places: BTreeMap<u64, (IpAddr, Instant, CancellationToken)>,
    /// The numbers of those that come from one address.
    of_address: HashMap<IpAddr, BTreeSet<u64>>,
    came: u64,
}

/// A connection's place; given back when dropped.
pub(crate) struct Place {
    lobby: Arc<Lobby>,
    number: u64,
    /// Cancelled when a newer connection needs the place.
    pub(crate) pushed_out: CancellationToken,
}

/// Whose place a newcomer took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    Nobody,
    /// The oldest of all.
    Oldest,
    /// The oldest that came from the same address.
    OfSameAddress,
}

impl Lobby {
    pub(crate) fn new(max: usize, per_address_max: usize) -> Self {
        let (max, per_address_max) = (max.max(1), per_address_max.max(1));
        Self { max, per_address_max, waiting: Mutex::default(), left: Notify::new() }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is a place for a connection, if need be that of one who had it long enough.
    pub(crate) async fn has_place(&self, peer: IpAddr) {
        loop {
            let mut left = std::pin::pin!(self.left.notified());
            left.as_mut().enable();
            let Some(until) = self.waiting().full_until(self.max, self.per_address_max, network(peer)) else {
                return;
            };
            tokio::select! {
                () = left => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// Lets a connection in, for an older one if need be.
    pub(crate) fn enter(self: &Arc<Self>, peer: IpAddr) -> (Place, Pushed) {
        let from = network(peer);
        let mut waiting = self.waiting();
        let of_same = waiting.of_address.get(&from).filter(|same| same.len() >= self.per_address_max);
        let (leaves, pushed) = match of_same.and_then(BTreeSet::first) {
            Some(number) => (Some(*number), Pushed::OfSameAddress),
            None if waiting.places.len() >= self.max => (waiting.first(), Pushed::Oldest),
            None => (None, Pushed::Nobody),
        };
        let mut until = Instant::now() + KEPT;
        if let Some((_, before, token)) = leaves.and_then(|number| waiting.remove(number)) {
            token.cancel();
            if pushed == Pushed::OfSameAddress {
                until = before;
            }
        }
        waiting.came += 1;
        let (number, pushed_out) = (waiting.came, CancellationToken::new());
        waiting.places.insert(number, (from, until, pushed_out.clone()));
        waiting.of_address.entry(from).or_default().insert(number);
        (Place { lobby: self.clone(), number, pushed_out }, pushed)
    }
}

impl Waiting {
    /// Until when there is no place for one from there; none if there is one. Who has the share of an address makes its own room.
    fn full_until(&self, max: usize, per_address_max: usize, from: IpAddr) -> Option<Instant> {
        let is_over = self.of_address.get(&from).is_some_and(|same| same.len() >= per_address_max);
        if self.places.len() < max || is_over {
            return None;
        }
        let (_, until, _) = self.places.get(&self.first()?)?;
        (*until > Instant::now()).then_some(*until)
    }

    /// Who makes room first.
    fn first(&self) -> Option<u64> {
        let first = self.places.iter().min_by_key(|(number, (_, until, _))| (*until, **number));
        first.map(|(number, _)| *number)
    }

    fn remove(&mut self, number: u64) -> Option<(IpAddr, Instant, CancellationToken)> {
        let (from, until, token) = self.places.remove(&number)?;
        if let Some(same) = self.of_address.get_mut(&from) {
            same.remove(&number);
            if same.is_empty() {
                self.of_address.remove(&from);
            }
        }
        Some((from, until, token))
    }
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
        self.lobby.waiting().remove(self.number);
        self.lobby.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_and_a_place_that_was_left_is_free() {
        let lobby = Arc::new(Lobby::new(2, 2));
        let mut last = 0_u8;
        let mut enter = || {
            last += 1;
            lobby.enter([10, 0, 0, last].into())
        };
        let ((first, _), (second, _)) = (enter(), enter());
        drop(first);
        let (third, pushed) = enter();
        assert!(!second.pushed_out.is_cancelled() && pushed == Pushed::Nobody);
        let (fourth, pushed) = enter();
        assert!(second.pushed_out.is_cancelled() && !third.pushed_out.is_cancelled());
        assert_eq!(pushed, Pushed::Oldest);
        drop((second, third, fourth));
        assert!(lobby.waiting().places.is_empty() && lobby.waiting().of_address.is_empty());
    }

    #[tokio::test]
    async fn nobody_makes_room_for_another_before_it_had_a_while() {
        let lobby = Arc::new(Lobby::new(2, 2));
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let at_once =
            async |last: u8| tokio::time::timeout(Duration::ZERO, lobby.has_place(address(last))).await;
        let begun = Instant::now();
        let (first, _) = lobby.enter(address(1));
        assert!(at_once(2).await.is_ok());
        let (second, _) = lobby.enter(address(2));
        assert!(at_once(3).await.is_err());
        lobby.has_place(address(3)).await;
        assert!(begun.elapsed() >= KEPT, "it waited for the first one to have had its while");
        let (third, pushed) = lobby.enter(address(3));
        assert!(first.pushed_out.is_cancelled() && pushed == Pushed::Oldest);
        drop(second);
        assert!(at_once(4).await.is_ok(), "a place that was left is free at once");
        let (_fourth, pushed) = lobby.enter(address(4));
        assert!(!third.pushed_out.is_cancelled() && pushed == Pushed::Nobody);
        let waits = lobby.has_place(address(5));
        let leaves = async { drop(third) };
        let before = Instant::now();
        tokio::join!(waits, leaves);
        assert!(before.elapsed() < KEPT, "and whoever waits is told of it");
    }

    #[tokio::test]
    async fn an_address_that_comes_again_and_again_keeps_no_other_out() {
        let lobby = Arc::new(Lobby::new(4, 2));
        let (one, two, other) =
            (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]), IpAddr::from([10, 0, 0, 3]));
        let begun = Instant::now();
        let mut held: Vec<_> = [one, two, one, two].map(|from| lobby.enter(from).0).into();
        let comes_again = async {
            loop {
                held.extend([one, two].map(|from| lobby.enter(from).0));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = lobby.has_place(other) => {}
            () = comes_again => {}
        }
        assert!(begun.elapsed() < KEPT * 2, "it waited for {:?}", begun.elapsed());
        assert_eq!(lobby.enter(other).1, Pushed::Oldest);
    }

    #[test]
    fn an_address_that_has_its_share_pushes_out_its_own() {
        let lobby = Arc::new(Lobby::new(10, 2));
        let (other, _) = lobby.enter("192.0.2.1".parse().unwrap());
        for network in ["2001:db8::", "2001:db8:0:1::"] {
            let from = |host: &str| lobby.enter(format!("{network}{host}").parse().unwrap());
            let (first, second) = (from("1").0, from("2").0);
            let (third, pushed) = from("3");
            assert_eq!(pushed, Pushed::OfSameAddress);
            assert!(first.pushed_out.is_cancelled() && !second.pushed_out.is_cancelled());
            drop(third);
        }
        assert!(!other.pushed_out.is_cancelled());
    }
}
