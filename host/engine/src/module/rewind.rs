//! What follows when a turn was not recorded.
//!
//! Nothing after it counts, and the instance may know what is not on disk: everything begins anew behind the last turn
//! that was recorded. If the store did not answer, that is tried again until it does. If it will never take the turn,
//! trying the same again would never end: the calls of the turn are then recorded one by one, and the message whose
//! effects are refused alone becomes a dead letter, without its effects.

use super::runner::{Phase, Runner};
use super::turns::{Blame, Call, NotRecorded};
use crate::config::Limits;
use crate::logs::LogLevel;
use crate::status::RuntimeStatus;
use holdfast_broker::{Delivery, Refused};
use holdfast_types::StableId;
use std::time::{Duration, Instant as Moment};

/// The wait before the log is read again when the store does not answer.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// Who may be to blame for a turn that the store will never take.
#[derive(Default)]
pub(super) struct Suspect {
    /// So many calls are recorded each in a turn of its own.
    one_by_one: u32,
    /// The message whose effects can never be recorded, and why.
    guilty: Option<(StableId, String)>,
}

/// How much may be under way.
pub(super) struct Bounds {
    pub(super) messages: u32,
    pub(super) turns: u32,
}

impl Suspect {
    pub(super) fn bounds(&self, limits: &Limits) -> Bounds {
        if self.one_by_one > 0 {
            return Bounds { messages: 1, turns: 1 };
        }
        Bounds { messages: limits.inbox_messages, turns: limits.turns_in_flight }
    }

    /// A call has been made. Says whether it is to be recorded alone.
    pub(super) fn called(&mut self) -> bool {
        let alone = self.one_by_one > 0;
        self.one_by_one = self.one_by_one.saturating_sub(1);
        alone
    }

    /// Whether this is the message whose effects can never be recorded.
    pub(super) fn accuses(&self, delivery: &Delivery) -> bool {
        self.guilty.as_ref().is_some_and(|(id, _)| delivery.id.as_ref() == Some(id))
    }

    /// Why a message is given up without another call.
    pub(super) fn judged(&mut self, delivery: &Delivery) -> Option<String> {
        if !self.accuses(delivery) {
            return None;
        }
        self.guilty.take().map(|(_, reason)| reason)
    }
}

impl Runner {
    /// Waits for what is under way, and begins anew.
    pub(super) async fn rewind(&mut self) {
        self.instance = None;
        let drained = tokio::select! {
            biased;
            () = self.stop.cancelled() => return self.phase = Phase::Ended,
            Some(control) = self.controls.recv() => return self.control(control).await,
            drained = self.under_way.drained() => drained,
        };
        // Volatile messages that were not handled are nowhere else.
        self.inbox.retain(|delivery| !delivery.ticket.is_durable());
        self.attempts = super::handling::Attempts::default();
        self.turn.clear();
        self.state.rewind();
        self.twin.rewind();
        self.reader.rewind();
        self.phase = Phase::Starting;
        match drained {
            Err(NotRecorded { refused: Refused::Stopping, .. }) => {
                self.show(RuntimeStatus::Stopped, "the host is stopping");
                self.phase = Phase::Idle;
            }
            Err(NotRecorded { refused, blame }) if refused.is_permanent() => self.judge(&refused, blame),
            Err(NotRecorded { refused, .. }) => self.store_fails(&refused.to_string()),
            Ok(()) => {}
        }
    }

    /// The store will never take what these calls did.
    fn judge(&mut self, refused: &Refused, blame: Blame) {
        let reason = format!("what it did cannot be recorded: {refused}");
        self.shared.status().last_error = Some(reason.clone());
        match blame.last {
            _ if blame.calls > 1 => {
                let text = format!("{reason}; its last {} calls are recorded one by one", blame.calls);
                self.log.host(LogLevel::Warn, &text);
                self.suspect.one_by_one = blame.calls;
            }
            Call::Message(Some(id)) => self.suspect.guilty = Some((id, reason)),
            Call::Message(None) => {
                self.log.host(LogLevel::Warn, &format!("a volatile message was given up: {reason}"));
                self.shared.status().dead_letters += 1;
            }
            Call::Own => self.fail(&reason),
        }
    }

    /// The store did not answer: the module waits, and then goes on with its instance if it has one.
    pub(super) fn store_fails(&mut self, reason: &str) {
        let text = format!("the store does not answer, the module waits: {reason}");
        self.log.host(LogLevel::Error, &text);
        self.shared.status().last_error = Some(text.clone());
        self.show(RuntimeStatus::Backoff, &text);
        self.phase = Phase::Backoff(Moment::now() + STORE_RETRY);
    }
}
