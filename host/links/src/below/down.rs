//! Methods and messages on their way down through edges below.

use super::{Below, lock, subtree};
use crate::link::{CallFault, Link};
use bytes::Bytes;
use holdfast_broker::{MethodError, MethodReply, MethodTimes, MethodWay, Reader, WayAnswer};
use holdfast_link::{Call, CloudToDevice, Document, MethodAnswer, MethodRequest, Status};
use holdfast_types::{Identity, LogId, Name, Text};
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// How much longer than the method itself the answer of the edge below may take.
const EDGE_TIME: Duration = Duration::from_secs(5);

/// Messages read at once of one device.
const AT_ONCE: usize = 10;

impl MethodWay for Below {
    fn call(&self, target: &Identity, name: &str, payload: Bytes, times: MethodTimes) -> Option<WayAnswer> {
        self.next_edge(&target.device)?;
        let (link, target, name) = (self.way_to(&target.device), target.clone(), Text::from(name));
        Some(Box::pin(async move {
            let Some(link) = link else { return Err(MethodError::NotConnected { target }) };
            let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
            let text = || Value::from(String::from_utf8_lossy(&payload).into_owned());
            let payload = match payload.as_ref() {
                [] => Value::Null,
                bytes => serde_json::from_slice(bytes).unwrap_or_else(|_| text()),
            };
            let request = MethodRequest {
                target: target.clone(),
                name: name.to_string(),
                payload,
                response_timeout_s: seconds(times.response),
                connect_timeout_s: seconds(times.connect),
            };
            let too_large = |_| MethodError::PayloadTooLarge { bytes: holdfast_link::BODY_BYTES_MAX };
            let body = request.encode().map_err(too_large)?;
            let within = times.response + times.connect + EDGE_TIME;
            let gone = || MethodError::Gone { target: target.clone(), name: name.clone() };
            let answer = match link.call(Call::Method, body, within).await {
                Ok(answer) => MethodAnswer::decode(&answer).map_err(|_| gone())?,
                Err(CallFault::Refused { status, .. }) if status == Status::NOT_FOUND.0 => {
                    return Err(MethodError::NotConnected { target });
                }
                Err(CallFault::Refused { status, .. }) if status == Status::BUSY.0 => {
                    return Err(MethodError::Busy { target });
                }
                Err(CallFault::TimedOut { .. }) => {
                    let seconds = times.response.as_secs();
                    return Err(MethodError::TimedOut { target, name, seconds });
                }
                Err(_) => return Err(gone()),
            };
            let payload =
                if answer.payload.is_null() { Bytes::new() } else { answer.payload.to_string().into() };
            Ok(MethodReply { status: answer.status, payload })
        }))
    }
}

impl Below {
    /// Hands over what waits here for devices behind an edge.
    pub(super) async fn deliver(&self, link: &Arc<Link>) {
        if !link.is_ready() {
            return;
        }
        let is_device = |device: &&Arc<holdfast_auth::Device>| device.identity.module.is_none();
        for device in subtree(self, &link.edge).iter().filter(is_device) {
            let name = &device.identity.device;
            self.ring_for(name);
            let log = LogId::child(name);
            let waits = self.broker.store().positions(&log).iter().any(|one| one.cursor < one.tail);
            if waits && !self.hand_over(link, name, self.broker.reader(log)).await {
                return;
            }
        }
    }

    /// What is recorded for a device behind an edge is handed over at once.
    fn ring_for(&self, device: &Name) {
        if !lock(&self.rings).insert(device.clone()) {
            return;
        }
        let (me, name) = (self.me.clone(), device.clone());
        let ring = move || {
            if let Some(link) = me.upgrade().and_then(|below| below.way_to(&name)) {
                link.has_post();
            }
        };
        self.broker.store().on_append(&LogId::child(device), Arc::new(ring));
    }

    /// In order. Each message keeps its identity of this log, so that one that is handed over twice is taken once. Gives
    /// whether the edge still takes messages.
    async fn hand_over(&self, link: &Link, device: &Name, mut reader: Reader) -> bool {
        loop {
            let waiting = match reader.take(AT_ONCE) {
                Ok(waiting) if waiting.is_empty() => return true,
                Ok(waiting) => waiting,
                Err(error) => {
                    tracing::error!(%device, %error, "messages to a device wait on");
                    return true;
                }
            };
            for delivery in waiting {
                let Some(id) = &delivery.id else { continue };
                let message = CloudToDevice {
                    target: Identity::device(device.clone()),
                    id: format!("{id}/{device}"),
                    expires: delivery.expires,
                    message: (&delivery.envelope.message).into(),
                };
                if let Err(fault) = link.hand_over(&message).await {
                    return !matches!(fault, CallFault::Away(_));
                }
                reader.ack([delivery.ticket]);
            }
        }
    }
}
