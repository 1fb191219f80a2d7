//! What the gateway asks of the hub.

use crate::{
    backend::{BackendError, Batch, Event, Origin},
    hub::{Hub, lock},
};
use holdfast_broker::{Done, Receipt, Refused, Twin, TwinError};
use holdfast_gateway::{Above, EdgeLink, Links, TwinAnswer};
use holdfast_links::{Link, Upper};
use holdfast_types::{Envelope, Identity, Message, Name, Source};
use serde_json::Value;
use std::sync::Arc;

impl Above for Hub {
    fn telemetry(&self, from: &Identity, mut message: Message, done: Done) {
        let received = self.now();
        message.system.creation_time.get_or_insert(received);
        let source = Source::Child { child: from.device.clone(), topic: None };
        let envelope = Arc::new(Envelope { message, source, received, hops: 0 });
        let batch = Batch {
            events: vec![Event { envelope, origin: Origin::Direct, brought: None }],
            ..Batch::default()
        };
        let appended = |result: Result<(), BackendError>| {
            done(match result {
                Ok(()) => Ok(Receipt { durable: 1, ..Receipt::default() }),
                Err(BackendError::Stopping) => Err(Refused::Stopping),
                Err(BackendError::Refused(why)) => Err(Refused::CannotBeRecorded(why)),
                Err(error) => Err(Refused::NotRecorded(error.to_string())),
            });
        };
        self.backend.append(batch, Box::new(appended));
    }

    fn twin(&self, who: &Identity) -> TwinAnswer<Twin> {
        let (me, who) = (self.me.upgrade(), who.clone());
        Box::pin(async move {
            let hub = me.ok_or(TwinError::Stopping)?;
            Ok(hub.twins.get(&who).await?.into())
        })
    }

    fn report(&self, who: &Identity, patch: Value, version: Option<u64>) -> TwinAnswer<u64> {
        let (me, who) = (self.me.upgrade(), who.clone());
        Box::pin(async move {
            let hub = me.ok_or(TwinError::Stopping)?;
            hub.twins.report(&who, patch, version).await
        })
    }

    fn present(&self, who: &Identity, present: bool) {
        let mut all = lock(&self.present);
        let count = all.entry(who.clone()).or_default();
        *count = if present { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            all.remove(who);
        }
        let is_here = all.contains_key(who);
        drop(all);
        if who.module.is_none() && self.peers.is_some() {
            match is_here {
                true => self.attend(&who.device),
                false => drop(lock(&self.attended).remove(&who.device)),
            }
        }
        if present && who.module.is_none() && self.waits_for_devices() {
            self.deliver_soon(&who.device);
        }
    }
}

impl Links for Hub {
    fn link(&self, edge: &Name) -> Result<EdgeLink, String> {
        if !self.following.is_whole() {
            return Err(
                "this hub has not got the whole registry of its primary yet; it lets edges in when it has"
                    .to_owned(),
            );
        }
        let device = self.directory.get(&Identity::device(edge.clone()));
        if !device.as_ref().is_some_and(|device| device.edge) {
            return Err(format!(
                "{edge} is no edge at this hub; `holdfast hub device set {edge} --edge` makes it one"
            ));
        }
        if let Some(parent) = device.as_ref().and_then(|device| device.parent.as_ref()) {
            return Err(format!(
                "{edge} is a child of the edge {parent}; let it connect there, or take it away: `holdfast hub device set {edge} \
                 --no-parent`"
            ));
        }
        let hub = self.me.upgrade().ok_or_else(|| "the hub is stopping".to_owned())?;
        let ingest = self.ingest(edge);
        let upper: Arc<dyn Upper> = hub;
        Ok(Link::open(edge, &upper, ingest, |link| lock(&self.links).insert(edge.clone(), link.clone())))
    }
}
