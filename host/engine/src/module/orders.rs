//! What a module can be told, and what follows.

use super::Version;
use super::runner::{Phase, Runner};
use super::shadow::Next;
use crate::status::RuntimeStatus;
use std::sync::Arc;

/// What a module can be told.
pub(crate) enum Control {
    /// Run this version: beside the old one first, then in its place.
    Replace(Arc<Version>),
    /// End the instance and start a fresh one.
    Restart,
    /// Stop until told otherwise.
    Stop,
    /// Start if stopped, failed or waiting.
    Start,
    /// Give this version a copy of the traffic from now on; none to no version.
    Shadow(Option<Next>),
}

impl Runner {
    pub(super) async fn control(&mut self, control: Control) {
        match control {
            Control::Replace(version) => self.replace(version).await,
            Control::Restart => {
                self.stop_instance().await;
                self.forgive();
            }
            Control::Start if self.instance.is_some() => self.resume(),
            Control::Start if self.phase == Phase::Running => {}
            Control::Start => self.forgive(),
            Control::Stop => {
                self.stop_instance().await;
                if let Some(version) = self.candidate.give_up() {
                    // It would have taken over: it is what starts when the module is started.
                    self.adopt(version);
                }
                self.stopped_by_operator = true;
                self.show(RuntimeStatus::Stopped, "stopped by an operator");
                self.phase = Phase::Idle;
            }
            Control::Shadow(next) => {
                self.end_shadow();
                self.next = next;
                self.cast_shadow();
            }
        }
    }

    fn forgive(&mut self) {
        self.stopped_by_operator = false;
        self.failures.clear();
        self.attempts.retry_at = None;
        self.phase = Phase::Starting;
    }

    async fn replace(&mut self, version: Arc<Version>) {
        self.candidate.clear();
        if !version.settings.running {
            self.stop_instance().await;
            self.adopt(version);
            self.show(RuntimeStatus::Stopped, "its settings say status = \"stopped\"");
            self.phase = Phase::Idle;
        } else if self.instance.is_some() && version.code.serves.messages() {
            self.prepare(version);
        } else {
            self.stop_instance().await;
            self.adopt(version);
            if !self.stopped_by_operator {
                self.show(RuntimeStatus::Unknown, "");
                self.forgive();
            }
        }
    }
}
