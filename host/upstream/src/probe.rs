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
    task::JoinSet,
    time::{Duration, Instant, MissedTickBehavior, interval, sleep_until},
};

type Looking = Pin<Box<dyn Future<Output = Option<Moved>> + Send>>;

/// A try of the way in use may take twice as long as its dialling took when it came up, within these bounds. It is short
/// so that a way that works again is found soon: TCP itself sends ever more rarely into the silence, half a minute apart
/// after a minute.
const TRY_MIN: Duration = Duration::from_millis(400);
const TRY_MAX: Duration = Duration::from_secs(5);

/// Tries that are under way at once. Each begins a part of its time after the one before: of a way that works again the next
/// try finds out, and none waits for one that was begun too early, or for what TCP sends again after a second.
const TRIES: u32 = 4;

/// A way that was proven, with the stream that proved it: nothing was said on it yet.
pub(crate) struct Moved {
    pub(crate) at: At,
    pub(crate) stream: Option<Stream>,
    /// The connection that it replaces answers nothing; nothing is to be waited for there.
    pub(crate) abandons: bool,
}

impl Moved {
    /// A way that is still to be dialled.
    pub(crate) fn to(at: At) -> Self {
        Self { at, stream: None, abandons: false }
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
    /// The way in use answers nothing.
    silent: bool,
    dialled_in: Duration,
}

impl Probe {
    pub(crate) fn new(places: Arc<Vec<Place>>, timeouts: Timeouts, shared: Shared) -> Self {
        Self { places, timeouts, shared, looking: None, silent: false, dialled_in: TRY_MAX }
    }

    /// A connection begins or has ended: what was begun beside the one before is of no use.
    pub(crate) fn reset(&mut self) {
        self.looking = None;
        self.silent = false;
    }

    /// How long it took to dial the way that is in use.
    pub(crate) fn dialled_in(&mut self, time: Duration) {
        self.dialled_in = time;
    }

    /// Whether the way in use answers nothing: then it is tried anew, and the others to the same place, without a pause.
    pub(crate) fn is_silent(&mut self, silent: bool) {
        if std::mem::replace(&mut self.silent, silent) != silent {
            self.looking = None;
        }
    }

    /// Waits until there is somewhere better to go.
    pub(crate) async fn moved(&mut self) -> Moved {
        loop {
            let looking = self.looking.get_or_insert_with(|| {
                let (places, shared) = (self.places.clone(), self.shared.clone());
                if self.silent {
                    let within = (self.dialled_in * 2).clamp(TRY_MIN, TRY_MAX);
                    Box::pin(look_again(places, self.timeouts, within, shared))
                } else {
                    Box::pin(look(places, self.timeouts, shared))
                }
            });
            let found = looking.as_mut().await;
            self.looking = None;
            if let Some(moved) = found {
                return moved;
            }
        }
    }
}

/// Tries the way in use, and the others to the same place in turn, until one is proven.
async fn look_again(
    places: Arc<Vec<Place>>,
    timeouts: Timeouts,
    within: Duration,
    shared: Shared,
) -> Option<Moved> {
    let up = shared.choice().up()?;
    let ways = places.get(up.place)?.targets.len();
    let others = (0..ways).filter(|way| *way != up.way);
    let order: Vec<usize> = std::iter::once(up.way).chain(others).collect();
    // What has a connection is worth a longer wait.
    let step = within * TRIES;
    let timeouts = Timeouts {
        resolve: step.min(timeouts.resolve),
        connect: within,
        handshake: step.min(timeouts.handshake),
        quic: within,
    };
    let mut begin = interval(within / TRIES);
    begin.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Those that are under way end with this look.
    let mut tries = JoinSet::new();
    for way in order.into_iter().cycle() {
        loop {
            tokio::select! {
                _ = begin.tick(), if tries.len() < TRIES as usize => break,
                Some(ended) = tries.join_next() => {
                    if let Ok((way, Some(stream))) = ended {
                        let at = At { place: up.place, way };
                        return Some(Moved { at, stream: Some(stream), abandons: true });
                    }
                }
            }
        }
        let places = places.clone();
        tries.spawn(async move {
            let target = places.get(up.place).and_then(|place| place.targets.get(way));
            match target {
                Some(target) => (way, dial(target, timeouts).await.ok()),
                None => (way, None),
            }
        });
    }
    None
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
            return Some(Moved { at, stream, abandons: false });
        }
    }
    shared.choice().stays(&proven, now());
    None
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
