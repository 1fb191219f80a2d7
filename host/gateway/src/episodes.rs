//! Things that go on happening are logged once per episode: when they begin, and with a count when they begin again.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// An episode is over when nothing happened for this long.
const QUIET: Duration = Duration::from_secs(60);

/// An episode that goes on is mentioned again after this long.
const REMINDER: Duration = Duration::from_secs(600);

/// Episodes at once. A flood of different ones is forgotten and begins anew; memory stays bounded.
const EPISODES_MAX: usize = 1024;

#[derive(Default)]
pub(crate) struct Episodes(Mutex<HashMap<String, Episode>>);

struct Episode {
    logged: Instant,
    last: Instant,
    unlogged: u64,
}

impl Episodes {
    /// Something of this kind has happened. Gives how often it happened unlogged before, if it is to be logged now.
    pub(crate) fn log_now(&self, kind: &str, now: Instant) -> Option<u64> {
        let mut episodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(episode) = episodes.get_mut(kind) {
            let over =
                now.duration_since(episode.last) >= QUIET || now.duration_since(episode.logged) >= REMINDER;
            episode.last = now;
            if !over {
                episode.unlogged += 1;
                return None;
            }
            episode.logged = now;
            return Some(std::mem::take(&mut episode.unlogged));
        }
        if episodes.len() >= EPISODES_MAX {
            episodes.retain(|_, episode| now.duration_since(episode.last) < QUIET);
            if episodes.len() >= EPISODES_MAX {
                episodes.clear();
            }
        }
        episodes.insert(kind.to_owned(), Episode { logged: now, last: now, unlogged: 0 });
        Some(0)
    }
}

/// Logs a warning if its episode is not logged yet.
macro_rules! warn_once {
    ($episodes:expr, $kind:expr, $($fields:tt)*) => {
        if let Some(before) = $episodes.log_now($kind, std::time::Instant::now()) {
            tracing::warn!(before, $($fields)*);
        }
    };
}
pub(crate) use warn_once;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_is_logged_when_it_begins_and_again_with_a_count() {
        let (episodes, start) = (Episodes::default(), Instant::now());
        assert_eq!(episodes.log_now("a", start), Some(0));
        assert_eq!(episodes.log_now("a", start + Duration::from_secs(1)), None);
        assert_eq!(episodes.log_now("b", start + Duration::from_secs(1)), Some(0));
        assert_eq!(episodes.log_now("a", start + Duration::from_secs(59)), None);
        assert_eq!(episodes.log_now("a", start + Duration::from_secs(119)), Some(2));
        for second in (120..700).step_by(10) {
            assert_eq!(episodes.log_now("a", start + Duration::from_secs(second)), None);
        }
        assert_eq!(episodes.log_now("a", start + Duration::from_secs(720)), Some(58));
    }

    #[test]
    fn a_flood_of_different_episodes_takes_bounded_memory() {
        let (episodes, start) = (Episodes::default(), Instant::now());
        for n in 0..5000 {
            episodes.log_now(&n.to_string(), start);
        }
        assert!(episodes.0.lock().unwrap().len() <= EPISODES_MAX);
    }
}
