//! What strangers cost is computed on threads of their own, which step back for all others.
//!
//! A handshake is half a millisecond of arithmetic, and whoever wants can ask for as many as it likes. On the threads that serve
//! those who are in, these would wait for it. So what is done for a client that has a place among strangers, until it is let in, is
//! done by a few threads that the system puts behind all others, as is the reading of what one sends that was told to go. A newcomer
//! pays for it where all processors are busy: its handshake takes as long as what is left of them lets it. What outlives its greeting,
//! such as a task, must begin where those are served who are in ([`crate::shared::Shared::home`]).

use crate::behind::Behind;
use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    thread::available_parallelism,
};
use tokio::runtime::{Builder, Runtime};
use tokio_util::task::AbortOnDropHandle;

/// The threads.
pub(crate) struct Strangers {
    /// Present as long as this lives.
    runtime: Option<Runtime>,
    /// Where they stand.
    pub(crate) behind: Behind,
}

impl Strangers {
    /// Half as many as there are processors, behind this thread.
    ///
    /// # Errors
    /// The system gives no more descriptors.
    pub(crate) fn new() -> io::Result<Self> {
        let threads = (available_parallelism().map_or(1, usize::from) / 2).max(1);
        let mut builder = Builder::new_multi_thread();
        let behind = Behind::here();
        builder.worker_threads(threads).thread_name("strangers").on_thread_start(move || behind.step_back());
        Ok(Self { runtime: Some(builder.enable_all().build()?), behind })
    }

    /// Does something for a stranger. None if that ended in a panic. Dropped
    /// before its end, it is not done to its end.
    pub(crate) async fn hear<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let work = async move {
            let mut work = pin!(work);
            poll_fn(|context| {
                // Before each step: also whoever stands behind all others is left its processor for some milliseconds once it has it.
                std::thread::yield_now();
                work.as_mut().poll(context)
            })
            .await
        };
        AbortOnDropHandle::new(self.runtime.as_ref()?.spawn(work)).await.ok()
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        // It may be a task in which the last of a gateway goes, and a task must not wait for threads.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn what_is_done_for_strangers_is_done_elsewhere_and_ends_with_who_waits_for_it() {
        let strangers = Strangers::new().unwrap();
        let thread = || std::thread::current().name().map(str::to_owned);
        assert_eq!(strangers.hear(async move { thread() }).await, Some(Some("strangers".into())));
        assert_ne!(thread(), Some("strangers".into()));
        let (send, gone) = oneshot::channel::<()>();
        let endless = strangers.hear(async move {
            pending::<()>().await;
            drop(send);
        });
        drop(tokio::time::timeout(std::time::Duration::from_millis(1), endless).await);
        assert!(gone.await.is_err(), "it is dropped");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn its_threads_stand_behind_this_one_and_what_they_start_stands_there_too() {
        let (here, strangers) = (place(), Strangers::new().unwrap());
        let there = strangers.hear(async move { place() }).await.unwrap();
        assert_eq!(there.priority, (here.priority + 10).min(139));
        if kernel() >= (6, 12) {
            assert_eq!(there.slice, Some("100000000".into()), "{here:?}");
        }
        assert_eq!(place(), here);
        let behind = strangers.behind;
        let twice = move || {
            behind.step_back();
            place()
        };
        let started = async move { std::thread::spawn(twice).join().unwrap() };
        assert_eq!(strangers.hear(started).await, Some(there), "one of them starts another");
    }

    /// Where a thread stands: proc_pid_sched(5).
    #[cfg(target_os = "linux")]
    #[derive(Debug, PartialEq)]
    struct Place {
        /// From 100 to 139, the last.
        priority: i32,
        /// In nanoseconds.
        slice: Option<String>,
    }

    #[cfg(target_os = "linux")]
    fn place() -> Place {
        let about = std::fs::read_to_string("/proc/thread-self/sched").unwrap();
        let lines = || about.lines().filter_map(|line| line.split_once(':'));
        let said =
            |what| lines().find(|(name, _)| name.trim() == what).map(|(_, value)| value.trim().to_owned());
        Place { priority: said("prio").unwrap().parse().unwrap(), slice: said("se.slice") }
    }

    #[cfg(target_os = "linux")]
    fn kernel() -> (u32, u32) {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers =
            release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
        (numbers.next().unwrap(), numbers.next().unwrap())
    }
}
