//! Runs the tasks of modules, each right behind the one that woke it.
//!
//! A message that passes several modules wakes them one after the other. The runtime runs a few tasks in a row on the thread
//! that woke them; the next one waits for another thread, which most likely sleeps, and to wake that takes longer than all of
//! the modules. So the task of a module that another module's task has woken runs next, on the same thread: they are a row.
//!
//! A row holds nobody up. It goes on only where one task was woken and no other, for a short time, and only to modules that
//! are quick; all others are left to the runtime, where another thread can take them. No task is bound to the one before it:
//! a row is a task of the runtime for itself, which ends with the row.

use async_task::{Builder, Runnable, ScheduleInfo, Task, WithInfo};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// How long a row may have taken when its next task begins: what else waits for the thread waits no longer.
const ROW_TIME: Duration = Duration::from_micros(250);

/// Whether a module is quick: its task says so, and whoever wakes it asks. At first it is not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quick(Arc<AtomicBool>);

impl Quick {
    /// The last turn of the module has taken so long.
    pub(crate) fn took(&self, time: Duration) {
        self.0.store(time < ROW_TIME, Ordering::Relaxed);
    }

    fn is_quick(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the task that runs on this thread has woken.
enum Woken {
    /// No task of a module runs on this thread.
    Outside,
    Nobody,
    /// One, which follows.
    One(Runnable),
    /// More than one, and all of them are left to the runtime.
    Several,
}

thread_local! {
    static WOKEN: Cell<Woken> = const { Cell::new(Woken::Outside) };
}

/// Runs the task of a module to its end, as the runtime would. Dropping what this gives ends the task.
pub(crate) fn run(task: impl Future<Output = ()> + Send + 'static, quick: Quick) -> Task<()> {
    let runtime = Handle::current();
    let schedule = WithInfo(move |task: Runnable, info: ScheduleInfo| {
        if info.woken_while_running {
            // It gives way to whatever else waits for a thread.
            runtime.spawn(async move {
                tokio::task::yield_now().await;
                row(task);
            });
        } else if quick.is_quick() {
            join(&runtime, task);
        } else {
            leave(&runtime, task);
        }
    });
    let (first, ended) = Builder::new().propagate_panic(true).spawn(|()| task, schedule);
    first.schedule();
    ended
}

/// Runs a task, and those behind it.
fn row(first: Runnable) {
    let began = Instant::now();
    let mut next = Some(first);
    while let Some(task) = next.take() {
        WOKEN.set(Woken::Nobody);
        task.run();
        match WOKEN.replace(Woken::Outside) {
            Woken::One(woken) if began.elapsed() < ROW_TIME => next = Some(woken),
            Woken::One(woken) => leave(&Handle::current(), woken),
            Woken::Outside | Woken::Nobody | Woken::Several => {}
        }
    }
}

/// The runtime finds a thread for a task.
fn leave(runtime: &Handle, task: Runnable) {
    runtime.spawn(async move { row(task) });
}

/// A task follows the one that has woken it, if that is a module's and has woken nobody else.
fn join(runtime: &Handle, task: Runnable) {
    let mut left = [None, Some(task)];
    // A thread that ends has no row.
    let _ = WOKEN.try_with(|woken| {
        let now = match (woken.replace(Woken::Outside), &mut left) {
            (Woken::Nobody, [_, task]) => task.take().map_or(Woken::Nobody, Woken::One),
            (Woken::One(first), [place, _]) => {
                *place = Some(first);
                Woken::Several
            }
            (before, _) => before,
        };
        woken.set(now);
    });
    left.into_iter().flatten().for_each(|task| leave(runtime, task));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::thread::ThreadId;
    use tokio::sync::{Notify, oneshot};

    fn quick() -> Quick {
        let quick = Quick::default();
        quick.took(Duration::ZERO);
        quick
    }

    /// Tasks that each wake those behind them, and what is seen of them: which ran, and where.
    #[derive(Default)]
    struct Seen(Mutex<Vec<(usize, ThreadId)>>);

    impl Seen {
        fn ran(&self, number: usize) {
            self.0.lock().unwrap().push((number, std::thread::current().id()));
        }

        fn take(&self) -> Vec<(usize, ThreadId)> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    /// The first of `count` tasks is rung, and each rings those that `next` names.
    async fn ring_through(
        count: usize,
        next: fn(usize) -> Vec<usize>,
        quick: &Quick,
    ) -> Vec<(usize, ThreadId)> {
        let seen = Arc::new(Seen::default());
        let bells: Arc<Vec<Notify>> = Arc::new((0..count).map(|_| Notify::new()).collect());
        let (told, mut all) = tokio::sync::mpsc::channel(count);
        for number in 0..count {
            let (seen, bells, told) = (seen.clone(), bells.clone(), told.clone());
            let task = async move {
                told.send(()).await.unwrap();
                bells[number].notified().await;
                seen.ran(number);
                next(number).into_iter().for_each(|one| bells[one].notify_one());
                told.send(()).await.unwrap();
            };
            tokio::spawn(run(task, quick.clone()));
        }
        for _ in 0..count {
            all.recv().await.unwrap();
        }
        bells[0].notify_one();
        for _ in 0..count {
            all.recv().await.unwrap();
        }
        seen.take()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn quick_tasks_that_wake_each_other_are_a_row_on_one_thread() {
        let seen = ring_through(20, |n| if n < 19 { vec![n + 1] } else { Vec::new() }, &quick()).await;
        assert!(seen.iter().map(|(number, _)| *number).eq(0..20), "{seen:?}");
        // A machine that is busy may take so long over one of them that the others are left to the runtime.
        let breaks = seen.windows(2).filter(|pair| pair[0].1 != pair[1].1).count();
        assert!(breaks <= 3, "{breaks} of 19 went to another thread");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn what_is_not_quick_or_not_alone_is_run_all_the_same() {
        for quick in [Quick::default(), quick()] {
            let seen =
                ring_through(31, |n| (2 * n + 1..2 * n + 3).filter(|n| *n < 31).collect(), &quick).await;
            let mut numbers: Vec<_> = seen.iter().map(|(number, _)| *number).collect();
            numbers.sort_unstable();
            assert!(numbers.into_iter().eq(0..31));
        }
    }

    #[tokio::test]
    async fn a_task_that_wakes_itself_gives_way() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mine = order.clone();
        let task = async move {
            for _ in 0..3 {
                mine.lock().unwrap().push("module");
                let mut again = true;
                std::future::poll_fn(|context| {
                    if !std::mem::take(&mut again) {
                        return std::task::Poll::Ready(());
                    }
                    context.waker().wake_by_ref();
                    std::task::Poll::Pending
                })
                .await;
            }
        };
        let module = tokio::spawn(run(task, quick()));
        while !module.is_finished() {
            order.lock().unwrap().push("other");
            tokio::task::yield_now().await;
        }
        let order = order.lock().unwrap();
        assert!(order.windows(2).all(|pair| pair != ["module", "module"]), "{order:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_task_that_panics_fails_alone_and_one_that_is_dropped_ends() {
        let panicked = tokio::spawn(run(async { panic!("on purpose") }, quick()));
        assert!(panicked.await.unwrap_err().is_panic());

        let (held, dropped) = oneshot::channel::<()>();
        let task = async move {
            let _held = held;
            std::future::pending::<()>().await;
        };
        let running = tokio::spawn(run(task, quick()));
        running.abort();
        assert!(dropped.await.is_err(), "what it held is gone");
    }
}
