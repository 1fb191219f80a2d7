//! Things that go on happening are logged once per episode: when they begin, and with a count when they begin again. What has several
//! causes, as a refusal, is logged once for each of the first few: who mends one must see the next.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// An episode is over when nothing happened for this long.
const QUIET: Duration = Duration::from_secs(60);

/// An episode that goes on is mentioned again after this long.
const REMINDER: Duration = Duration::from_secs(600);

/// Episodes at once. A flood of different ones is forgotten and begins anew; memory stays bounded.
const EPISODES_MAX: usize = 1024;

/// Causes that are logged in one episode. Who makes up more of them is not heard.
const CAUSES_MAX: usize = 4;

#[derive(Default)]
pub(crate) struct Episodes(Mutex<HashMap<String, Episode>>);

struct Episode {
    logged: Instant,
    last: Instant,
    unlogged: u64,
    /// The causes that were logged, as digests.
    causes: Vec<u64>,
}

impl Episodes {
    /// Something of this kind has happened. Gives how often it happened unlogged before, if it is to be logged now.
    pub(crate) fn log_now(&self, kind: &str, now: Instant) -> Option<u64> {
        self.log_cause(kind, "", now)
    }

    /// The same for what has happened for a cause.
    pub(crate) fn log_cause(&self, kind: &str, cause: &str, now: Instant) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        cause.hash(&mut hasher);
        let cause = hasher.finish();
        let mut episodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(episode) = episodes.get_mut(kind) {
            let over =
                now.duration_since(episode.last) >= QUIET || now.duration_since(episode.logged) >= REMINDER;
            episode.last = now;
            if !over {
                if episode.causes.len() < CAUSES_MAX && !episode.causes.contains(&cause) {
                    episode.causes.push(cause);
                    return Some(0);
                }
                episode.unlogged += 1;
                return None;
            }
            episode.logged = now;
            episode.causes = vec![cause];
            return Some(std::mem::take(&mut episode.unlogged));
        }
        if episodes.len() >= EPISODES_MAX {
            episodes.retain(|_, episode| now.duration_since(episode.last) < QUIET);
            if episodes.len() >= EPISODES_MAX {
                episodes.clear();
            }
        }
        episodes
            .insert(kind.to_owned(), Episode { logged: now, last: now, unlogged: 0, causes: vec![cause] });
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

/// Logs a warning if its episode is not logged yet, or not for this cause.
macro_rules! warn_once_of {
    ($episodes:expr, $kind:expr, $cause:expr, $($fields:tt)*) => {
        if let Some(before) = $episodes.log_cause($kind, $cause, std::time::Instant::now()) {
            tracing::warn!(before, $($fields)*);
        }
    };
}
pub(crate) use warn_once_of;

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
    fn another_cause_is_logged_in_the_same_episode_and_made_up_ones_are_not() {
        let (episodes, start) = (Episodes::default(), Instant::now());
        assert_eq!(episodes.log_cause("a", "wrong key", start), Some(0));
        assert_eq!(episodes.log_cause("a", "wrong key", start), None);
        assert_eq!(episodes.log_cause("a", "disabled", start), Some(0));
        let logged = (0..1000).filter(|n| episodes.log_cause("a", &n.to_string(), start).is_some());
        assert_eq!(logged.count(), CAUSES_MAX - 2);
        assert_eq!(episodes.log_cause("a", "wrong key", start + Duration::from_secs(60)), Some(999));
        assert_eq!(episodes.log_cause("a", "disabled", start + Duration::from_secs(61)), Some(0));
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
