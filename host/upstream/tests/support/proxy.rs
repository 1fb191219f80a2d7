//! A way to the broker that can be cut, blocked in one direction or both, and let be again.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Bytes pass.
    Open,
    /// Connections are reset, and new ones refused.
    Cut,
    /// Connections stay, and bytes vanish in both directions.
    BlackHole,
    /// Bytes go to the broker, and its answers vanish.
    HalfOpen,
}

pub struct Proxy {
    pub port: u16,
    way: Arc<watch::Sender<Way>>,
    open: Arc<AtomicUsize>,
}

impl Proxy {
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            way: Arc::new(watch::Sender::new(Way::Open)),
            open: Arc::default(),
        };
        let (way, open) = (proxy.way.clone(), proxy.open.clone());
        tokio::spawn(async move {
            loop {
                let (inside, _) = listener.accept().await.unwrap();
                if *way.borrow() == Way::Cut {
                    continue;
                }
                let Ok(outside) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
                inside.set_nodelay(true).unwrap();
                outside.set_nodelay(true).unwrap();
                let (from_edge, to_edge) = inside.into_split();
                let (from_broker, to_broker) = outside.into_split();
                let (open, subscribed) = (open.clone(), way.subscribe());
                open.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    carry(from_edge, to_broker, subscribed, |way| way != Way::BlackHole).await;
                    open.fetch_sub(1, Ordering::Relaxed);
                });
                tokio::spawn(carry(from_broker, to_edge, way.subscribe(), |way| way == Way::Open));
            }
        });
        proxy
    }

    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// Connections that the edge has not ended.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
    passes: fn(Way) -> bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    // Once bytes have vanished the stream is broken for good: later bytes must not follow a gap.
    let mut lost = false;
    loop {
        let got = tokio::select! {
            got = from.read(&mut buffer) => got,
            cut = way.wait_for(|way| *way == Way::Cut) => {
                drop(cut);
                return;
            }
        };
        let Ok(count @ 1..) = got else { return };
        lost = lost || !passes(*way.borrow());
        if !lost && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
