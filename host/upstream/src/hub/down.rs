//! What the hub calls: changes and messages to devices one after the other, in its order; methods beside one another.

use super::{
    Hub, Identities, Sync,
    port::{CallFault, Incoming},
};
use crate::peer::TAKEN_BY_NONE;
use bytes::Bytes;
use holdfast_broker::{MethodTimes, Receipt, Refused, TwinError};
use holdfast_link::{
    Call, Change, CloudToDevice, Delta, DesiredChange, DesiredForm, Document, DocumentFault, Done,
    MethodAnswer, MethodRequest, Problem, Revision, Status, TwinGet, TwinRecord,
};
use holdfast_types::Identity;
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::JoinSet};

/// Most methods that are being called at once for the hub; one more is answered 429.
const METHODS_MAX: usize = 64;

/// Most calls that wait in one line: as many as the box of the port, which is what bounds them.
const LINE_MAX: usize = 256;

type Failure = (Status, Problem);

fn failure(status: Status, why: impl ToString) -> Failure {
    (status, Problem::new(why.to_string()))
}

fn malformed(fault: DocumentFault) -> Failure {
    match fault {
        DocumentFault::TooLarge { .. } => failure(Status::TOO_LARGE, fault),
        fault => failure(Status::BAD, fault),
    }
}

impl Hub {
    /// Takes the calls of the hub until the port is closed.
    pub(super) async fn take_calls(self: &Arc<Self>) {
        let (to_changes, changes) = mpsc::channel(LINE_MAX);
        let (to_children, children) = mpsc::channel(LINE_MAX);
        tokio::join!(
            self.hand_out(to_changes, to_children),
            self.change_in_order(changes),
            self.send_in_order(children)
        );
    }

    async fn hand_out(self: &Arc<Self>, changes: mpsc::Sender<Incoming>, children: mpsc::Sender<Incoming>) {
        let mut methods = JoinSet::new();
        while let Some(incoming) = self.port.next().await {
            while methods.try_join_next().is_some() {}
            let line = match incoming.call {
                Call::Delta | Call::Desired => Some(&changes),
                Call::CloudToDevice => Some(&children),
                _ => None,
            };
            if let Some(line) = line {
                if let Err(
                    mpsc::error::TrySendError::Full(incoming) | mpsc::error::TrySendError::Closed(incoming),
                ) = line.try_send(incoming)
                {
                    let why = format!("{LINE_MAX} calls wait at this edge; try again");
                    self.port.answer(incoming, Err::<Done, _>(failure(Status::BUSY, why)));
                }
            } else if methods.len() >= METHODS_MAX {
                let why = format!("{METHODS_MAX} methods are being called at this edge; try again");
                self.port.answer(incoming, Err::<Done, _>(failure(Status::BUSY, why)));
            } else {
                let hub = self.clone();
                methods.spawn(async move {
                    let answer = hub.method(&incoming.body).await;
                    hub.port.answer(incoming, answer);
                });
            }
        }
    }

    async fn change_in_order(&self, mut line: mpsc::Receiver<Incoming>) {
        while let Some(incoming) = line.recv().await {
            // What came over a connection that has ended is told anew by the next one.
            if !self.port.is_open() {
                continue;
            }
            let answer = match incoming.call {
                Call::Delta => self.delta(&incoming.body).await,
                _ => self.desired(&incoming.body).await,
            };
            self.port.answer(incoming, answer);
        }
    }

    async fn send_in_order(&self, mut line: mpsc::Receiver<Incoming>) {
        while let Some(incoming) = line.recv().await {
            if !self.port.is_open() {
                continue;
            }
            let answer = self.to_child(&incoming.body).await;
            self.port.answer(incoming, answer);
        }
    }

