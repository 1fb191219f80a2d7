//! A receiver behind any door, as fast as it can be: it reads, counts, and acknowledges everything it has read in one
//! write. It has a thread of its own, called `receiver`.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

use bytes::{Buf, BytesMut};
use holdfast_mqtt::{Ack, Codec, ConnAck, Packet, PacketId, ReasonCode, Version};
use holdfast_net::{Door, ListenConfig, Listener, PlainTcp, Settings};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub struct Receiver {
    pub address: SocketAddr,
    taken: Arc<Taken>,
}

/// What came.
#[derive(Default)]
struct Taken {
    count: AtomicU64,
    last_alarm: Mutex<Option<Instant>>,
}

impl Receiver {
    pub fn behind(address: SocketAddr, door: Door, version: Version) -> Self {
        let (told, heard) = mpsc::channel();
        let taken = Arc::new(Taken::default());
        let shared = taken.clone();
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (plain, settings) = (PlainTcp::LoopbackOnly, Settings::of_section("receiver"));
                let listener = Listener::bind(ListenConfig { address, door, plain, settings }).await.unwrap();
                told.send(listener.local()).unwrap();
                while let Ok(incoming) = listener.accept().await {
                    let taken = shared.clone();
                    tokio::spawn(async move {
                        let Ok(mut stream) = incoming.handshake(Duration::from_secs(30)).await else {
                            return;
                        };
                        stream.set_frame_bytes_max(1 << 20);
                        let branches = stream.branches();
                        let session = receive(stream, version, taken.clone());
                        let beside = async {
                            let Some(branches) = branches else { return };
                            while let Some(branch) = branches.next().await {
                                tokio::spawn(receive(branch, version, taken.clone()));
                            }
                        };
                        tokio::join!(session, beside);
                    });
                }
            });
        };
        thread::Builder::new().name("receiver".into()).spawn(serve).unwrap();
        Self { address: heard.recv().unwrap(), taken }
    }

    /// When the last alarm came.
    pub fn last_alarm(&self) -> Option<Instant> {
        *self.taken.last_alarm.lock().unwrap()
    }

    /// Messages that came, those that came twice counted twice.
    pub fn count(&self) -> u64 {
        self.taken.count.load(Ordering::Relaxed)
    }

    /// Waits until so many have come.
    pub fn has(&self, messages: u64) {
        while self.count() < messages {
            thread::sleep(Duration::from_micros(500));
        }
    }
}

async fn receive(mut stream: impl AsyncRead + AsyncWrite + Unpin, version: Version, taken: Arc<Taken>) {
    let codec = Codec::client(version, 1 << 20);
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    loop {
        input.reserve(64 << 10);
        let Ok(1..) = stream.read_buf(&mut input).await else { return };
        while let Some((kind, id, bytes)) = packet(&input) {
            if kind == 3 && input[..bytes].ends_with(b"alarm") {
                *taken.last_alarm.lock().unwrap() = Some(Instant::now());
            }
            input.advance(bytes);
            let answer = match kind {
                1 => Packet::ConnAck(Box::new(ConnAck::new(ReasonCode::Success))),
                3 => {
                    taken.count.fetch_add(1, Ordering::Relaxed);
                    Packet::PubAck(Ack::new(id))
                }
                12 => Packet::PingResp,
                _ => continue,
            };
            codec.encode(&answer, &mut out).unwrap();
        }
        if stream.write_all_buf(&mut out).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

/// The type of the first whole packet, the identifier behind its topic, and its length: all a receiver needs that does
/// nothing with it.
fn packet(input: &[u8]) -> Option<(u8, PacketId, usize)> {
    let (mut length, mut head) = (0, 1);
    loop {
        let byte = *input.get(head)?;
        length |= usize::from(byte & 0x7f) << (7 * (head - 1));
        head += 1;
        if byte < 0x80 {
            break;
        }
    }
    let body = input.get(head..head + length)?;
    let topic = body.get(..2).map_or(0, |two| usize::from(u16::from_be_bytes([two[0], two[1]])));
    let id = body.get(topic + 2..topic + 4).map_or(1, |id| u16::from_be_bytes([id[0], id[1]]));
    Some((input[0] >> 4, PacketId::new(id).unwrap_or(PacketId::MIN), head + length))
}
