//! Better ways, tried beside the one that works.

use crate::{
    Place,
    choice::{At, Choice},
};
use holdfast_net::{Stream, Timeouts, dial};
use holdfast_types::Text;
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

type Looking = Pin<Box<dyn Future<Output = Option<Moved>> + Send>>;

/// A way that was proven, with the stream that proved it: nothing was said on it yet.
pub(crate) struct Moved {
    pub(crate) at: At,
    pub(crate) stream: Option<Stream>,
}

impl Moved {
    /// A way that is still to be dialled.
    pub(crate) fn to(at: At) -> Self {
        Self { at, stream: None }
    }
}

/// The choice, shared between the task of the link and those who ask or tell.
#[derive(Clone)]
pub(crate) struct Shared {
    choice: Arc<Mutex<Choice>>,
    pub(crate) told: Arc<Notify>,
}

impl Shared {
    pub(crate) fn new(choice: Choice) -> Self {
        Self { choice: Arc::new(Mutex::new(choice)), told: Arc::default() }
    }

    pub(crate) fn choice(&self) -> MutexGuard<'_, Choice> {
        self.choice.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks for better ways while one works. Cancel safe: a look that was begun goes on with the next call.
pub(crate) struct Probe {
    places: Arc<Vec<Place>>,
    timeouts: Timeouts,
    shared: Shared,
    looking: Option<Looking>,
}

impl Probe {
    pub(crate) fn new(places: Arc<Vec<Place>>, timeouts: Timeouts, shared: Shared) -> Self {
        Self { places, timeouts, shared, looking: None }
    }

    /// A connection begins or has ended: what was begun beside the one before is of no use.
    pub(crate) fn reset(&mut self) {
        self.looking = None;
    }

    /// Waits until there is somewhere better to go.
    pub(crate) async fn moved(&mut self) -> Moved {
        loop {
            let looking = self.looking.get_or_insert_with(|| {
                let (places, shared) = (self.places.clone(), self.shared.clone());
                Box::pin(look(places, self.timeouts, shared))
            });
            let found = looking.as_mut().await;
            self.looking = None;
            if let Some(moved) = found {
                return moved;
            }
        }
    }
}

/// Waits for the time, or for somebody's word, and tries what is better.
async fn look(places: Arc<Vec<Place>>, timeouts: Timeouts, shared: Shared) -> Option<Moved> {
    let due = shared.choice().next_try().map(Instant::from_std);
    let time = async {
        match due {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = shared.told.notified() => {
            let choice = shared.choice();
            // With the place that is up nothing changes.
            let first = choice.round(now()).first().copied()?;
            let elsewhere = choice.up().is_some_and(|up| up.place != first.place);
            return elsewhere.then(|| Moved::to(first));
        }
        () = time => {}
    }
    let better = shared.choice().better();
    let mut proven = Vec::new();
    for at in better {
        // One that answers is enough to know that its place is there.
        if proven.contains(&at.place) {
            continue;
        }
        let Some(target) = places.get(at.place).and_then(|place| place.targets.get(at.way)) else { continue };
        let dialled = dial(target, timeouts).await;
        let (result, stream) = match dialled {
            Ok(stream) => (Ok(()), Some(stream)),
            Err(error) => (Err(Text::from(error.to_string())), None),
        };
        if result.is_ok() {
            proven.push(at.place);
        }
        if shared.choice().tried(at, result, now()) {
            tracing::info!(place = %places.get(at.place)?.name, transport = %target.way.transport(), "a better way upstream works again");
            return Some(Moved { at, stream });
        }
    }
    shared.choice().stays(&proven, now());
    None
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
