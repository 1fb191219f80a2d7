//! Messages from the cloud, or from an operator, to a child: kept in the child's log until it acknowledges them. One to the
//! edge itself enters its routes.

use super::{
    admission::{Receipt, Refused, check},
    broker::{Broker, Inner},
};
use crate::core::decide::topic_from_above;
use holdfast_store::{Append, Commit, DocumentWrite, Entry};
use holdfast_types::{
    Envelope, LogId, Message, Name, Priority, QueueId, Source, SystemKey, UnixMillis, WhenFull,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::oneshot;

/// Most bytes of such a message, body and properties together: 64 KiB (IoT Hub quotas).
pub const DEVICEBOUND_BYTES_MAX: usize = 64 * 1024;

/// Most messages that wait for one child (IoT Hub: 50).
pub const DEVICEBOUND_PENDING_MAX: usize = 50;

/// The longest life of such a message: two days (IoT Hub). One that says nothing has it.
pub const DEVICEBOUND_LIFE_MAX: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// Identifiers of messages from a hub that are remembered for each child: twice as many as may wait, and a hub sends
/// those that wait in their order.
pub const DEVICEBOUND_IDS_KEPT: usize = 2 * DEVICEBOUND_PENDING_MAX;

/// Where they are: `{"v":1,"ids":[…]}` under the name of the child.
const IDS_SPACE: &str = "devicebound/ids";
const IDS_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Ids {
    v: u32,
    ids: VecDeque<String>,
}

/// The identifiers of a receiver as they were, and with a new one.
struct IdWrites {
    before: DocumentWrite,
    after: DocumentWrite,
}

/// Most messages that wait for one child when those are counted that have expired behind ones that have not.
const RECORDED_MAX: u64 = 1000;

/// Who sends such messages: the part of the edge that stands for the hub, by the name that IoT Edge gives it.
const SENDER: &str = "$edgeHub";

/// Messages of each child that are not yet on disk; they count as waiting.
#[derive(Default)]
pub(crate) struct Devicebound(Mutex<HashMap<Name, usize>>);

impl Devicebound {
    fn under_way(&self) -> MutexGuard<'_, HashMap<Name, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self, child: &Name) {
        let mut under_way = self.under_way();
        if let Some(count) = under_way.get_mut(child) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                under_way.remove(child);
            }
        }
    }
}

impl Broker {
    /// Records a message for a child, behind those that wait for it. It is read with the reader of
    /// [`LogId::child`], in order, and waits until the child acknowledges it, or until it expires: after two days at
    /// the latest. Answers when it is on disk.
    pub async fn cloud_to_device(
        &self,
        child: &Name,
        message: Message,
        expires: Option<UnixMillis>,
    ) -> Result<(), Refused> {
        self.record_devicebound(child, message, expires, Vec::new()).await
    }

    /// The same for a hub, which sends a message again under its `id` until it has heard that it was recorded: what is
    /// among the last [`DEVICEBOUND_IDS_KEPT`] of the child is not taken again. The identifiers are recorded with the
    /// message. One call at a time for each child.
    pub async fn cloud_to_device_once(
        &self,
        child: &Name,
        message: Message,
        expires: Option<UnixMillis>,
        id: &str,
    ) -> Result<(), Refused> {
        let Some(ids) = self.with_new_id(child, id)? else { return Ok(()) };
        let recorded = self.record_devicebound(child, message, expires, vec![ids.after]).await;
        if recorded == Err(Refused::NoRoom) {
            // The log had no room and dropped it, but the identifier stands.
            let commit = Commit { documents: vec![ids.before], ..Commit::default() };
            self.inner.store.commit_when_room(commit, |_| {});
        }
        recorded
    }

    /// Takes a message for this edge itself: it enters the routes, and subscribers get it, as one that the edge published to
    /// `devices/{edge}/messages/devicebound`; it does not go up again. Answers as [`Broker::publish`] does.
    pub async fn cloud_to_edge(&self, message: Message) -> Result<Receipt, Refused> {
        let edge = self.edge();
        let source = Source::Child { child: edge.clone(), topic: topic_from_above(edge) };
        self.publish(source, message).await
    }

    /// The same for a hub, as [`cloud_to_device_once`](Self::cloud_to_device_once); none if it was taken before. The identifier is
    /// recorded behind the message: where the process is killed between the two, the message comes twice.
    pub async fn cloud_to_edge_once(
        &self,
        message: Message,
        expires: Option<UnixMillis>,
        id: &str,
    ) -> Result<Option<Receipt>, Refused> {
        let Some(ids) = self.with_new_id(self.edge(), id)? else { return Ok(None) };
        if expires.is_some_and(|expires| expires <= self.inner.clock.now()) {
            return Err(Refused::Expired);
        }
        let receipt = self.cloud_to_edge(message).await?;
        // Who no longer waits is told again of the message, and then takes it twice.
        let DocumentWrite { space, key, value } = ids.after;
        self.documents().write(&space, &key, value).await?;
        Ok(Some(receipt))
    }

