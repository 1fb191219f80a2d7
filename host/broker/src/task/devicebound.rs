//! Messages from the cloud, or from an operator, to a child: kept in the child's log until it acknowledges them.

use super::{
    admission::{Refused, check},
    broker::{Broker, Inner},
};
use holdfast_store::{Append, Commit, Entry};
use holdfast_types::{
    Envelope, LogId, Message, Name, Priority, QueueId, Source, SystemKey, UnixMillis, WhenFull,
};
use std::{
    collections::HashMap,
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
        mut message: Message,
        expires: Option<UnixMillis>,
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
        inner.store.commit_when_room(Commit { appends: vec![append], ..Commit::default() }, move |result| {
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
