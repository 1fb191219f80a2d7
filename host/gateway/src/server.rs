//! Listening, letting in, and stopping.

use crate::{
    above::{Above, Links},
    beside::Beside,
    episodes::{warn_once, warn_once_of},
    greet::{Greeted, NotLetIn, greet, tell},
    life::{self, Admitted, serve},
    limits::Limits,
    listing::SessionList,
    lobby::{Bounds, Lobby, Place, Pushed},
    sessions::{Attached, Key},
    shared::{Shared, Unsaid},
    stats::{Gauge, Stats},
    wills::{self, UserWill},
};
use holdfast_auth::{Cut, Registry};
use holdfast_broker::{Broker, RestoreError};
use holdfast_mqtt::ReasonCode;
use holdfast_net::{Incoming, ListenConfig, ListenError, Listener, Stream, Transport};
use holdfast_types::{Name, Soon, Text};
use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// How often expired sessions and delayed wills are looked for while any client is away.
const EXPIRY_CHECK: Duration = Duration::from_secs(1);

/// Room in a frame of WebSocket for the heads of packets, and for small packets beside a large one.
const FRAME_EXTRA_BYTES: usize = 64 << 10;

/// How often it is recorded what sessions are done with: what was acknowledged since may come again after a crash.
const TIDY_EVERY: Duration = Duration::from_millis(500);

/// What a gateway is made of.
pub struct GatewayConfig {
    /// Where it listens.
    pub listen: Vec<ListenConfig>,
    /// Its bounds.
    pub limits: Limits,
    /// What the body of a message is whose client does not say, such as `application/json`; text of it is UTF-8.
    pub content_type: Option<Text>,
    /// The user as whom clients of this machine come in that give neither name nor password; none lets no such client in.
    pub anonymous: Option<Name>,
    /// A random number, so that client identifiers that it assigns differ from those of the process before.
    pub instance: u64,
}

/// The gateway, bound but not running.
pub struct Gateway {
    listeners: Vec<Listener>,
    shared: Arc<Shared>,
    /// Wills that became due while the host was not there.
    due: Vec<UserWill>,
}

/// A gateway could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An address could not be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// What was kept of sessions could not be read.
    #[error("the sessions of clients could not be read: {0}")]
    Sessions(#[from] RestoreError),
    /// The system gives nothing more to wait with.
    #[error("the threads that hear strangers cannot wait for anything; raise the limit on open files: {0}")]
    Strangers(io::Error),
}

/// Who keeps telemetry and twins in the broker's place, and who serves the links of edges.
type Behind = (Option<Arc<dyn Above>>, Option<Arc<dyn Links>>);

impl Gateway {
    /// Binds all listeners and takes up the sessions that were kept. Nothing is accepted before [`Self::run`].
    pub async fn bind(
        config: GatewayConfig,
        broker: Broker,
        registry: Arc<Registry>,
    ) -> Result<Self, BindError> {
        Self::bind_below(config, broker, registry, (None, None)).await
    }

    /// The same where edges may link to this one.
    pub async fn bind_with_links(
        config: GatewayConfig,
        broker: Broker,
        registry: Arc<Registry>,
        links: Arc<dyn Links>,
    ) -> Result<Self, BindError> {
        Self::bind_below(config, broker, registry, (None, Some(links))).await
    }

    /// The same where this process is the hub, which keeps telemetry and twins and serves the links of edges.
    pub async fn bind_as_hub(
        config: GatewayConfig,
        broker: Broker,
        registry: Arc<Registry>,
        hub: Arc<dyn Above>,
        links: Arc<dyn Links>,
    ) -> Result<Self, BindError> {
        Self::bind_below(config, broker, registry, (Some(hub), Some(links))).await
    }

    async fn bind_below(
        config: GatewayConfig,
        broker: Broker,
        registry: Arc<Registry>,
        (above, links): Behind,
    ) -> Result<Self, BindError> {
        let mut listeners = Vec::with_capacity(config.listen.len());
        for listen in config.listen {
            listeners.push(Listener::bind(listen).await?);
        }
        let unsaid = Unsaid { content_type: config.content_type, user: config.anonymous };
        let shared = Shared::new(broker, registry, above, links, config.limits, unsaid, config.instance)
            .map(Arc::new)
            .map_err(BindError::Strangers)?;
        let gateway = Arc::downgrade(&shared);
        shared.registry.watch_cuts(move |identity, cut| {
            if let (Some(shared), Cut::Removed, None) = (gateway.upgrade(), cut, &identity.module) {
                shared.sessions.end_of(&identity.device);
            }
        });
        let due = life::restore(&shared)?;
        Ok(Self { listeners, shared, due })
    }

