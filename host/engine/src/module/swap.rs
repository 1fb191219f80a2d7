//! A new version takes over between two messages.
//!
//! The new instance is made and started while the old one works on. When it is ready, the old one is told to stop, and
//! what it did last is kept. If the new one's `start` has read state that was written since, it is started once more,
//! now that nothing else writes: that is the only case in which messages wait for a start. A version that does not
//! start changes nothing: the old one goes on, and the status says why.

use super::Version;
use super::probation::Probation;
use super::runner::{Phase, Runner};
use crate::instance::{Instance, Parts};
use crate::logs::LogLevel;
use crate::status::now;
use std::sync::Arc;
use std::time::Instant as Moment;
use tokio::task::JoinSet;

/// A new version whose instance is being started beside the old one.
#[derive(Default)]
pub(super) struct Candidate {
    version: Option<Arc<Version>>,
    starting: JoinSet<Started>,
    ready: Option<Started>,
}

/// How that went.
pub(super) struct Started {
    version: Arc<Version>,
    instance: Result<Box<Instance>, String>,
}

impl Candidate {
    /// Forgets a version that has not taken over.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Ends the start of a version that has not taken over. Gives it, if there is one.
    pub(super) fn give_up(&mut self) -> Option<Arc<Version>> {
        std::mem::take(self).version
    }

    /// Whether one is ready to take over, or has failed to start.
    pub(super) fn has_started(&mut self) -> bool {
        if self.ready.is_none() && !self.starting.is_empty() {
            // A task that was ended or panicked is as good as none.
            self.ready = self.starting.try_join_next().and_then(Result::ok);
        }
        self.ready.is_some()
    }

    /// Waits until one is ready; none if there is nothing to wait for. Cancel safe.
    pub(super) async fn started(&mut self) -> Option<Started> {
        match self.ready.take() {
            Some(started) => Some(started),
            None => self.starting.join_next().await.and_then(Result::ok),
        }
    }
}

impl Runner {
    /// Starts an instance of `version` beside the one that works.
    pub(super) fn prepare(&mut self, version: Arc<Version>) {
        self.log.host(LogLevel::Info, "a new version is being started beside the old one");
        self.candidate.version = Some(version.clone());
        self.calls.prepare(&version);
        let surroundings = self.surroundings();
        self.candidate.starting.spawn(async move {
            let parts = Parts { version: &version, surroundings: &surroundings };
            let instance = Instance::start(parts).await.map(Box::new);
            Started { version, instance }
        });
    }

    /// Puts the new instance in the place of the old one, or says why not.
    pub(super) async fn switch(&mut self, started: Started) {
        let Started { version, instance } = started;
        self.candidate.version = None;
        let mut instance = match instance {
            Ok(instance) => instance,
            Err(reason) => return self.refuse(&reason),
        };
        let stopping = Moment::now();
        self.stop_instance().await;
        if instance.host().state.is_stale() || instance.host().twin.is_stale() {
            let surroundings = self.surroundings();
            match Instance::start(Parts { version: &version, surroundings: &surroundings }).await {
                Ok(again) => *instance = again,
                Err(reason) => {
                    // The old instance has been stopped, so a fresh one of the old version goes on.
                    self.phase = Phase::Starting;
                    return self.refuse(&reason);
                }
            }
        }
        self.turn.keep(instance.host(), &[], 0);
        self.instance = Some(*instance);
        let previous = self.version.clone();
        self.probation = Probation::of(&version, previous);
        self.adopt(version);
        self.close_turn();
        self.failures.clear();
        self.runs();
        let gap = stopping.elapsed();
        let mut status = self.shared.status();
        status.swap_us = Some(u64::try_from(gap.as_micros()).unwrap_or(u64::MAX));
        status.last_swap = Some(now());
        drop(status);
        let text =
            format!("a new version has taken over, after {:.3} ms without service", gap.as_secs_f64() * 1e3);
        self.log.host(LogLevel::Info, &text);
    }

    fn refuse(&self, reason: &str) {
        self.log.host(
            LogLevel::Error,
            &format!("a new version could not take over, the old one goes on: {reason}"),
        );
        self.shared.status().refused = Some(reason.to_owned());
    }
}
