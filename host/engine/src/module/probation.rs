//! After a swap the new version is on probation: a failure brings the one before it back, by itself.
//!
//! Until it has made so many calls without a failure, and so much time has passed, the version before it is kept. A
//! trap, a start that fails, or a message that would become a dead letter ends the probation: the version before takes
//! over with a fresh instance and the same state, and gets the message that was in hand. The newest file is tried
//! again when it is changed or copied once more.

use super::Version;
use super::runner::{Phase, Runner};
use crate::logs::LogLevel;
use holdfast_broker::Delivery;
use std::sync::Arc;
use std::time::{Duration, Instant as Moment};

/// The version before, for as long as it may come back.
pub(super) struct Probation {
    previous: Arc<Version>,
    until: Moment,
    calls_left: u32,
}

impl Probation {
    /// The probation of `new`; none if its settings want none.
    pub(super) fn of(new: &Version, previous: Arc<Version>) -> Option<Self> {
        let wanted = new.settings.probation;
        if wanted.calls == 0 && wanted.seconds == 0 {
            return None;
        }
        let until = Moment::now() + Duration::from_secs(wanted.seconds.into());
        Some(Self { previous, until, calls_left: wanted.calls })
    }
}

impl Runner {
    /// A call has succeeded. Ends the probation that has been passed.
    pub(super) fn proves_itself(&mut self, now: Moment) {
        let Some(probation) = &mut self.probation else { return };
        probation.calls_left = probation.calls_left.saturating_sub(1);
        if probation.calls_left == 0 && now >= probation.until {
            self.probation = None;
            self.log.host(LogLevel::Info, "the new version has passed its probation");
        }
    }

    /// The module has failed. Brings the version before it back if it was on probation, with the message in hand; says
    /// whether it did.
    pub(super) fn roll_back(&mut self, in_hand: Option<&Delivery>, reason: &str) -> bool {
        let Some(Probation { previous, .. }) = self.probation.take() else { return false };
        let text = format!("the new version failed in its probation, the one before it is back: {reason}");
        self.log.host(LogLevel::Error, &text);
        self.instance = None;
        self.inbox.extend(in_hand.cloned());
        self.inbox.rotate_right(usize::from(in_hand.is_some()));
        self.attempts = super::handling::Attempts::default();
        self.failures.clear();
        self.adopt(previous);
        let mut status = self.shared.status();
        status.rolled_back = Some(reason.to_owned());
        status.last_error = Some(text);
        status.memory_bytes = 0;
        drop(status);
        self.phase = Phase::Starting;
        true
    }
}
