//! What an IoT Hub wants of a device: desired changes and messages one after the other, in its order; methods beside one
//! another.

use super::{INBOX_MAX, Incoming, IotHub, bag};
use crate::{peer::TAKEN_BY_NONE, run::random};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use holdfast_broker::{MethodTimes, Receipt, Refused};
use holdfast_mqtt::{Publish, hub::topics};
use holdfast_types::{Identity, InvalidName, Message, Name, SystemKey};
use ring::digest;
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::JoinSet, time::sleep};

/// What stands between a module and its method. No name of a module holds it, IoT Hub allows it in the name of a method, and
/// it needs no encoding in a topic.
const SEPARATOR: char = '~';

/// Who answers methods that name no module.
const AGENT: &str = "$edgeAgent";

/// Most methods that are being called at once for the hub; one more is answered 429.
const METHODS_MAX: usize = 64;

/// The longest time for a reply that a caller can ask for at IoT Hub, which does not tell it: a caller with less patience is
/// answered by the hub.
const REPLY_WITHIN: Duration = Duration::from_secs(300);

/// IoT Hub's status for who has too many calls in hand.
const BUSY: u16 = 429;

type Change = (u64, Bytes);
type FromCloud = (Message, Option<holdfast_mqtt::PacketId>);

impl IotHub {
    /// Takes what the hub wants until the line is closed.
    pub(super) async fn take_calls(self: &Arc<Self>) {
        let (to_changes, changes) = mpsc::channel(INBOX_MAX);
        let (to_messages, messages) = mpsc::channel(INBOX_MAX);
        tokio::join!(
            self.hand_out(to_changes, to_messages),
            self.change_in_order(changes),
            self.take_in_order(messages)
        );
    }

    async fn hand_out(self: &Arc<Self>, changes: mpsc::Sender<Change>, messages: mpsc::Sender<FromCloud>) {
        let mut methods = JoinSet::new();
        while let Some(incoming) = self.line.next().await {
            while methods.try_join_next().is_some() {}
            match incoming {
                Incoming::Desired { version, body } => {
                    if changes.try_send((version, body)).is_err() {
                        self.stale.notify_one();
                    }
                }
                // As many can wait as there are that are not acknowledged, which is bounded.
                Incoming::Message { bag, body, id } => {
                    if messages.try_send((bag::message(&bag, body), id)).is_err() {
                        tracing::warn!(device = %self.device(), "a message from the cloud is not taken: {INBOX_MAX} wait already");
                    }
                }
                Incoming::Method { rid, .. } if methods.len() >= METHODS_MAX => self.busy(&rid),
                Incoming::Method { name, rid, body } => {
                    let hub = self.clone();
                    methods.spawn(async move {
                        let (status, body) = hub.method(&name, body).await;
                        hub.line.send(Publish::new(topics::method_response(status, &rid), body));
                    });
                }
            }
        }
    }

    /// A call for which there is no room.
    pub(super) fn busy(&self, rid: &str) {
        let why = format!("{METHODS_MAX} methods of {} are being called; try again", self.device());
        let answer = topics::method_response(BUSY.into(), rid);
        self.line.send(Publish::new(answer, message(&why)));
    }

    async fn method(&self, name: &str, payload: Bytes) -> (i32, Bytes) {
        let (target, method) = match self.method_of(name) {
            Ok(found) => found,
            Err(why) => {
                let why = format!("{why}; a method of a module is called MODULE{SEPARATOR}METHOD");
                return (400, message(&why));
            }
        };
        let times = MethodTimes { response: REPLY_WITHIN, ..MethodTimes::default() };
        match self.broker.methods().call(&target, method, payload, times).await {
            Ok(reply) => (reply.status, reply.payload),
            Err(error) => (error.status().into(), message(&error.to_string())),
        }
    }

    /// Whose method it is, and what it is called there: a child has its own, and the edge those of its modules.
    fn method_of<'a>(&self, name: &'a str) -> Result<(Identity, &'a str), InvalidName> {
        if !self.is_edge() {
            return Ok((self.own(), name));
        }
        let (module, method) = name.split_once(SEPARATOR).unwrap_or((AGENT, name));
        Ok((Identity::module(self.device().clone(), Name::new(module)?), method))
    }

    async fn change_in_order(&self, mut line: mpsc::Receiver<Change>) {
        while let Some((version, body)) = line.recv().await {
            // What came over a connection that has ended is in the twin that the next one asks for.
            if self.line.is_open() {
                self.patch(version, &body).await;
            }
        }
    }

    async fn take_in_order(&self, mut line: mpsc::Receiver<FromCloud>) {
        while let Some((message, id)) = line.recv().await {
            tokio::select! {
                // What is not acknowledged comes again with the next connection.
                () = self.line.closed() => return,
                () = self.take(message) => self.done(id),
            }
        }
    }

    /// Ends when the message is durable, or never will be.
    async fn take(&self, message: Message) {
        let mut backoff = self.new_backoff();
        loop {
            let taken = match self.is_edge() {
                true => self.broker.cloud_to_edge(message.clone()).await.map(Some),
                false => self.queue(message.clone()).await.map(|()| None),
            };
            match taken {
                Ok(Some(receipt)) if receipt == Receipt::default() => {
                    return self.warn_once("cloud-to-device", TAKEN_BY_NONE);
                }
                Ok(_) => return self.is_well("cloud-to-device"),
                Err(refused) if refused.is_permanent() => {
                    tracing::error!(device = %self.device(), %refused, "a message from the cloud is dropped");
                    return;
                }
                Err(Refused::Stopping) => std::future::pending().await,
                Err(refused) => {
                    let text = format!("a message from the cloud is not taken yet: {refused}");
                    self.warn_once("cloud-to-device", &text);
                    sleep(backoff.failed(random())).await;
                }
            }
        }
    }
}

impl IotHub {
    /// Puts a message into the child's queue: once, if it has an identifier by which one that comes again is known.
    async fn queue(&self, message: Message) -> Result<(), Refused> {
        let child = self.device();
        match known_by(&message) {
            Some(id) => self.broker.cloud_to_device_once(child, message, None, &id).await,
            None => self.broker.cloud_to_device(child, message, None).await,
        }
    }
}

/// By what a message is known that comes again: its identifier and what it says, since nobody keeps services from giving one identifier
/// to several messages.
fn known_by(message: &Message) -> Option<String> {
    let id = message.system.value(SystemKey::MessageId)?;
    let mut says = digest::Context::new(&digest::SHA256);
    says.update(&message.body);
    for (name, value) in message.properties.iter() {
        for part in [name, value] {
            says.update(b"\0");
            says.update(part.as_bytes());
        }
    }
    Some(format!("{id} {}", URL_SAFE_NO_PAD.encode(says.finish())))
}

/// As the agent says what is wrong.
fn message(why: &str) -> Bytes {
    json!({ "message": why }).to_string().into()
}
