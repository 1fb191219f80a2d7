//! What strangers cost is computed on threads of their own, which step back for all others.
//!
//! A handshake is half a millisecond of arithmetic, and whoever wants can ask for as many as it likes. On the threads that serve
//! those who are in, these would wait for it. So what is done for a client that has a place among strangers, until it is let in, is
//! done by a few threads that the system puts behind all others, as is the reading of what one sends that was told to go. A newcomer
//! pays for it where all processors are busy: its handshake takes as long as what is left of them lets it. What outlives its greeting,
//! such as a task, must begin where those are served who are in ([`crate::shared::Shared::home`]).

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    thread::available_parallelism,
};
use tokio::runtime::{Builder, Runtime};
use tokio_util::task::AbortOnDropHandle;

/// Where a thread stands that steps back for all others of the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behind {
    /// The priority of the kernel, from -20 to 19, the last.
    #[cfg(target_os = "linux")]
    priority: i32,
}

impl Behind {
    /// Behind this thread: one that others want a whole processor of has about a tenth of it, and so its end.
    fn here() -> Self {
        #[cfg(target_os = "linux")]
        let priority = (rustix::process::getpriority_process(None).unwrap_or_default() + 10).min(19);
        Self {
            #[cfg(target_os = "linux")]
            priority,
        }
    }

    /// From now on the system puts this thread there. On systems other than Linux it goes on as the equal of all others.
    pub(crate) fn step_back(self) {
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::process::setpriority_process(None, self.priority) {
            tracing::debug!(%error, "a thread cannot step back for others");
        }
    }
}

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
    async fn its_threads_step_back_and_no_others() {
        let strangers = Strangers::new().unwrap();
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let before = priority();
        assert_eq!(strangers.hear(async move { priority() }).await, Some((before + 10).min(19)));
        assert_eq!(priority(), before);
        let behind = strangers.behind;
        let twice = move || {
            behind.step_back();
            priority()
        };
        let started = async move { std::thread::spawn(twice).join().unwrap() };
        assert_eq!(strangers.hear(started).await, Some((before + 10).min(19)), "one of them starts another");
    }
}