    async fn delta(&self, body: &[u8]) -> Result<Revision, Failure> {
        let delta = Delta::decode(body).map_err(malformed)?;
        let mut known = self.known.lock().await;
        let Some(hub) = known.hub.clone() else {
            return Err(failure(Status::UNAVAILABLE, "this edge has not been synchronised yet"));
        };
        if delta.revision <= known.revision {
            return Ok(Revision { revision: known.revision });
        }
        if delta.from != known.revision {
            // Something was missed. What is fetched now holds this change too.
            self.fetch(&hub, &mut known).await.map_err(|fault| failure(Status::FAILED, fault))?;
            return Ok(Revision { revision: known.revision });
        }
        let (mut changes, mut settings, mut deployment, mut below) = (Vec::new(), None, None, Vec::new());
        for change in delta.changes {
            match change {
                Change::Settings(new) => settings = Some(new),
                Change::Deployment(new) => deployment = Some(new),
                Change::Below(new) => below.push(new),
                change => changes.push(change),
            }
        }
        let added: Vec<Identity> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Identity(record) => Some(record.identity.clone()),
                _ => None,
            })
            .collect();
        let mut new = known.clone();
        new.revision = delta.revision;
        let sync = Sync { identities: Identities::Changes(changes), settings, below, known: new.clone() };
        self.apply(sync).await.map_err(|why| failure(Status::FAILED, why))?;
        *known = new;
        drop(known);
        if let Some(deployment) = deployment {
            self.order(deployment);
        }
        for who in &added {
            self.fetch_twin(who).await.map_err(|fault| failure(Status::FAILED, fault))?;
        }
        Ok(Revision { revision: delta.revision })
    }

    /// Takes the twin of an identity as the hub has it.
    async fn fetch_twin(&self, who: &Identity) -> Result<(), CallFault> {
        match self.port.call::<TwinRecord>(Call::TwinGet, &TwinGet { identity: who.clone() }).await {
            Ok(twin) => {
                self.take_twin(twin).await;
                Ok(())
            }
            Err(fault) if Self::is_unknown(&fault) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    async fn desired(&self, body: &[u8]) -> Result<Revision, Failure> {
        let change = DesiredChange::decode(body).map_err(malformed)?;
        let (twins, who) = (self.broker.twins(), &change.identity);
        let failed = |error: TwinError| failure(Status(error.status()), error);
        let here = twins.read(who).map_err(failed)?;
        if change.version > here.desired_version {
            match change.form {
                DesiredForm::Document(document) => {
                    twins.replace_desired(who, document.into(), change.version).await.map_err(failed)?;
                }
                DesiredForm::Patch(patch) if change.version == here.desired_version.saturating_add(1) => {
                    twins.desire(who, patch.into()).await.map_err(failed)?;
                }
                // A change before this one was missed.
                DesiredForm::Patch(_) => {
                    self.fetch_twin(who).await.map_err(|fault| failure(Status::FAILED, fault))?;
                }
            }
        }
        let version = twins.read(who).map_err(failed)?.desired_version;
        Ok(Revision { revision: version })
    }

    async fn method(&self, body: &[u8]) -> Result<MethodAnswer, Failure> {
        let request = MethodRequest::decode(body).map_err(malformed)?;
        let seconds = |n: u32| Duration::from_secs(n.into());
        let times = MethodTimes {
            response: seconds(request.response_timeout_s),
            connect: seconds(request.connect_timeout_s),
        };
        let payload = match &request.payload {
            Value::Null => Bytes::new(),
            value => value.to_string().into(),
        };
        let called = self.broker.methods().call(&request.target, &request.name, payload, times).await;
        let reply = called.map_err(|error| failure(Status(error.status()), error))?;
        let text = || Value::from(String::from_utf8_lossy(&reply.payload).into_owned());
        let payload = match reply.payload.as_ref() {
            [] => Value::Null,
            bytes => serde_json::from_slice(bytes).unwrap_or_else(|_| text()),
        };
        Ok(MethodAnswer { status: reply.status, payload })
    }

    async fn to_child(&self, body: &[u8]) -> Result<Done, Failure> {
        let CloudToDevice { target, id, expires, message } =
            CloudToDevice::decode(body).map_err(malformed)?;
        if target.module.is_some() {
            let why = format!("{target} is a module; messages go to devices only");
            return Err(failure(Status::NOT_FOUND, why));
        }
        let sent = if target.device == *self.edge() {
            let taken = self.broker.cloud_to_edge_once(message.into(), expires, &id).await;
            taken.map(|receipt| {
                if receipt == Some(Receipt::default()) {
                    tracing::warn!(id, "{TAKEN_BY_NONE}");
                }
            })
        } else {
            self.broker.cloud_to_device_once(&target.device, message.into(), expires, &id).await
        };
        match sent {
            Ok(()) => Ok(Done {}),
            Err(refused) => {
                let status = match &refused {
                    Refused::Stopping => Status::UNAVAILABLE,
                    Refused::TooManyPending { .. } | Refused::NoRoom => Status::BUSY,
                    Refused::NotRecorded(_) => Status::FAILED,
                    _ => Status::BAD,
                };
                Err(failure(status, refused))
            }
        }
    }
}
