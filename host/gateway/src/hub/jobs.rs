//! What a client asked for and takes a while: one after the other, in the order in which it was asked for.

use super::Event;
use std::{
    collections::VecDeque,
    future::{Future, pending},
    pin::Pin,
};

/// Most jobs of one client that wait; with as many the client is not read from. SDKs have one or two under way.
const JOBS_MAX: usize = 32;

type Job = Pin<Box<dyn Future<Output = Vec<Event>> + Send>>;

/// The jobs of one client.
#[derive(Default)]
pub(super) struct Jobs(VecDeque<Job>);

impl Jobs {
    pub(super) fn push(&mut self, job: impl Future<Output = Vec<Event>> + Send + 'static) {
        self.0.push_back(Box::pin(job));
    }

    pub(super) fn have_room(&self) -> bool {
        self.0.len() < JOBS_MAX
    }

    /// What comes of the next job, when it is done; for ever nothing if there is none. Cancel safe: a job that is under
    /// way stays so.
    pub(super) async fn next(&mut self) -> Vec<Event> {
        let Some(job) = self.0.front_mut() else { return pending().await };
        let events = job.await;
        self.0.pop_front();
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::end::End;
    use std::time::Duration;
    use tokio::{sync::oneshot, time::timeout};

    #[tokio::test]
    async fn jobs_end_in_their_order_and_outlive_those_who_wait() {
        let mut jobs = Jobs::default();
        let (ready, wait) = oneshot::channel();
        jobs.push(async move {
            let _: Result<(), _> = wait.await;
            vec![Event::End(End::Closed)]
        });
        jobs.push(async { Vec::new() });
        assert!(timeout(Duration::from_millis(1), jobs.next()).await.is_err());
        ready.send(()).unwrap();
        assert_eq!((jobs.next().await.len(), jobs.next().await.len()), (1, 0));
        assert!(timeout(Duration::from_millis(1), jobs.next()).await.is_err());
    }
}