    /// The identifiers that are remembered for a receiver, without and with a new one; none if it is among them.
    fn with_new_id(&self, receiver: &Name, id: &str) -> Result<Option<IdWrites>, Refused> {
        let unreadable = |why: String| Refused::NotRecorded(why);
        let before = self.inner.store.document(IDS_SPACE, receiver);
        let before = before.map_err(|error| unreadable(error.to_string()))?;
        let mut ids = match &before {
            None => Ids { v: IDS_VERSION, ids: VecDeque::new() },
            Some(bytes) => serde_json::from_slice::<Ids>(bytes).map_err(|error| {
                unreadable(format!("the identifiers of messages to {receiver} cannot be read: {error}"))
            })?,
        };
        if ids.ids.iter().any(|known| known == id) {
            return Ok(None);
        }
        ids.ids.push_back(id.to_owned());
        while ids.ids.len() > DEVICEBOUND_IDS_KEPT {
            ids.ids.pop_front();
        }
        let write = |value| DocumentWrite { space: IDS_SPACE.into(), key: receiver.text().clone(), value };
        // Texts always have a JSON form.
        let after = Some(serde_json::to_vec(&ids).unwrap_or_default().into());
        Ok(Some(IdWrites { before: write(before), after: write(after) }))
    }

    async fn record_devicebound(
        &self,
        child: &Name,
        mut message: Message,
        expires: Option<UnixMillis>,
        documents: Vec<DocumentWrite>,
    ) -> Result<(), Refused> {
        check(&message, 0)?;
        let bytes = message.size_bytes();
        if bytes > DEVICEBOUND_BYTES_MAX {
            return Err(Refused::BodyTooLarge { bytes, max: DEVICEBOUND_BYTES_MAX });
        }
        let inner = &self.inner;
        let received = inner.clock.now();
        let life = u64::try_from(DEVICEBOUND_LIFE_MAX.as_millis()).unwrap_or(u64::MAX);
        let last = UnixMillis(received.0.saturating_add(life));
        let expires = expires.map_or(last, |expires| expires.min(last));
        if expires <= received {
            return Err(Refused::Expired);
        }
        message.system.creation_time.get_or_insert(received);
        if message.system.value(SystemKey::To).is_none() {
            message.system.set(SystemKey::To, &format!("/devices/{child}/messages/devicebound"));
        }
        let module = Name::new(SENDER).unwrap_or_else(|_| inner.edge.clone());
        let source = Source::Module { module, output: None };
        let entry = Entry {
            envelope: Arc::new(Envelope { message, source, received, hops: 0 }),
            input: None,
            route: "cloud-to-device".into(),
            expires: Some(expires),
            addressed: None,
        };
        let queue = QueueId { log: LogId::child(child), priority: Priority::DEFAULT };
        let (answer, wait) = oneshot::channel();
        {
            // From the count until the store has the commit, so that nobody takes the same room.
            let mut under_way = inner.devicebound.under_way();
            let count = under_way.entry(child.clone()).or_default();
            inner.check_room(&queue, received, *count)?;
            *count += 1;
        }
        let append = Append { queue, entry, when_full: WhenFull::DropNewest };
        let (ended, child) = (inner.clone(), child.clone());
        let commit = Commit { appends: vec![append], documents, ..Commit::default() };
        inner.store.commit_when_room(commit, move |result| {
            let (recorded, durable, _) = ended.recorded(result);
            ended.devicebound.ended(&child);
            // A sender that no longer waits is no fault: the record stands.
            let _ = answer.send(recorded.and(if durable == 1 { Ok(()) } else { Err(Refused::NoRoom) }));
        });
        wait.await.unwrap_or(Err(Refused::Stopping))
    }
}

impl Inner {
    fn check_room(&self, queue: &QueueId, now: UnixMillis, under_way: usize) -> Result<(), Refused> {
        let full = Refused::TooManyPending { max: DEVICEBOUND_PENDING_MAX };
        let recorded = self.store.tail(queue).0.saturating_sub(self.store.cursor(queue).0);
        if recorded as usize + under_way < DEVICEBOUND_PENDING_MAX {
            return Ok(());
        }
        if recorded == 0 || recorded >= RECORDED_MAX {
            return Err(full);
        }
        let waiting = self.store.peek(queue, None, RECORDED_MAX as usize);
        let waiting = waiting.map_err(|error| Refused::NotRecorded(error.to_string()))?;
        let living = waiting.iter().filter(|stored| stored.entry.expires.is_none_or(|at| at > now)).count();
        if living + under_way < DEVICEBOUND_PENDING_MAX { Ok(()) } else { Err(full) }
    }
}