    /// The addresses that are listened on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(Listener::local).collect()
    }

    /// The counters; they go on counting while the gateway runs.
    pub fn stats(&self) -> Arc<Stats> {
        self.shared.stats.clone()
    }

    /// The sessions, for operators.
    pub fn sessions(&self) -> SessionList {
        SessionList(self.shared.clone())
    }

    /// Serves until `stop` is cancelled and every connection has ended: each waits a little for the records of messages
    /// that it has taken, acknowledges them, and says goodbye.
    pub fn run(self, stop: CancellationToken) -> Soon<'static, ()> {
        Box::pin(self.keep_open(stop))
    }

    async fn keep_open(self, stop: CancellationToken) {
        let doors = Arc::new(Semaphore::new(self.shared.limits.connections_max.min(Semaphore::MAX_PERMITS)));
        let limits = &self.shared.limits;
        let lobby = Arc::new(Lobby::new(Bounds {
            places: limits.ungreeted_max,
            places_per_address: limits.ungreeted_per_address_max,
            waiting: limits.ungreeted_waiting_max,
        }));
        let mut tasks = JoinSet::new();
        for listener in self.listeners {
            let (shared, doors, lobby) = (self.shared.clone(), doors.clone(), lobby.clone());
            tasks.spawn(accept(listener, shared, doors, lobby, stop.clone()));
        }
        self.due.into_iter().for_each(|will| wills::publish(&self.shared, will));
        tasks.spawn(keep(lobby, stop.clone()));
        tasks.spawn(expire(self.shared.clone(), stop.clone()));
        tasks.spawn(tidy(self.shared.clone(), stop));
        while tasks.join_next().await.is_some() {}
        // What the last connections have left is recorded too.
        self.shared.broker.tidy_sessions().await;
    }
}

