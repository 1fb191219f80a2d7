//! Connections that have not said who they are.
//!
//! They have a bound of their own, so that strangers who say nothing keep nobody out: when it is reached, the one that
//! has waited longest makes room for the newest.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio_util::sync::CancellationToken;

/// The connections that wait to be greeted.
pub(crate) struct Lobby {
    max: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// By the order in which they came.
    places: BTreeMap<u64, CancellationToken>,
    came: u64,
}

/// A connection's place; given back when dropped.
pub(crate) struct Place {
    lobby: Arc<Lobby>,
    number: u64,
    /// Cancelled when a newer connection needs the place.
    pub(crate) pushed_out: CancellationToken,
}

impl Lobby {
    pub(crate) fn new(max: usize) -> Self {
        Self { max: max.max(1), waiting: Mutex::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection in, for the oldest one if need be.
    pub(crate) fn enter(self: &Arc<Self>) -> Place {
        let mut waiting = self.waiting();
        while waiting.places.len() >= self.max {
            let Some((_, oldest)) = waiting.places.pop_first() else { break };
            oldest.cancel();
        }
        waiting.came += 1;
        let (number, pushed_out) = (waiting.came, CancellationToken::new());
        waiting.places.insert(number, pushed_out.clone());
        Place { lobby: self.clone(), number, pushed_out }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lobby.waiting().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_and_a_place_that_was_left_is_free() {
        let lobby = Arc::new(Lobby::new(2));
        let (first, second) = (lobby.enter(), lobby.enter());
        drop(first);
        let third = lobby.enter();
        assert!(!second.pushed_out.is_cancelled());
        let fourth = lobby.enter();
        assert!(second.pushed_out.is_cancelled() && !third.pushed_out.is_cancelled());
        drop((second, third, fourth));
        assert!(lobby.waiting().places.is_empty());
    }
}
