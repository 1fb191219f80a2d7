//! The link of one child, from the moment that it is wanted until it is idle.

use super::{
    Board, Template,
    board::{LOOK_EVERY, Standing},
};
use crate::{
    Backoff, BackoffConfig, LinkState, StatusHandle, UpstreamConfig,
    choice::At,
    form::Form,
    iot_hub::IotHub,
    peer::Peer,
    run::{Made, make, random},
    tokens::Tokens,
};
use holdfast_auth::SharedKey;
use holdfast_broker::Broker;
use holdfast_types::{Identity, LogId, Name};
use std::{sync::Arc, time::Duration};
use tokio::{sync::SemaphorePermit, time::sleep};
use tokio_util::sync::CancellationToken;

/// How far apart connections begin when many are due, on average: an IoT Hub of one unit takes a hundred in a second.
const APART: Duration = Duration::from_millis(20);

/// The longest that one is held back for this.
const APART_MAX: Duration = Duration::from_secs(10);

/// The shortest wait between two looks.
const SOON: Duration = Duration::from_millis(10);

pub(super) struct ChildLink {
    pub(super) child: Name,
    pub(super) broker: Broker,
    pub(super) board: Arc<Board>,
    pub(super) template: Option<Arc<Template>>,
    pub(super) edge: StatusHandle,
}

/// What a connection is made with.
struct Ready<'a> {
    key: SharedKey,
    template: &'a Template,
    at: At,
    _place: SemaphorePermit<'a>,
}

impl ChildLink {
    /// Runs until the child wants no connection any more. Gives how many messages were not acknowledged in time when it was told to
    /// stop.
    pub(super) async fn run(self, stop: CancellationToken) -> usize {
        let mut unacknowledged = 0;
        loop {
            let ready = tokio::select! {
                () = stop.cancelled() => None,
                ready = self.prepared() => ready,
            };
            let Some(ready) = ready else { return unacknowledged };
            unacknowledged = self.connection(ready, &stop).await;
            if stop.is_cancelled() {
                return unacknowledged;
            }
        }
    }

