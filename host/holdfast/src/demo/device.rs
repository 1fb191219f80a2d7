//! The demo's device: an MQTT 3.1.1 client that publishes numbered readings and notes which ones were acknowledged.

use crate::wire::Wire;
use anyhow::{Context, bail};
use holdfast_mqtt::{Connect, Packet, PacketId, Publish, QoS, ReasonCode, Version};
use holdfast_net::{HostName, Settings, Target, Timeouts, Way, dial};
use std::{
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, interval, sleep, timeout};
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
/// How long an answer is waited for: nobody says so when an edge is gone whose system is gone with it, or does not tell.
const PATIENCE: Duration = Duration::from_secs(15);

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
    publish_with(edge, tally, stop, PATIENCE).await;
}

async fn publish_with(edge: SocketAddr, tally: Tally, stop: CancellationToken, patience: Duration) {
    while session(edge, &tally, &stop, patience).await.is_err() {
        sleep(RETRY).await;
    }
}

async fn session(
    edge: SocketAddr,
    tally: &Tally,
    stop: &CancellationToken,
    patience: Duration,
) -> anyhow::Result<()> {
    let mut wire = timeout(patience, connect(edge)).await.context("the edge did not greet")??;
    let numbers = &tally.0;
    // What had not been acknowledged when the connection was lost is sent again, in order.
    let mut next = tally.acknowledged() + 1;
    let mut clock = interval(PERIOD);
    let mut silence = pin!(sleep(patience));
    loop {
        let acknowledged = tally.acknowledged();
        let stopping = stop.is_cancelled();
        if stopping && acknowledged == tally.sent() {
            return Ok(());
        }
        tokio::select! {
            _ = clock.tick(), if next <= acknowledged + WINDOW && (!stopping || next <= tally.sent()) => {
                if next == acknowledged + 1 {
                    silence.as_mut().reset(Instant::now() + patience);
                }
                wire.push(&reading(next)?)?;
                wire.flush().await?;
                numbers.sent.fetch_max(next, Ordering::AcqRel);
                next += 1;
            }
            packet = wire.receive() => match packet? {
                // Acknowledgements come in the order of the messages (MQTT-4.6.0-2).
                Packet::PubAck(ack) if ack.packet_id == packet_id(acknowledged + 1)? => {
                    numbers.acknowledged.store(acknowledged + 1, Ordering::Release);
                    silence.as_mut().reset(Instant::now() + patience);
                }
                Packet::PubAck(ack) => bail!("an acknowledgement came out of order: {}", ack.packet_id),
                _ => {}
            },
            () = stop.cancelled(), if !stopping => {}
            () = &mut silence, if next > acknowledged + 1 => bail!("the edge did not acknowledge"),
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

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use holdfast_mqtt::{Ack, Codec, ConnAck};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    /// Greets who has connected, and acknowledges what comes if it is to.
    async fn serve(mut stream: TcpStream, acknowledges: bool) {
        let mut codec = Codec::server(1024);
        let (mut read, mut write) = (BytesMut::new(), BytesMut::new());
        while stream.read_buf(&mut read).await.is_ok_and(|bytes| bytes > 0) {
            while let Some(packet) = codec.decode(&mut read).unwrap() {
                let answer = match packet {
                    Packet::Connect(_) => Packet::ConnAck(Box::new(ConnAck::new(ReasonCode::Success))),
                    Packet::Publish(publish) if acknowledges => {
                        Packet::PubAck(Ack::new(publish.packet_id.unwrap()))
                    }
                    _ => continue,
                };
                codec.encode(&answer, &mut write).unwrap();
            }
            if stream.write_all(&write).await.is_err() {
                return;
            }
            write.clear();
        }
    }

    #[tokio::test]
    async fn an_edge_that_falls_silent_is_left_and_what_it_owes_sent_again() {
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let edge = door.local_addr().unwrap();
        let (tally, stop) = (Tally::default(), CancellationToken::new());
        let device =
            tokio::spawn(publish_with(edge, tally.clone(), stop.clone(), Duration::from_millis(100)));
        // One says nothing at all, the next one greets, the third does all that it should.
        let mute = door.accept().await.unwrap();
        let silent = door.accept().await.unwrap().0;
        tokio::spawn(serve(silent, false));
        tokio::spawn(serve(door.accept().await.unwrap().0, true));
        assert_eq!(tally.acknowledged(), 0);
        while tally.acknowledged() < 2 * WINDOW {
            sleep(PERIOD).await;
        }
        stop.cancel();
        device.await.unwrap();
        assert_eq!(tally.acknowledged(), tally.sent());
        drop(mute);
    }
}
