//! The demo's device: an MQTT 3.1.1 client that publishes numbered readings and notes which ones were acknowledged.

use crate::wire::Wire;
use anyhow::{Context, bail};
use holdfast_mqtt::{Connect, Packet, PacketId, Publish, QoS, ReasonCode, Version};
use holdfast_net::{HostName, Settings, Target, Timeouts, Way, dial};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::{interval, sleep};
use tokio_util::sync::CancellationToken;

/// The device's user name and the topic it publishes to.
pub const USER: &str = "sensor-1";
/// Its password, in the demo's own configuration and nowhere else.
pub const PASSWORD: &str = "demo";
/// Where it publishes.
pub const TOPIC: &str = "plant/line-1/temperature";

/// Between two readings.
const PERIOD: Duration = Duration::from_millis(5);
/// Readings that may wait for their acknowledgement. Those are sent again after a lost connection.
const WINDOW: u64 = 50;
/// Before a new connection is tried.
const RETRY: Duration = Duration::from_millis(200);

/// What the device has done so far.
#[derive(Clone, Default)]
pub struct Tally(Arc<Numbers>);

#[derive(Default)]
struct Numbers {
    sent: AtomicU64,
    acknowledged: AtomicU64,
}

impl Tally {
    /// The number of the last reading that was sent.
    pub fn sent(&self) -> u64 {
        self.0.sent.load(Ordering::Acquire)
    }

    /// The number of the last reading that was acknowledged; so were all before it.
    pub fn acknowledged(&self) -> u64 {
        self.0.acknowledged.load(Ordering::Acquire)
    }
}

/// Publishes until `stop`, then waits for what is under way. Connects anew whenever the connection is lost.
pub async fn publish(edge: SocketAddr, tally: Tally, stop: CancellationToken) {
    while session(edge, &tally, &stop).await.is_err() {
        sleep(RETRY).await;
    }
}

async fn session(edge: SocketAddr, tally: &Tally, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut wire = connect(edge).await?;
    let numbers = &tally.0;
    // What had not been acknowledged when the connection was lost is sent again, in order.
    let mut next = tally.acknowledged() + 1;
    let mut clock = interval(PERIOD);
    loop {
        let acknowledged = tally.acknowledged();
        let stopping = stop.is_cancelled();
        if stopping && acknowledged == tally.sent() {
            return Ok(());
        }
        tokio::select! {
            _ = clock.tick(), if next <= acknowledged + WINDOW && (!stopping || next <= tally.sent()) => {
                wire.push(&reading(next)?)?;
                wire.flush().await?;
                numbers.sent.fetch_max(next, Ordering::AcqRel);
                next += 1;
            }
            packet = wire.receive() => match packet? {
                // Acknowledgements come in the order of the messages (MQTT-4.6.0-2).
                Packet::PubAck(ack) if ack.packet_id == packet_id(acknowledged + 1)? => {
                    numbers.acknowledged.store(acknowledged + 1, Ordering::Release);
                }
                Packet::PubAck(ack) => bail!("an acknowledgement came out of order: {}", ack.packet_id),
                _ => {}
            },
            () = stop.cancelled(), if !stopping => {}
        }
    }
}

async fn connect(edge: SocketAddr) -> anyhow::Result<Wire> {
    let target = Target::new(HostName::Ip(edge.ip()), edge.port(), Way::Tcp, Settings::of_section("demo"));
    let mut wire = Wire::client(dial(&target, Timeouts::default()).await?, Version::V311);
    let mut connect = Connect::new(Version::V311, USER);
    connect.user_name = Some(USER.into());
    connect.password = Some(PASSWORD.into());
    wire.push(&Packet::Connect(Box::new(connect)))?;
    wire.flush().await?;
    match wire.receive().await? {
        Packet::ConnAck(answer) if answer.reason == ReasonCode::Success => Ok(wire),
        other => bail!("the edge did not take the device: {}", other.name()),
    }
}

/// Packet ids go round below 65,535, far beyond the window.
fn packet_id(number: u64) -> anyhow::Result<PacketId> {
    let id = u16::try_from(number % 60_000 + 1)?;
    PacketId::new(id).context("a packet id is not 0")
}

fn reading(number: u64) -> anyhow::Result<Packet> {
    let celsius = 20.0 + (number as f64 / 50.0).sin() * 5.0;
    let body = format!("{{\"number\":{number},\"celsius\":{celsius:.2}}}");
    let mut publish = Publish::new(TOPIC, body);
    publish.qos = QoS::AtLeastOnce;
    publish.packet_id = Some(packet_id(number)?);
    Ok(Packet::Publish(publish))
}