    /// Waits until a connection is wanted and may be made; none if none is wanted any more.
    async fn prepared(&self) -> Option<Ready<'_>> {
        loop {
            let template = self.template.as_deref();
            let (key, template) = match (self.board.standing(&self.child), template) {
                (Standing::Own(key), Some(template)) => (key, template),
                (Standing::Disabled, Some(_)) => {
                    if self.ends_if_idle(Duration::ZERO) {
                        return None;
                    }
                    self.board.is_in_trouble(&self.child, Some(self.disabled().into()));
                    self.look_again().await;
                    continue;
                }
                (Standing::Edges, _) | (_, None) => match self.give_to_edge().await {
                    true => return None,
                    false => continue,
                },
            };
            if self.ends_if_idle(self.board.idle_after()) {
                return None;
            }
            self.edge.connected_at().await?;
            let _place = self.turn().await?;
            let at = self.edge.connected_at().await?;
            let apart = APART.saturating_mul(u32::try_from(self.board.len()).unwrap_or(u32::MAX)) * 2;
            sleep(apart.min(APART_MAX).mul_f64(f64::from(random()) / f64::from(u32::MAX))).await;
            // All this took time.
            if !self.is_idle() && matches!(self.board.standing(&self.child), Standing::Own(now) if now == key)
            {
                return Some(Ready { key, template, at, _place });
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.board.is_idle(&self.child, self.broker.has_nothing_of(&self.child))
    }

    fn ends_if_idle(&self, after: Duration) -> bool {
        self.board.ends_if_idle(&self.child, self.broker.has_nothing_of(&self.child), after)
    }

    fn disabled(&self) -> String {
        format!(
            "it is disabled here, and what it has sent waits; enable it with `holdfast device enable {}`, or remove it, and the rest goes \
             up as the edge's",
            self.child
        )
    }

    async fn look_again(&self) {
        let cuts = self.board.cuts(&self.child);
        tokio::select! {
            () = cuts.notified() => {}
            () = sleep(self.look_after()) => {}
        }
    }

    /// How long until what is told by nobody is looked at.
    fn look_after(&self) -> Duration {
        (self.board.idle_after() / 2).clamp(SOON, LOOK_EVERY)
    }

    /// What is left in the log goes up as the edge's. Tells whether that is all.
    async fn give_to_edge(&self) -> bool {
        let mut backoff = Backoff::new(BackoffConfig::default());
        loop {
            match self.broker.give_to_edge(&self.child).await {
                Ok(0) => {}
                Ok(messages) => {
                    tracing::info!(child = %self.child, messages, "the child has no identity of its own upstream any more; what was left goes up as the edge's");
                }
                Err(refused) => {
                    tracing::warn!(child = %self.child, %refused, "what is left of a child is not given to the edge's log yet");
                    sleep(backoff.failed(random())).await;
                    continue;
                }
            }
            return self.board.ends(&self.child);
        }
    }

    /// Waits for a place among the connections.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(place) = self.board.places.try_acquire() {
            return Some(place);
        }
        let _waits = Waits::begin(&self.board);
        let mut place = std::pin::pin!(self.board.places.acquire());
        loop {
            self.board.asks_one_to_leave();
            tokio::select! {
                place = &mut place => return place.ok(),
                () = sleep((self.board.turn() / 8).max(SOON)) => {}
            }
        }
    }

    /// Runs one connection, and those that follow when it breaks, until it is idle, its turn is over or the edge has gone elsewhere.
    async fn connection(&self, ready: Ready<'_>, stop: &CancellationToken) -> usize {
        let Some(Made { run, status, .. }) = self.make(&ready) else { return 0 };
        let leave = stop.child_token();
        let cuts = self.board.cuts(&self.child);
        self.board.begins(&self.child, status.clone(), leave.clone());
        let unacknowledged = tokio::select! {
            biased;
            // At once: what the hub has not acknowledged is read again.
            () = cuts.notified() => {
                tracing::info!(child = %self.child, "the registry says something else of a child; its connection upstream ends");
                0
            }
            drained = run.run(leave.clone()) => drained.unacknowledged,
            never = self.watch(&status, ready.at, &leave) => match never {},
        };
        self.board.ended(&self.child);
        unacknowledged
    }

    fn make(&self, ready: &Ready<'_>) -> Option<Made> {
        let Template { config, checks, hub, token_life } = ready.template;
        let mut place = config.places.get(ready.at.place)?.clone();
        // The way that the edge goes is the preferred one.
        if let Some(ways) = place.targets.get_mut(..=ready.at.way) {
            ways.rotate_right(1);
        }
        let places = vec![place];
        let who = Identity::device(self.child.clone());
        let tokens = Tokens::new(who, hub.clone(), &places, Some(ready.key.clone()), *token_life);
        let config = UpstreamConfig { places, client_id: self.child.as_str().into(), ..config.clone() };
        let hub = IotHub::new(tokens, self.broker.clone(), config.backoff);
        let reader = self.broker.reader(LogId::upstream_of(&self.child));
        let form = Form::Peer(Peer::IotHub(hub));
        Some(make(&config, *checks, form, reader, Some(self.child.clone())))
    }

    /// Looks whether the connection is still wanted, and notes what becomes of it.
    async fn watch(
        &self,
        status: &StatusHandle,
        at: At,
        leave: &CancellationToken,
    ) -> std::convert::Infallible {
        let (mut own, mut edge) = (status.clone(), self.edge.clone());
        loop {
            tokio::select! {
                () = own.changed() => {}
                () = edge.changed() => {}
                () = sleep(self.look_after()) => {}
            }
            match own.state() {
                LinkState::Waiting { reason, .. } => self.board.is_in_trouble(&self.child, Some(reason)),
                LinkState::Connected { .. } => self.board.is_in_trouble(&self.child, None),
                LinkState::Connecting { .. } | LinkState::Draining | LinkState::Stopped => {}
            }
            let elsewhere = edge.up().is_some_and(|up| up.place != at.place);
            if elsewhere || self.is_idle() {
                leave.cancel();
            }
        }
    }
}

/// Counts as waiting while it lives.
struct Waits<'a>(&'a Board);

impl<'a> Waits<'a> {
    fn begin(board: &'a Board) -> Self {
        board.waits(true);
        Self(board)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waits(false);
    }
}
