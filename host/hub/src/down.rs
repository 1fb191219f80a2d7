//! Methods and messages on their way down: to a device that is connected here, or through the edge that it is behind.

use crate::{backend::BackendError, error::HubError, hub::Hub};
use bytes::Bytes;
use holdfast_broker::MethodTimes;
use holdfast_link::{Call, Document, MethodAnswer, MethodRequest};
use holdfast_links::Link;
use holdfast_types::{Identity, Message, Name, UnixMillis};
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// How much longer than the method itself the answer of an edge may take.
pub(crate) const EDGE_TIME: Duration = Duration::from_secs(5);

/// How a method call gets to whom it is for, from this process.
enum WayOfMethods {
    /// It is connected to this process.
    Here,
    /// By the link of an edge.
    Link(Arc<Link>),
    /// It is not there.
    None,
}

impl Hub {
    /// Calls a method of a device that is connected here, or of what is behind an edge.
    ///
    /// # Errors
    /// Nobody answers, in time or at all.
    pub async fn method(
        &self,
        who: &Identity,
        name: &str,
        payload: Value,
        times: MethodTimes,
    ) -> Result<(i32, Value), HubError> {
        self.known(who)?;
        let way = self.way_of_methods(who);
        if matches!(way, WayOfMethods::None)
            && let Some(answer) = self.method_elsewhere(who, name, &payload, times).await
        {
            return answer;
        }
        self.method_by(way, who, name, payload, times).await
    }

    /// The link that leads to somebody, if it is there.
    fn way_through(&self, who: &Identity) -> Option<Arc<Link>> {
        self.directory.way_to(who).and_then(|edge| self.linked(&edge)).filter(|link| link.is_ready())
    }

    fn way_of_methods(&self, who: &Identity) -> WayOfMethods {
        if self.broker.methods().is_served(who) {
            return WayOfMethods::Here;
        }
        self.way_through(who).map_or(WayOfMethods::None, WayOfMethods::Link)
    }

    /// Calls a method of whom this process serves.
    pub(crate) async fn method_here(
        &self,
        who: &Identity,
        name: &str,
        payload: Value,
        times: MethodTimes,
    ) -> Result<(i32, Value), HubError> {
        self.method_by(self.way_of_methods(who), who, name, payload, times).await
    }

    async fn method_by(
        &self,
        way: WayOfMethods,
        who: &Identity,
        name: &str,
        payload: Value,
        times: MethodTimes,
    ) -> Result<(i32, Value), HubError> {
        let WayOfMethods::Link(link) = way else {
            let text = if payload.is_null() { Bytes::new() } else { payload.to_string().into() };
            // Who is not there may come within the time for that.
            let reply = self.broker.methods().call(who, name, text, times).await?;
            let payload = match serde_json::from_slice(&reply.payload) {
                Ok(payload) => payload,
                Err(_) if reply.payload.is_empty() => Value::Null,
                Err(_) => String::from_utf8_lossy(&reply.payload).into_owned().into(),
            };
            return Ok((reply.status, payload));
        };
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let request = MethodRequest {
            target: who.clone(),
            name: name.to_owned(),
            payload,
            response_timeout_s: seconds(times.response),
            connect_timeout_s: seconds(times.connect),
        };
        let body = request.encode().map_err(|fault| HubError::TooLarge(fault.to_string()))?;
        let within = times.response + times.connect + EDGE_TIME;
        let answer = link.call(Call::Method, body, within).await?;
        let answer = MethodAnswer::decode(&answer)
            .map_err(|fault| HubError::Edge { status: 502, why: fault.to_string() })?;
        Ok((answer.status, answer.payload))
    }

    /// Keeps a message for a device until it has it; gives its id when it is durable.
    ///
    /// # Errors
    /// There is no such device, it is too large, too many wait, or it is not stored.
    pub async fn send(
        &self,
        device: &Name,
        message: &Message,
        expires: Option<UnixMillis>,
    ) -> Result<String, HubError> {
        self.known(&Identity::device(device.clone()))?;
        let id = self.devicebound.post(&self.id, device, message, expires, self.now()).await?;
        self.deliver_soon(device);
        Ok(id)
    }

    /// How many messages wait for a device.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub async fn pending(&self, device: &Name) -> Result<usize, HubError> {
        Ok(self.devicebound.pending(device, self.now()).await?.len())
    }

    pub(crate) fn waits_for_devices(&self) -> bool {
        self.devicebound.has_any()
    }

    pub(crate) fn deliver_soon(&self, device: &Name) {
        let (Some(me), device) = (self.me.upgrade(), device.clone()) else { return };
        self.spawn(async move {
            if let Err(error) = me.deliver(&device).await {
                tracing::warn!(%device, %error, "messages of a device wait on");
            }
        });
    }

    /// Hands over what waits for a device, as far as there is somebody to take it.
    async fn deliver(&self, device: &Name) -> Result<(), BackendError> {
        let Some(mut turn) = self.devicebound.turn(device) else { return Ok(()) };
        loop {
            let result = self.deliver_in_turn(device).await;
            // Who came meanwhile may be the device itself, that was not there yet when it was looked for.
            match turn.ends() {
                Some(again) => turn = again,
                None => return result,
            }
        }
    }

    async fn deliver_in_turn(&self, device: &Name) -> Result<(), BackendError> {
        let who = Identity::device(device.clone());
        loop {
            let pending = self.devicebound.pending(device, self.now()).await?;
            if pending.is_empty() {
                return Ok(());
            }
            for (key, message) in pending {
                if self.is_present(&who) {
                    let sent =
                        self.broker.cloud_to_device(device, message.message.into(), message.expires).await;
                    match sent {
                        Err(error) if !error.is_permanent() => return Ok(()),
                        Ok(()) | Err(_) => {}
                    }
                } else if let Some(link) = self.way_through(&who) {
                    if link.hand_over(&message).await.is_err() {
                        return Ok(());
                    }
                } else {
                    return Ok(());
                }
                self.devicebound.remove(&key).await?;
            }
        }
    }

    /// Hands over what waits for devices behind an edge.
    pub(crate) async fn deliver_behind(&self, link: &Link) {
        let waiting = match self.devicebound.waiting().await {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::warn!(edge = %link.edge, %error, "messages to devices wait on");
                return;
            }
        };
        for device in waiting {
            if self.directory.way_to(&Identity::device(device.clone())).as_ref() == Some(&link.edge) {
                self.deliver_soon(&device);
            }
        }
    }
}
