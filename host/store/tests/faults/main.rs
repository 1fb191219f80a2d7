//! What the store loses when it is killed, cut off, torn, flipped, refused or filled up: nothing that was acknowledged.
//!
//! Each test can be run by anyone, with its own count and seed:
//!
//! ```text
//! HOLDFAST_FAULT_ROUNDS=200 HOLDFAST_FAULT_SEED=7 cargo nextest run -p holdfast-store --test faults
//! ```
//! Without a count each does a few rounds. The power cut and the full disk need root and a loop device or tmpfs; where
//! that is missing they say so and pass. A writer is this same program, started again with `HOLDFAST_FAULT_WRITER`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test may fail, and says what it did"
)]

#[path = "../support/mod.rs"]
mod support;

mod errors;
mod flips;
mod full;
mod kill;
mod power;
mod torn;
mod witness;
mod writer;

/// How many rounds: what the environment says, or `usual`.
fn rounds(usual: u64) -> u64 {
    std::env::var("HOLDFAST_FAULT_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// Numbers that follow from the seed (xorshift64*).
pub struct Dice(u64);

impl Dice {
    /// Dice that differ by salt.
    pub fn new(salt: u64) -> Self {
        let seed: u64 = std::env::var("HOLDFAST_FAULT_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(salt) | 1)
    }

    /// A number below `below`.
    pub fn throw(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below.max(1)
    }
}

/// Copies a store's folder; journals keep their length without their zeros being written. The store may be running: its
/// second thread then puts files in the place of others, and what goes meanwhile is not in the copy.
pub fn copy_store(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    let Some(items) = unless_gone(std::fs::read_dir(from)) else { return };
    for item in items {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy_store(&item.path(), &target);
            continue;
        }
        let Some(bytes) = unless_gone(std::fs::read(item.path())) else { continue };
        let used = used_bytes(&bytes);
        std::fs::write(&target, &bytes[..used]).unwrap();
        std::fs::OpenOptions::new().write(true).open(&target).unwrap().set_len(bytes.len() as u64).unwrap();
    }
}

fn unless_gone<T>(found: std::io::Result<T>) -> Option<T> {
    match found {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        found => Some(found.unwrap()),
    }
}

/// Where the zeros at the end begin.
pub fn used_bytes(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let blocks = bytes.chunks(4096).enumerate().rev();
    let last = blocks.into_iter().find(|(_, block)| **block != ZEROS[..block.len()]);
    last.map_or(0, |(n, block)| {
        n * 4096 + block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
    })
}
