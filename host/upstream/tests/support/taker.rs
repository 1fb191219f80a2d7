//! A receiver behind any door: it answers on the stream that a packet came on, and keeps its own account.

use super::{account::Account, scripted::property};
use bytes::BytesMut;
use holdfast_mqtt::{Ack, Codec, ConnAck, Connect, Packet, ReasonCode, Version};
use holdfast_net::{Door, ListenConfig, Listener, PlainTcp, Settings};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    task::{JoinHandle, JoinSet},
};

/// What came, and when.
#[derive(Default)]
pub struct Taken {
    pub account: Account,
    pub connections: usize,
    /// Streams beside those of the sessions that carried messages.
    pub beside: usize,
    /// After how many messages each one of priority 0 came.
    pub alarms: Vec<usize>,
    pub last: Option<Instant>,
}

pub struct Taker {
    pub address: SocketAddr,
    pub taken: Arc<Mutex<Taken>>,
    task: JoinHandle<()>,
}

impl Taker {
    pub async fn behind(door: Door) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), door, Arc::default()).await
    }

    /// At an address, with an account that goes on.
    pub async fn at(address: SocketAddr, door: Door, taken: Arc<Mutex<Taken>>) -> Self {
        let (plain, settings) = (PlainTcp::LoopbackOnly, Settings::of_section("gateway"));
        let listener = Listener::bind(ListenConfig { address, door, plain, settings }).await.unwrap();
        let address = listener.local();
        let shared = taken.clone();
        let task = tokio::spawn(async move {
            // All of them end with this one.
            let mut all = JoinSet::new();
            while let Ok(incoming) = listener.accept().await {
                let taken = shared.clone();
                all.spawn(async move {
                    let Ok(mut stream) = incoming.handshake(Duration::from_secs(10)).await else { return };
                    stream.set_frame_bytes_max(1 << 20);
                    taken.lock().unwrap().connections += 1;
                    let mut beside = JoinSet::new();
                    if let Some(branches) = stream.branches() {
                        let taken = taken.clone();
                        beside.spawn(async move {
                            let mut all = JoinSet::new();
                            while let Some(branch) = branches.next().await {
                                taken.lock().unwrap().beside += 1;
                                all.spawn(take(branch, taken.clone()));
                            }
                        });
                    }
                    take(stream, taken).await;
                });
            }
        });
        Self { address, taken, task }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn len(&self) -> usize {
        self.taken.lock().unwrap().account.len()
    }

    pub fn connections(&self) -> usize {
        self.taken.lock().unwrap().connections
    }

    /// Waits for `count` messages; they are whole and in order. Gives the number of duplicates.
    pub async fn has_all(&self, count: usize) -> usize {
        super::until("the receiver has all", || self.len() >= count).await;
        let taken = self.taken.lock().unwrap();
        assert_eq!(taken.account.len(), count);
        taken.account.assert_whole_and_in_order();
        taken.account.duplicates
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(mut stream: impl AsyncRead + AsyncWrite + Unpin, taken: Arc<Mutex<Taken>>) {
    // On a stream beside that of the session the version is not said again; this one takes what the edge speaks.
    let mut codec = Codec::server(1 << 20);
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    let said = Packet::Connect(Box::new(Connect::new(Version::V5, "edge-1")));
    Codec::client(Version::V5, 1 << 20).encode(&said, &mut input).unwrap();
    codec.decode(&mut input).unwrap().unwrap();
    loop {
        input.reserve(64 << 10);
        match stream.read_buf(&mut input).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
        while let Ok(Some(packet)) = codec.decode(&mut input) {
            let answer = match packet {
                Packet::Connect(_) => Packet::ConnAck(Box::new(ConnAck::new(ReasonCode::Success))),
                Packet::PingReq => Packet::PingResp,
                Packet::Publish(publish) => {
                    let mut taken = taken.lock().unwrap();
                    let id = property(&publish, "holdfast-id").unwrap();
                    // edge/epoch/priority/sequence
                    if id.split('/').nth(2) == Some("0") {
                        let before = taken.account.len();
                        taken.alarms.push(before);
                    }
                    taken.last = Some(Instant::now());
                    taken.account.note(id, &publish.payload);
                    Packet::PubAck(Ack::new(publish.packet_id.unwrap()))
                }
                Packet::Disconnect(_) => return,
                _ => continue,
            };
            codec.encode(&answer, &mut out).unwrap();
        }
        if stream.write_all_buf(&mut out).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}
