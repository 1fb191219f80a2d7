//! What strangers cost is computed on threads of their own, which step back for all others.
//!
//! A handshake is half a millisecond of arithmetic, and whoever wants can ask for as many as it likes. On the threads that serve
//! those who are in, these would wait for it. So what is done for a client that has a place among strangers, until it is let in, is
//! done by a few threads that the system puts behind all others, as is the reading of what one sends that was told to go. A newcomer
//! pays for it where all processors are busy: its handshake takes as long as what is left of them lets it. What outlives its greeting,
//! such as a task, must begin where those are served who are in ([`crate::shared::Shared::home`]).

use crate::behind::Behind;
use std::{future::Future, io, thread::available_parallelism};
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
    async fn its_threads_stand_behind_this_one_and_so_does_what_they_start() {
        let (here, strangers) = (place(), Strangers::new().unwrap());
        let there = strangers.hear(async move { place() }).await.unwrap();
        assert_eq!(there.0, (here.0 + 10).min(19));
        if let Some(slice) = &here.1 {
            assert_ne!(there.1.as_ref(), Some(slice), "it has as long a time as others");
        }
        assert_eq!(place(), here);
        let behind = strangers.behind;
        let twice = move || {
            let begun = place();
            behind.step_back();
            (begun, place())
        };
        let started = async move { std::thread::spawn(twice).join().unwrap() };
        assert_eq!(strangers.hear(started).await, Some((there.clone(), there)));
    }

    /// The priority of this thread, and its slice in nanoseconds, where the kernel shows it: proc_pid_sched(5).
    #[cfg(target_os = "linux")]
    fn place() -> (i32, Option<String>) {
        let about = std::fs::read_to_string("/proc/thread-self/sched").unwrap_or_default();
        let slice = about.lines().find_map(|line| line.strip_prefix("se.slice")?.split_once(':'));
        let priority = rustix::process::getpriority_process(None).unwrap();
        (priority, slice.map(|(_, slice)| slice.trim().to_owned()))
    }
}
