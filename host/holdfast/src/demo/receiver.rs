//! The demo's receiver: the broker side of one connection, which acknowledges every message and keeps the account.

use super::proof::{Arrival, Ledger};
use crate::wire::Wire;
use holdfast_mqtt::{Ack, ConnAck, Packet, Publish, ReasonCode};
use holdfast_net::Listener;
use serde_json::Value;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The account, shared with the screen.
#[derive(Clone, Default)]
pub struct Account(Arc<Mutex<Ledger>>);

impl Account {
    /// The account, to look at or to write to.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes connections until the task is dropped.
pub async fn receive(listener: Listener, account: Account) {
    while let Ok(incoming) = listener.accept().await {
        let Ok(stream) = incoming.handshake(Duration::from_secs(5)).await else { continue };
        // One edge connects at a time; a cut connection ends with an error, which is what the demo is about.
        let account = account.clone();
        tokio::spawn(async move {
            let _ = serve(Wire::server(stream), &account).await;
        });
    }
}

async fn serve(mut wire: Wire, account: &Account) -> anyhow::Result<()> {
    loop {
        let mut next = Some(wire.receive().await?);
        while let Some(packet) = next {
            match packet {
                Packet::Connect(_) => {
                    wire.push(&Packet::ConnAck(Box::new(ConnAck::new(ReasonCode::Success))))?;
                }
                Packet::PingReq => wire.push(&Packet::PingResp)?,
                Packet::Publish(publish) => {
                    if let Some(arrival) = arrival(&publish) {
                        account.ledger().take(&arrival);
                    }
                    if let Some(id) = publish.packet_id {
                        wire.push(&Packet::PubAck(Ack::new(id)))?;
                    }
                }
                Packet::Disconnect(_) => return Ok(()),
                _ => {}
            }
            next = wire.buffered()?;
        }
        wire.flush().await?;
    }
}

/// The stable id, the source and the number of a message, from its user properties and its body.
fn arrival(publish: &Publish) -> Option<Arrival> {
    let properties = &publish.properties.as_ref()?.user_properties;
    let property = |name: &str| properties.iter().find(|(k, _)| &**k == name).map(|(_, v)| &**v);
    let (series, sequence) = property("holdfast-id")?.rsplit_once('/')?;
    let body: Option<Value> = serde_json::from_slice(&publish.payload).ok();
    let number = body.as_ref().and_then(|body| body.get("number")).and_then(Value::as_u64);
    Some(Arrival {
        series: series.to_owned(),
        sequence: sequence.parse().ok()?,
        source: property("holdfast-source")?.to_owned(),
        number,
    })
}
