//! The life of a connection: it takes a session up, serves it, and leaves it behind.

use crate::{
    beside::Beside,
    connection::{Client, Terms},
    cuts::Thread,
    durable::Durable,
    end::End,
    greet::Greeted,
    hub,
    sessions::{Attached, Held, Kept},
    shared::Shared,
    subscriptions::Subscriptions,
    wills::{self, UserWill},
};
use holdfast_auth::Cut;
use holdfast_broker::{Refused, SessionRecord, StoredSession};
use holdfast_mqtt::server::Session;
use holdfast_types::UnixMillis;
use std::{
    future::pending,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadHalf, WriteHalf},
    sync::{OwnedSemaphorePermit, oneshot},
    task::yield_now,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Longest time that a client is given to close after it was told to.
const LINGER_TIME_MAX: Duration = Duration::from_secs(1);

/// Bytes that are read meanwhile: what a client may have had under way. What one sends behind them nobody reads, so that it stops by
/// itself, and reads why if it can.
const LINGER_BYTES_MAX: usize = 128 << 10;

/// Bytes that are read at once.
const LINGER_READ_BYTES: usize = 8 << 10;

/// A client that was let in and has not had its CONNACK yet.
pub(crate) struct Admitted<S> {
    pub(crate) stream: S,
    pub(crate) greeted: Greeted,
    pub(crate) attached: Attached,
    pub(crate) beside: Beside,
    /// Its place among the connections.
    pub(crate) place: OwnedSemaphorePermit,
}

/// A session that was taken up, and what it was when it was.
pub(crate) struct Begun {
    pub(crate) kept: Box<Kept>,
    pub(crate) session_present: bool,
}

/// A client that is served, and what it leaves.
struct Life<S> {
    client: Client,
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    held: Held,
    thread: Option<Thread>,
    will: Option<UserWill>,
    terms: Terms,
    /// Given back before the connection counts as closed.
    _place: OwnedSemaphorePermit,
}

/// Serves a client from its CONNACK to its end. What it needs for that lies in one piece of memory beside this future, which
/// waits for as long as the client is there: a place for each step on the way would be kept as well.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    shared: Arc<Shared>,
    admitted: Box<Admitted<S>>,
    stop: CancellationToken,
) {
    let Some(mut life) = Box::pin(take_up(&shared, admitted)).await else { return };
    let Life { client, reader, writer, held, thread, .. } = &mut *life;
    let end = match client.process() {
        Ok(()) => client.run(reader, writer, held, thread.as_mut(), &stop).await,
        Err(end) => end,
    };
    client.count(&end);
    Box::pin(client.finish(writer, &end)).await;
    let mut reader = leave(&shared, life, &end);
    if end.reason().is_some() {
        let rest = Box::pin(async move { linger(&mut reader).await });
        shared.strangers.hear(rest).await;
    }
}

/// Takes up the session of a client and gives it its CONNACK. None if it is to come again.
async fn take_up<S: AsyncRead + AsyncWrite>(
    shared: &Arc<Shared>,
    admitted: Box<Admitted<S>>,
) -> Option<Box<Life<S>>> {
    let Admitted { stream, mut greeted, attached, beside, place } = *admitted;
    let Attached { held, kept, will: due, unwanted, ended } = attached;
    if let Some(due) = due {
        wills::publish(shared, due);
    }
    unwanted.into_iter().for_each(UserWill::forget);
    let (terms, mut will, thread) = (greeted.terms, greeted.will.take(), greeted.thread.take());
    let begun = match begin(shared, &greeted, kept, ended, &mut will).await {
        Ok(begun) => begun,
        Err(refused) => {
            tracing::warn!(user = %held.key().user, %refused, "a session cannot be recorded; its client is to come again");
            return None;
        }
    };
    let expiry = Duration::from_secs(u64::from(terms.session_expiry_s));
    shared.sessions.introduce(&held, begun.kept.subscriptions.facts().clone(), expiry);
    let client = Client::begin(shared.clone(), greeted, held.key().clone(), begun, beside);
    let (reader, writer) = tokio::io::split(stream);
    Some(Box::new(Life { client, reader, writer, held, thread, will, terms, _place: place }))
}

