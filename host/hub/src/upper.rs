//! What the links of edges ask of the hub, and where their telemetry goes.

use crate::{
    backend::{Backend, Batch, Progress},
    hub::Hub,
};
use holdfast_link::Call;
use holdfast_links::{Answered, Appended, Ingest, Keeps, Link, Upper};
use holdfast_types::{Name, Soon, UnixMillis};
use std::sync::Arc;

impl Upper for Hub {
    fn answer<'a>(
        &'a self,
        link: &'a Arc<Link>,
        ingest: &'a Arc<Ingest>,
        call: Call,
        body: &'a [u8],
    ) -> Soon<'a, Answered> {
        Box::pin(self.answer_call(link, ingest, call, body))
    }

    fn changes(&self) -> u64 {
        self.directory.changes()
    }

    fn may_speak_for(&self, edge: &Name, device: &Name) -> bool {
        self.directory.may_speak_for(edge, device)
    }

    fn has_post(&self) -> bool {
        self.waits_for_devices()
    }

    fn deliver_through<'a>(&'a self, link: &'a Arc<Link>) -> Soon<'a, ()> {
        Box::pin(self.deliver_behind(link))
    }

    fn link_ended(&self, link: &Arc<Link>) {
        self.forget_link(link);
    }

    fn now(&self) -> UnixMillis {
        self.broker.now()
    }

    fn spawn(&self, task: Soon<'static, ()>) {
        self.tasks.spawn(task);
    }
}

/// The stream of the hub, as the ingest of an edge sees it.
pub(crate) struct Stream(pub(crate) Arc<dyn Backend>);

impl Keeps for Stream {
    fn append(&self, batch: Batch, done: Appended) {
        self.0.append(batch, Box::new(move |result| done(result.map_err(|error| error.to_string()))));
    }

    fn progress<'a>(&'a self, edge: &'a Name) -> Soon<'a, Result<Vec<Progress>, String>> {
        Box::pin(async move { self.0.progress(edge).await.map_err(|error| error.to_string()) })
    }
}
