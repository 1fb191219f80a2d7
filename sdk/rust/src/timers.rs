//! Timers. They last as long as the instance: set them anew in [`crate::Module::start`].

use crate::{Failure, imports};
use std::{fmt, time::Duration};

/// Why a timer was not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimerError {
    /// More timers than the limit, which is given.
    TooMany(u32),
    /// The time is shorter than the shortest allowed, which is given in milliseconds.
    TooShort(u32),
    /// The time is longer than a timer can hold: 4,294,967,295 ms, which is 49 days.
    TooLong,
}

/// Calls [`crate::Module::fire`] with `name` once, `delay` from now. Setting a name again replaces the timer. Parts of
/// a millisecond are left off.
pub fn once(name: &str, delay: Duration) -> Result<(), TimerError> {
    imports::set_once(name, millis(delay)?)
}

/// Calls [`crate::Module::fire`] with `name` each `period`. A late call is not made up for.
pub fn every(name: &str, period: Duration) -> Result<(), TimerError> {
    imports::set_repeating(name, millis(period)?)
}

/// Ends a timer; an unknown name is no error.
pub fn cancel(name: &str) {
    imports::cancel(name);
}

fn millis(time: Duration) -> Result<u32, TimerError> {
    u32::try_from(time.as_millis()).map_err(|_| TimerError::TooLong)
}

impl fmt::Display for TimerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany(max) => {
                write!(f, "more than {max} timers; cancel one, or let one serve for several things")
            }
            Self::TooShort(min) => write!(f, "the time of the timer is shorter than {min} ms; give it more"),
            Self::TooLong => write!(f, "the time of the timer is longer than 49 days; give it less"),
        }
    }
}

impl std::error::Error for TimerError {}

/// A timer that was refused may be taken later, when others have ended.
impl From<TimerError> for Failure {
    fn from(error: TimerError) -> Self {
        Self::retry(error)
    }
}
