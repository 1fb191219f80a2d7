//! A path of datagrams that delays, loses, holds to a rate, swallows everything, or changes its address.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep_until},
};

/// What the path does to each direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Path {
    /// One way.
    pub delay: Duration,
    /// Of a thousand datagrams, so many vanish.
    pub lost_of_1000: u64,
    /// Bytes per second; none means no bound.
    pub rate: Option<u32>,
    /// Nothing passes.
    pub swallows: bool,
    /// Raised, the other side sees another address.
    pub address: usize,
}

/// Bytes that a path with a rate holds before it drops, as a router does.
const QUEUE_BYTES_MAX: usize = 128 << 10;

pub struct UdpPath {
    pub port: u16,
    path: Arc<Mutex<Path>>,
}

struct Direction {
    queue: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    free_at: Instant,
    dice: u64,
}

impl Direction {
    fn new(seed: u64) -> Self {
        Self { queue: VecDeque::new(), bytes: 0, free_at: Instant::now(), dice: seed }
    }

    fn take(&mut self, bytes: &[u8], path: Path) {
        // Xorshift: the same losses in every run.
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        if path.swallows || self.dice % 1000 < path.lost_of_1000 {
            return;
        }
        let now = Instant::now();
        let mut leaves = now;
        if let Some(rate) = path.rate {
            if self.bytes + bytes.len() > QUEUE_BYTES_MAX {
                return;
            }
            self.free_at =
                self.free_at.max(now) + Duration::from_secs_f64(bytes.len() as f64 / f64::from(rate));
            leaves = self.free_at;
        }
        self.bytes += bytes.len();
        self.queue.push_back((leaves + path.delay, bytes.to_vec()));
    }

    fn due(&self) -> Option<Instant> {
        self.queue.front().map(|(at, _)| *at)
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.due()? > Instant::now() {
            return None;
        }
        let (_, bytes) = self.queue.pop_front()?;
        self.bytes -= bytes.len();
        Some(bytes)
    }
}

impl UdpPath {
    pub async fn to(port: u16, path: Path) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Mutex::new(path));
        let made = Self { port: near.local_addr().unwrap().port(), path: shared.clone() };
        tokio::spawn(carry(near, SocketAddr::from(([127, 0, 0, 1], port)), shared));
        made
    }

    pub fn change(&self, what: impl FnOnce(&mut Path)) {
        what(&mut self.path.lock().unwrap());
    }
}

async fn carry(near: UdpSocket, server: SocketAddr, path: Arc<Mutex<Path>>) {
    let mut far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (mut up, mut down) = (Direction::new(0x5eed), Direction::new(0xfeed));
    let (mut client, mut address) = (None, 0);
    let (mut from_near, mut from_far) = (vec![0; 2048], vec![0; 2048]);
    loop {
        let due = up.due().into_iter().chain(down.due()).min();
        let far_off = Instant::now() + Duration::from_secs(3600);
        tokio::select! {
            biased;
            () = sleep_until(due.unwrap_or(far_off)), if due.is_some() => {
                while let Some(bytes) = up.next() {
                    let _ = far.send_to(&bytes, server).await;
                }
                while let (Some(client), Some(bytes)) = (client, down.next()) {
                    let _ = near.send_to(&bytes, client).await;
                }
            }
            Ok((length, from)) = near.recv_from(&mut from_near) => {
                client = Some(from);
                let path = *path.lock().unwrap();
                if std::mem::replace(&mut address, path.address) != path.address {
                    far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                }
                up.take(&from_near[..length], path);
            }
            Ok((length, _)) = far.recv_from(&mut from_far) => {
                let path = *path.lock().unwrap();
                down.take(&from_far[..length], path);
            }
        }
    }
}
