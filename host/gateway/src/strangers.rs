//! Strangers are heard on threads of their own, which step back for all others.
//!
//! A handshake is half a millisecond of arithmetic, and whoever wants can ask for as many as it likes. On the threads that serve
//! those who are in, these would wait for it. So what is done for a client before it has said who it is, and for one that was told
//! to go, is done by a few threads that leave their processor as soon as another one has something to do. A newcomer pays for it
//! where all processors are busy: its handshake takes as long as what is left of them lets it.

use std::{future::Future, io, thread::available_parallelism};
use tokio::runtime::{Builder, Runtime};
use tokio_util::task::AbortOnDropHandle;

/// How far a thread steps back, from 0 to 19: it has about a tenth of a processor that others want whole, and so its end.
#[cfg(target_os = "linux")]
const STEPPED_BACK: i32 = 10;

/// From now on this thread leaves its processor to others as soon as they have something to do. Where the system knows no priority of
/// single threads it goes on as before.
pub(crate) fn step_back() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, STEPPED_BACK) {
        tracing::debug!(%error, "a thread cannot step back for others");
    }
}

/// The threads.
pub(crate) struct Strangers {
    /// Present as long as this lives.
    runtime: Option<Runtime>,
}

impl Strangers {
    /// Half as many as there are processors.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub(crate) fn new() -> io::Result<Self> {
        let threads = (available_parallelism().map_or(1, usize::from) / 2).max(1);
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(threads).thread_name("strangers").on_thread_start(step_back).enable_all();
        Ok(Self { runtime: Some(builder.build()?) })
    }

    /// Does something for a stranger. None if that ended in a panic. Dropped before its end, it is not done to its end.
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
    async fn its_threads_step_back_and_no_others() {
        let strangers = Strangers::new().unwrap();
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let before = priority();
        assert_eq!(strangers.hear(async move { priority() }).await, Some(STEPPED_BACK.max(before)));
        assert_eq!(priority(), before);
    }
}