async fn accept(
    listener: Listener,
    shared: Arc<Shared>,
    doors: Arc<Semaphore>,
    lobby: Arc<Lobby>,
    stop: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        let incoming = tokio::select! {
            () = stop.cancelled() => break,
            _ = connections.join_next(), if !connections.is_empty() => continue,
            incoming = listener.accept() => incoming,
        };
        let incoming = match incoming {
            Ok(incoming) => incoming,
            Err(error) => {
                tracing::error!(address = %listener.local(), %error, "the gateway cannot accept connections any more");
                break;
            }
        };
        connections.spawn(admit(incoming, shared.clone(), doors.clone(), lobby.clone(), stop.clone()));
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// One connection from its first byte to its last. What letting it in takes is given back when that is over, and not kept as
/// long as the connection.
fn admit(
    incoming: Incoming,
    shared: Arc<Shared>,
    doors: Arc<Semaphore>,
    lobby: Arc<Lobby>,
    stop: CancellationToken,
) -> impl Future<Output = ()> {
    let begin = Box::pin(begin(incoming, shared.clone(), doors, lobby, stop.clone()));
    async move {
        let stats = shared.stats.clone();
        let _open = Gauge::up(&stats.connections);
        if let Some(admitted) = begin.await {
            Box::pin(serve(shared, admitted, stop)).await;
        }
    }
}

/// Waits for a place, and takes what a handshake needs only then.
async fn begin(
    incoming: Incoming,
    shared: Arc<Shared>,
    doors: Arc<Semaphore>,
    lobby: Arc<Lobby>,
    stop: CancellationToken,
) -> Option<Box<Admitted<Stream>>> {
    let place = tokio::select! {
        () = stop.cancelled() => None,
        place = find_place(&shared, &lobby, incoming.peer()) => place,
    };
    Box::pin(let_in(incoming, shared, doors, place?, stop)).await
}

/// A place among those who have not said who they are. None if there is none in time; nothing was heard of such a client, and
/// nothing is said to it.
async fn find_place(shared: &Shared, lobby: &Arc<Lobby>, peer: SocketAddr) -> Option<Place> {
    let stats = &shared.stats;
    let found = {
        let _waits = Gauge::up(&stats.connections_waiting);
        timeout(shared.limits.connect_time_max, lobby.enter(peer.ip())).await.unwrap_or_default()
    };
    match &found {
        Some(place) => {
            if place.pushed != Pushed::Nobody {
                Stats::one(&stats.connections_pushed_out);
            }
            if place.pushed == Pushed::OfSameAddress {
                Stats::one(&stats.connections_over_address_share);
            }
        }
        None => {
            Stats::one(&stats.connections_turned_away);
            let max = shared.limits.ungreeted_waiting_max;
            warn_once!(
                shared.episodes,
                "line",
                max,
                %peer,
                "too many connections wait until others have said who they are; some are turned away"
            );
        }
    }
    found
}

/// The handshake, CONNECT, and the session. None if the client is not let in; it has been told as far as it can be.
async fn let_in(
    incoming: Incoming,
    shared: Arc<Shared>,
    doors: Arc<Semaphore>,
    place: Place,
    stop: CancellationToken,
) -> Option<Box<Admitted<Stream>>> {
    let (peer, within) = (incoming.peer(), shared.limits.connect_time_max);
    let is_quic = incoming.transport() == Transport::Quic;
    let begin = Box::pin(shake_hands_and_receive(incoming, shared.clone(), doors));
    let begin = async {
        // QUIC computes handshakes under a lock that all of its connections need, so that who steps back must not hold it.
        if is_quic { begin.await } else { shared.strangers.hear(begin).await.flatten() }
    };
    tokio::select! {
        () = stop.cancelled() => None,
        () = place.pushed_out.cancelled() => {
            let (max, per_address_max) = (shared.limits.ungreeted_max, shared.limits.ungreeted_per_address_max);
            warn_once!(shared.episodes, "lobby", max, per_address_max, %peer, "too many connections do not say who they are; the oldest is closed");
            None
        }
        begun = timeout(within, begin) => begun.unwrap_or_else(|_| {
            Stats::one(&shared.stats.connects_too_late);
            let kind = format!("late {}", peer.ip());
            warn_once!(shared.episodes, &kind, %peer, ?within, "a client did not say in time who it is");
            None
        }),
    }
}

async fn shake_hands_and_receive(
    incoming: Incoming,
    shared: Arc<Shared>,
    doors: Arc<Semaphore>,
) -> Option<Box<Admitted<Stream>>> {
    let (peer, is_quic) = (incoming.peer(), incoming.transport() == Transport::Quic);
    let handshake = incoming.handshake(shared.limits.connect_time_max);
    let stream = if is_quic { shared.heavy.in_turns(handshake).await } else { handshake.await };
    let mut stream = match stream {
        Ok(stream) => stream,
        Err(fault) => {
            let (kind, cause) = (format!("tls {}", peer.ip()), fault.to_string());
            warn_once_of!(shared.episodes, &kind, &cause, %peer, %fault, "a handshake failed");
            return None;
        }
    };
    match receive(&shared, doors, &mut stream, peer).await {
        Ok((greeted, place, attached)) => {
            let beside = Beside::new(stream.branches());
            Some(Box::new(Admitted { stream, greeted, attached, beside, place }))
        }
        Err(NotLetIn::Told) => {
            life::linger(&mut stream).await;
            None
        }
        Err(NotLetIn::InSilence) => None,
    }
}

/// CONNECT, a place among the connections, and the session.
async fn receive(
    shared: &Arc<Shared>,
    doors: Arc<Semaphore>,
    stream: &mut Stream,
    peer: SocketAddr,
) -> Result<(Greeted, OwnedSemaphorePermit, Attached), NotLetIn> {
    let certificates = stream.peer_certificates().to_vec();
    let greeted = greet(shared, stream, &certificates, peer).await?;
    // A client sends each packet in a frame, or gathers small ones.
    stream.set_frame_bytes_max(shared.limits.packet_bytes_max.saturating_add(FRAME_EXTRA_BYTES));
    let Ok(place) = doors.try_acquire_owned() else {
        Stats::one(&shared.stats.connections_over_limit);
        let max = shared.limits.connections_max;
        warn_once!(shared.episodes, "connections", max, %peer, "there are too many connections");
        return Err(tell(stream, &greeted.codec, ReasonCode::ServerUnavailable).await);
    };
    let key = Key { user: greeted.user.clone(), client_id: greeted.client_id.clone() };
    let Ok(attached) = shared.sessions.attach(key, greeted.clean_start).await else {
        Stats::one(&shared.stats.connects_refused);
        Stats::one(&shared.stats.sessions_over_limit);
        warn_once!(
            shared.episodes,
            "sessions",
            max = shared.limits.sessions_max,
            "there are too many sessions"
        );
        return Err(tell(stream, &greeted.codec, ReasonCode::ServerUnavailable).await);
    };
    shared.count_sessions();
    Ok((greeted, place, attached))
}

/// Gives places that were kept long enough to those who wait.
async fn keep(lobby: Arc<Lobby>, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = lobby.keep() => {}
    }
}

/// Records every now and then what sessions are done with.
async fn tidy(shared: Arc<Shared>, stop: CancellationToken) {
    while timeout(TIDY_EVERY, stop.cancelled()).await.is_err() {
        shared.broker.tidy_sessions().await;
    }
}

/// Ends expired sessions and says delayed wills.
async fn expire(shared: Arc<Shared>, stop: CancellationToken) {
    let work = async {
        loop {
            shared.sessions.somebody_away().await;
            sleep(EXPIRY_CHECK).await;
            let (due, ended) = shared.sessions.expire(Instant::now());
            due.into_iter().for_each(|will| wills::publish(&shared, will));
            ended.into_iter().for_each(|kept| kept.end());
            shared.count_sessions();
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}