/// Records the end of the session before, the session, if it outlives the connection, and the will: what CONNACK says then
/// holds also if the host is killed. The dialect of IoT Hub has a session of its own, its filters, and keeps nothing here.
async fn begin(
    shared: &Shared,
    greeted: &Greeted,
    kept: Option<Box<Kept>>,
    ended: Option<Box<Kept>>,
    will: &mut Option<UserWill>,
) -> Result<Begun, Refused> {
    if greeted.hub.is_some() || greeted.link.is_some() {
        kept.into_iter().chain(ended).for_each(|kept| kept.end());
        let kept = Box::new(Kept { session: Session::default(), subscriptions: Subscriptions::new() });
        return Ok(Begun { kept, session_present: false });
    }
    let session_present = kept.is_some();
    let kept = kept.unwrap_or_else(|| {
        let lives_on = greeted.terms.session_expiry_s > 0;
        let subscriptions = if lives_on {
            Subscriptions::of(shared, &greeted.user, shared.broker.new_session())
        } else {
            Subscriptions::new()
        };
        Box::new(Kept { session: Session::default(), subscriptions })
    });
    let mut awaited = Vec::new();
    let mut recorded = || {
        let (send, receive) = oneshot::channel();
        awaited.push(receive);
        // Who asked may be gone.
        move |answer| drop(send.send(answer))
    };
    ended.into_iter().for_each(|ended| ended.end_then(recorded()));
    if let Some(stored) = kept.subscriptions.stored() {
        let record = SessionRecord {
            user: greeted.user.clone(),
            client_id: greeted.client_id.as_str().into(),
            expiry_s: greeted.terms.session_expiry_s,
            away_since: None,
            subscriptions: kept.subscriptions.records(),
        };
        stored.keep(&record, recorded());
    }
    if let Some(will) = will {
        let session =
            kept.subscriptions.stored().cloned().unwrap_or_else(|| shared.broker.numbered_session());
        let key = session.keep_will(&will.record(&greeted.client_id), recorded());
        will.kept = Some((session, key));
    }
    for answer in awaited {
        answer.await.unwrap_or(Err(Refused::Stopping))?;
    }
    Ok(Begun { kept, session_present })
}

/// Reads and forgets what the client still sends, until it closes. Bytes that nobody reads would make the system reset
/// the connection, and the client might never see why it ended. To be done for strangers only, like all that is for nothing.
pub(crate) async fn linger(reader: &mut (impl AsyncRead + Unpin)) {
    let rest = async {
        let mut bytes = vec![0; LINGER_READ_BYTES];
        let mut left = LINGER_BYTES_MAX;
        while left > 0 {
            let Ok(count @ 1..) = reader.read(&mut bytes).await else { return };
            left = left.saturating_sub(count);
            yield_now().await;
        }
        pending::<()>().await;
    };
    // A client that does not close is closed.
    let _ = timeout(LINGER_TIME_MAX, rest).await;
}

/// Leaves the session behind, or ends it, and says the will if the time has come. What the client still sends is left.
fn leave<S>(shared: &Shared, life: Box<Life<S>>, end: &End) -> ReadHalf<S> {
    let Life { mut client, reader, held, will, terms, .. } = *life;
    if client.linked.take().is_some() {
        drop(held);
        shared.count_sessions();
        return reader;
    }
    if let Some(hub) = client.hub.take() {
        // Of its session only the filters are kept, and they are on disk.
        hub::leave(&hub, will, end);
        drop(hub);
        drop(held);
        shared.count_sessions();
        return reader;
    }
    let expiry_s = match end {
        // Nobody comes back for it.
        End::Cut(Cut::Removed) => 0,
        End::Goodbye { session_expiry_s: Some(s), .. } if terms.session_expiry_s > 0 => {
            u64::from(*s).min(shared.limits.session_expiry_max.as_secs())
        }
        _ => u64::from(terms.session_expiry_s),
    };
    client.subscriptions.attended(false);
    let origin = client.subscriptions.origin();
    let (will, unwanted) = if end.wants_will() { (will, None) } else { (None, will) };
    unwanted.into_iter().for_each(UserWill::forget);
    let will = will.map(|will| UserWill { origin, ..will });
    let Client { connection, mut subscriptions, durable, key, .. } = client;
    let mut session = connection.into_session();
    if let Some(durable) = durable {
        set_down(&durable, &mut session, &mut subscriptions);
        if expiry_s > 0 {
            let record = SessionRecord {
                user: key.user,
                client_id: key.client_id.into(),
                expiry_s: u32::try_from(expiry_s).unwrap_or(u32::MAX),
                away_since: Some(shared.broker.now()),
                subscriptions: subscriptions.records(),
            };
            // Lost in a crash, the session counts as left at the restart.
            durable.session.keep(&record, |_| {});
        }
    }
    let kept = Box::new(Kept { session, subscriptions });
    let delay_s = will.as_ref().map_or(0, |will| u64::from(will.will.delay_s)).min(expiry_s);
    let (now, later) = if delay_s == 0 { (will, None) } else { (None, will) };
    if expiry_s > 0 {
        let later = later.map(|will| (Instant::now() + Duration::from_secs(delay_s), will));
        shared.sessions.detach(held, kept, Duration::from_secs(expiry_s), later);
    } else {
        kept.end();
        drop(held);
    }
    shared.count_sessions();
    if let Some(will) = now {
        wills::publish(shared, will);
    }
    reader
}

