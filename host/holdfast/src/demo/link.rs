//! The link between the edge and the hub: a relay that can be cut.

use holdfast_net::{HostName, Listener, Settings, Stream, Target, Timeouts, Way, dial};
use std::{net::SocketAddr, time::Duration};
use tokio::sync::watch;

/// A relay on a local port.
pub struct Link {
    up: watch::Sender<bool>,
}

impl Link {
    /// Starts relaying connections of `listener` to `to`. Needs a runtime.
    pub fn start(listener: Listener, to: SocketAddr) -> Self {
        let (up, watched) = watch::channel(true);
        tokio::spawn(relay(listener, to, watched));
        Self { up }
    }

    /// Cuts the link: connections end, new ones are closed at once.
    pub fn cut(&self) {
        self.up.send_replace(false);
    }

    /// Lets connections through again.
    pub fn restore(&self) {
        self.up.send_replace(true);
    }

    /// Whether it lets connections through.
    pub fn is_up(&self) -> bool {
        *self.up.borrow()
    }
}

async fn relay(listener: Listener, to: SocketAddr, up: watch::Receiver<bool>) {
    while let Ok(incoming) = listener.accept().await {
        let Ok(stream) = incoming.handshake(Duration::from_secs(5)).await else { continue };
        if *up.borrow() {
            tokio::spawn(pipe(stream, to, up.clone()));
        }
    }
}

async fn pipe(mut near: Stream, to: SocketAddr, mut up: watch::Receiver<bool>) {
    let target = Target::new(HostName::Ip(to.ip()), to.port(), Way::Tcp, Settings::of_section("demo"));
    let Ok(mut far) = dial(&target, Timeouts::default()).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
        _ = up.wait_for(|up| !up) => {}
    }
}
