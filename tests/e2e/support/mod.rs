//! Processes around the binary, and waiting for what they do.

mod above;
mod azure;
mod broker;
mod clients;
mod dice;
mod edge;
mod hub;
mod link;
mod process;
mod registry;
mod strict;

pub use above::Above;
pub use azure::Sdk;
pub use broker::Broker;
pub use clients::{
    Publisher, Receiver, Role, Subscriber, node_modules, node_says, publish, publish_as, python_says,
    python_tool,
};
pub use dice::Dice;
pub use edge::{Edge, PASSWORD, USER, binary, holdfast, ready_made};
pub use hub::Hub;
pub use link::Link;
pub use process::Process;
pub use registry::{REGISTRY_USER, Registry, registry_that_says};
pub use strict::{Strict, Work};

use std::{
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

/// How long a state may take to come, on the slowest machine that runs this.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is there. Fails after [`PATIENCE`], saying what was missing.
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, what, look)
}

/// The same with another patience.
pub fn wait_within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {} s: {what}", patience.as_secs());
        thread::sleep(Duration::from_millis(15));
    }
}

/// A port of the loopback that nobody has. Below those that the system hands to outgoing connections, so that it stays
/// free while its owner is down; and drawn from the process's number, since each test runs as a process of its own.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..1_000 {
        let draw =
            std::process::id().wrapping_mul(7919).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed) * 131);
        let port = 18_000 + u16::try_from(draw % 14_000).unwrap();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port between 18000 and 32000 is free");
}

/// An address of the loopback that no other test has; the SDK knows no other port than its own.
pub fn host(number: u8) -> String {
    format!("127.{}.{}.{number}", 101 + std::process::id() % 99, std::process::id() / 99 % 250)
}

/// A file of this checkout.
pub fn checkout(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A number from the environment.
pub fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}
