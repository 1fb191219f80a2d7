//! Write Holdfast modules in Rust.
//!
//! A module is a sandboxed WebAssembly component. It receives messages on its inputs, sends messages to its outputs,
//! and keeps durable state; routes outside decide what flows where. This crate gives a module typed access to all that
//! the host grants, and lets its unit tests run on any machine without a host ([`testing::Harness`]).
//!
//! ```
//! use holdfast_sdk::{Error, Failure, Message, Module, OrFail, Outgoing, outbox, state};
//!
//! struct Counter;
//!
//! impl Module for Counter {
//!     fn start() -> Result<Self, Error> {
//!         Ok(Self)
//!     }
//!
//!     fn handle(&mut self, _input: &str, message: Message) -> Result<(), Failure> {
//!         let text = message.text().or_reject()?;
//!         let count = state::json::<u64>("count")?.unwrap_or(0) + 1;
//!         state::set_json("count", &count)?;
//!         outbox::send("counted", Outgoing::text(format!("{count}: {text}")))?;
//!         Ok(())
//!     }
//! }
//!
//! holdfast_sdk::module!(Counter);
//!
//! let mut module = holdfast_sdk::testing::Harness::new().start::<Counter>().unwrap();
//! module.handle("in", Outgoing::text("hello")).unwrap();
//! assert_eq!(module.take_sent()[0].message.text().unwrap(), "1: hello");
//! ```
//!
//! What holds for every call ([`Module::handle`], [`Module::handle_batch`], [`Module::fire`], [`Module::desired`], [`Module::invoke`]): what the call
//! sent, what it wrote to [`state`] and reported to its [twin](twins), and the fact that the message is done become durable together, or not at all. A call that fails leaves nothing
//! behind in the outbox, the state and the twin; fields of the module itself are not rolled back, so keep there only what can be
//! read again from the state.
//!
//! The files mirror the contract in `wit/`: [`handler`], [`types`], [`outbox`], [`timers`], [`twins`], [`methods`], [`metrics`] and [`batches`] have the
//! names of its interfaces; [`config`], [`state`] and [`log`] are the standard `wasi:config/store`, `wasi:keyvalue/store` and
//! `wasi:logging/logging`. What a module declares of itself is in [`ports`]. With the feature `http` there is `http`: requests to other
//! machines and answers to theirs, over `wasi:http`. It is a feature because it brings a crate with the bindings of WASI.

pub mod batches;
pub mod clock;
pub mod config;
pub mod handler;
#[cfg(feature = "http")]
pub mod http;
mod imports;
pub mod json;
pub mod log;
pub mod methods;
pub mod metrics;
pub mod outbox;
pub mod ports;
pub mod state;
pub mod timers;
pub mod twins;
pub mod types;

#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use batches::Delivered;
pub use handler::{Error, Failure, Module, OrFail};
pub use ports::Ports;
pub use types::{BodyError, Message, Outgoing, Source, SystemProperties, UnixMillis};

/// What the macro [`module!`] refers to. Not for direct use.
#[doc(hidden)]
#[cfg(target_family = "wasm")]
pub use imports::{batch_bindings, bindings};
#[doc(hidden)]
#[cfg(all(target_family = "wasm", feature = "http"))]
pub use wasip2;
