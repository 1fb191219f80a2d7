//! What an IoT Hub wants of the edge: desired changes and messages one after the other, in its order; methods beside one
//! another.

use super::{INBOX_MAX, Incoming, IotHub, bag};
use crate::{peer::TAKEN_BY_NONE, run::random};
use bytes::Bytes;
use holdfast_broker::{MethodTimes, Receipt, Refused};
use holdfast_mqtt::{Publish, hub::topics};
use holdfast_types::{Identity, Message, Name};
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
                        tracing::warn!("a message from the cloud is not taken: {INBOX_MAX} wait already");
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
        let why = format!("{METHODS_MAX} methods are being called at this edge; try again");
        let answer = topics::method_response(BUSY.into(), rid);
        self.line.send(Publish::new(answer, message(&why)));
    }

    async fn method(&self, name: &str, payload: Bytes) -> (i32, Bytes) {
        let (module, method) = name.split_once(SEPARATOR).unwrap_or((AGENT, name));
        let module = match Name::new(module) {
            Ok(module) => module,
            Err(why) => {
                let why = format!("{why}; a method of a module is called MODULE{SEPARATOR}METHOD");
                return (400, message(&why));
            }
        };
        let target = Identity::module(self.edge().clone(), module);
        let times = MethodTimes { response: REPLY_WITHIN, ..MethodTimes::default() };
        match self.broker.methods().call(&target, method, payload, times).await {
            Ok(reply) => (reply.status, reply.payload),
            Err(error) => (error.status().into(), message(&error.to_string())),
        }
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
            match self.broker.cloud_to_edge(message.clone()).await {
                Ok(receipt) if receipt == Receipt::default() => {
                    return self.warn_once("cloud-to-device", TAKEN_BY_NONE);
                }
                Ok(_) => return self.is_well("cloud-to-device"),
                Err(refused) if refused.is_permanent() => {
                    tracing::error!(%refused, "a message from the cloud is dropped");
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

/// As the agent says what is wrong.
fn message(why: &str) -> Bytes {
    json!({ "message": why }).to_string().into()
}
