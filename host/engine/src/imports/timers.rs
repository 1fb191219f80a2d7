//! `holdfast:module/timers`: calls of `timer-handler.fire` later or again and again.

use super::bindings::holdfast::module::timers::{Host as Timing, TimerError};
use crate::host::Host;
use std::time::{Duration, Instant};

/// The shortest time of a timer, in milliseconds: the resolution of the deadlines that bound a call.
const MS_MIN: u32 = 10;

/// The interface that a module exports to hear its timers.
pub(crate) const TIMER_HANDLER: &str = "holdfast:module/timer-handler@0.1.1";

#[derive(Debug)]
struct Timer {
    name: String,
    due: Instant,
    period: Option<Duration>,
}

/// The timers of one instance. There are few, so a list is enough.
#[derive(Debug, Default)]
pub(crate) struct TimerSet(Vec<Timer>);

impl TimerSet {
    /// When the next timer runs out.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.0.iter().map(|timer| timer.due).min()
    }

    /// Takes the timer that has been due longest. A repeating one is set to its next time after `now`: late calls are
    /// not made up for.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<String> {
        let (at, timer) = self.0.iter_mut().enumerate().min_by_key(|(_, timer)| timer.due)?;
        if timer.due > now {
            return None;
        }
        match timer.period {
            None => Some(self.0.swap_remove(at).name),
            Some(period) => {
                let late = now.duration_since(timer.due).as_nanos() % period.as_nanos().max(1);
                let late = Duration::from_nanos(u64::try_from(late).unwrap_or(0));
                timer.due = now + (period - late);
                Some(timer.name.clone())
            }
        }
    }

    fn set(
        &mut self,
        name: String,
        ms: u32,
        repeating: bool,
        max: u32,
        now: Instant,
    ) -> Result<(), TimerError> {
        if ms < MS_MIN {
            return Err(TimerError::TooShort(MS_MIN));
        }
        let span = Duration::from_millis(ms.into());
        let timer = Timer { name, due: now + span, period: repeating.then_some(span) };
        if let Some(known) = self.0.iter_mut().find(|known| known.name == timer.name) {
            *known = timer;
        } else if self.0.len() >= max as usize {
            return Err(TimerError::TooMany(max));
        } else {
            self.0.push(timer);
        }
        Ok(())
    }

    fn cancel(&mut self, name: &str) {
        self.0.retain(|timer| timer.name != name);
    }
}

impl Host {
    /// A timer too many is counted and told.
    fn told(&self, set: Result<(), TimerError>) -> Result<(), TimerError> {
        if let Err(TimerError::TooMany(most)) = set {
            self.log.refuse("limits.timers", || {
                format!("a timer was refused: {most} are allowed; raise limits.timers in the module's .toml")
            });
        }
        set
    }
}

impl Timing for Host {
    fn set_once(&mut self, name: String, delay_ms: u32) -> Result<(), TimerError> {
        let set = self.timers.set(name, delay_ms, false, self.limits.timers, Instant::now());
        self.told(set)
    }

    fn set_repeating(&mut self, name: String, period_ms: u32) -> Result<(), TimerError> {
        let set = self.timers.set(name, period_ms, true, self.limits.timers, Instant::now());
        self.told(set)
    }

    fn cancel(&mut self, name: String) {
        self.timers.cancel(&name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_repeating_timer_fires_once_and_keeps_its_beat() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = TimerSet::default();
        timers.set("beat".into(), 100, true, 2, start).unwrap();
        timers.set("once".into(), 150, false, 2, start).unwrap();
        assert_eq!(timers.take_due(at(99)), None);
        assert_eq!(timers.take_due(at(350)).as_deref(), Some("beat"));
        assert_eq!(timers.take_due(at(350)).as_deref(), Some("once"));
        assert_eq!(timers.take_due(at(350)), None);
        assert_eq!(timers.next_due(), Some(at(400)));
        timers.cancel("beat");
        assert_eq!(timers.next_due(), None);
    }

    #[test]
    fn a_timer_too_many_and_one_too_short_are_refused() {
        let mut timers = TimerSet::default();
        let now = Instant::now();
        assert!(matches!(timers.set("a".into(), 9, false, 1, now), Err(TimerError::TooShort(10))));
        timers.set("a".into(), 10, false, 1, now).unwrap();
        assert!(matches!(timers.set("b".into(), 10, false, 1, now), Err(TimerError::TooMany(1))));
        timers.set("a".into(), 500, true, 1, now).unwrap();
        assert_eq!(timers.next_due(), Some(now + Duration::from_millis(500)));
    }
}
