//! A component with a main function (`wasi:cli/run`) as a module: it runs for as long as it likes, and its output is its
//! log. It has no messages. When it ends, its restart policy says what follows.

use super::runner::{Phase, Runner};
use crate::instance::{Parts, run_program};
use crate::logs::LogLevel;
use crate::settings::RestartPolicy;
use crate::status::{RuntimeStatus, now};
use tokio::task::JoinSet;

/// The running program, if there is one.
pub(super) type Program = JoinSet<Result<(), String>>;

impl Runner {
    /// Starts the main function.
    pub(super) fn start_program(&mut self) {
        let (version, surroundings) = (self.version.clone(), self.surroundings());
        self.program = JoinSet::new();
        self.program.spawn(async move {
            run_program(Parts { version: &version, surroundings: &surroundings }).await
        });
        self.runs();
    }

    /// Waits for what may happen to a module that is not handed messages: an order, or its own end.
    pub(super) async fn attend(&mut self) {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => self.phase = Phase::Ended,
            Some(control) = self.controls.recv() => self.control(control).await,
            Some(ended) = self.program.join_next() => match ended {
                Ok(Ok(())) => self.program_ended(),
                Ok(Err(reason)) => self.fail(&reason),
                Err(error) => self.fail(&format!("its task ended badly: {error}")),
            },
        }
    }

    fn program_ended(&mut self) {
        let text = "its main function has ended with success";
        if self.version.settings.restart == RestartPolicy::Always {
            return self.fail(text);
        }
        self.log.host(LogLevel::Info, text);
        self.shared.status().last_exit = Some(now());
        self.show(RuntimeStatus::Stopped, text);
        self.phase = Phase::Idle;
    }
}