/// Keeps in memory only what is nowhere else: messages of the log are read again when the client is back.
fn set_down(durable: &Durable, session: &mut Session, subscriptions: &mut Subscriptions) {
    session.received.extend(durable.unreleased());
    for packet in durable.session.packets() {
        session.outgoing.give_up(packet);
        subscriptions.acknowledge(packet);
    }
    durable.session.leave();
}

/// Takes up everything that was kept when the host ended.
pub(crate) fn restore(shared: &Shared) -> Result<Vec<UserWill>, holdfast_broker::RestoreError> {
    let kept = shared.broker.restore_sessions()?;
    let now = shared.broker.now();
    for (topic, kept_at, packet) in kept.retained {
        let publish = crate::translate::unpacked(&packet);
        let restored = publish.is_some_and(|publish| shared.retained.set(&topic, &publish, kept_at).is_ok());
        if !restored {
            tracing::warn!(topic = %crate::plain::Plain(&topic), "a retained message cannot be restored");
        }
    }
    let mut away: Vec<(u32, UnixMillis, u32)> = Vec::new();
    for one in kept.sessions {
        let (stored, mut record) = (one.session, one.record);
        let number = stored.number();
        // One that was connected when the host ended has been away since the host is back.
        let since = record.away_since.unwrap_or(now);
        if !shared.sessions.has_room() {
            tracing::warn!(user = %record.user, max = shared.limits.sessions_max, "there are too many sessions; one that was kept is ended");
        }
        // One whose user is gone would wait for nobody.
        let nobodys = !shared.registry.knows(&record.user);
        if nobodys || rest(since, record.expiry_s, now).is_none() || !shared.sessions.has_room() {
            stored.end(|_| {});
            continue;
        }
        away.push((number, since, record.expiry_s));
        if record.away_since.is_none() {
            record.away_since = Some(now);
            stored.keep(&record, |_| {});
        }
        let mut subscriptions = Subscriptions::of(shared, &record.user, stored);
        subscriptions.restore(shared, &record);
        let received = one.received.into_iter().filter_map(std::num::NonZeroU16::new).collect();
        let session = Session { received, ..Session::default() };
        let left = rest(since, record.expiry_s, now).unwrap_or_default();
        shared.sessions.restore(&record, Box::new(Kept { session, subscriptions }), left);
    }
    let mut due = Vec::new();
    for one in kept.wills {
        let number = one.session.number();
        let Some(will) = UserWill::restored(one) else {
            tracing::warn!(session = number, "a will cannot be restored");
            continue;
        };
        let session = away.iter().find(|(of, ..)| *of == number);
        let left =
            session.and_then(|(_, since, expiry_s)| rest(*since, will.will.delay_s.min(*expiry_s), now));
        match left {
            Some(left) => due.extend(shared.sessions.will_later(number, left, will)),
            None => due.push(will),
        }
    }
    shared.count_sessions();
    Ok(due)
}

/// What is left of a time that began then.
fn rest(since: UnixMillis, seconds: u32, now: UnixMillis) -> Option<Duration> {
    let end = since.0.saturating_add(u64::from(seconds) * 1000);
    end.checked_sub(now.0).filter(|left| *left > 0).map(Duration::from_millis)
}

impl Kept {
    /// The session is over. Lost in a crash, it is found expired again.
    pub(crate) fn end(self) {
        self.end_then(|_| {});
    }

    /// The same; `done` is called when that is recorded, where there is something to record.
    fn end_then(self, done: impl FnOnce(Result<(), Refused>) + Send + 'static) {
        let stored: Option<StoredSession> = self.subscriptions.stored().cloned();
        drop(self);
        match stored {
            Some(stored) => stored.end(done),
            None => done(Ok(())),
        }
    }
}
