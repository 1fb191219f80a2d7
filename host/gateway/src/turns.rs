//! Turns at what is slow on purpose: the check of a password.
//!
//! A few are checked at once, and of one address one after the other. Who tries passwords by the thousand therefore waits
//! behind himself, and a client that comes from elsewhere behind one check of each address at most. The thread of a check steps back
//! for all others (`strangers.rs`), so that clients that are in do not wait for a processor that tries passwords.

use crate::lobby::network;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The turns that there are. Those who wait for one are connections that have not proved who they are, and bounded as these.
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    of_address: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

/// A turn; given back when dropped.
pub(crate) struct Turn {
    /// Whether there was none free when it was asked for.
    pub(crate) waited: bool,
    _of_address: Option<OwnedSemaphorePermit>,
    _of_all: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// So many at once over all addresses.
    pub(crate) fn new(at_once: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(at_once.max(1))), of_address: Mutex::default() }
    }

    /// Waits for a turn, behind those who came before from the same address.
    pub(crate) async fn take(&self, from: IpAddr) -> Turn {
        // Nobody closes a semaphore here, so that each waits until there is a permit.
        let of_address = self.of_address(from);
        let waited = of_address.available_permits().min(self.all.available_permits()) == 0;
        let _of_address = of_address.acquire_owned().await.ok();
        Turn { waited, _of_address, _of_all: self.all.clone().acquire_owned().await.ok() }
    }

    fn of_address(&self, from: IpAddr) -> Arc<Semaphore> {
        let mut all = self.of_address.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, one| one.strong_count() > 0);
        let known = all.get(&network(from)).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let new = Arc::new(Semaphore::new(1));
            all.insert(network(from), Arc::downgrade(&new));
            new
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        pin::Pin,
        task::{Context, Poll, Waker},
    };

    fn poll_once<T>(future: &mut Pin<Box<impl Future<Output = T>>>) -> Option<T> {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn who_comes_from_elsewhere_waits_for_one_of_those_who_came_before_and_not_for_all() {
        let turns = Turns::new(1);
        let (crowd, other) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let mut first = Box::pin(turns.take(crowd));
        let first = poll_once(&mut first).expect("nobody was before it");
        let mut rest: Vec<_> = (0..100).map(|_| Box::pin(turns.take(crowd))).collect();
        assert!(rest.iter_mut().all(|one| poll_once(one).is_none()));
        let mut newcomer = Box::pin(turns.take(other));
        assert!(poll_once(&mut newcomer).is_none(), "one at a time");
        drop(first);
        let newcomer = poll_once(&mut newcomer).expect("the next turn is not the crowd's");
        assert!(rest.iter_mut().all(|one| poll_once(one).is_none()));
        drop(newcomer);
        let next: Vec<_> = rest.iter_mut().filter_map(poll_once).collect();
        assert_eq!(next.len(), 1);
        drop((next, rest));
        turns.of_address(other);
        assert_eq!(turns.of_address.lock().unwrap().len(), 1, "nobody of the crowd is left");
    }
}
