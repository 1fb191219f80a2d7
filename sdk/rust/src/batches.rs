//! Several messages in one call, for modules that handle many small ones: a call costs as much as the work of such a
//! module, and in a batch it is paid once for all of them.
//!
//! Say `batches` to [`module!`](crate::module), and the host calls [`Module::handle_batch`](crate::Module::handle_batch) where
//! two messages or more wait, with those, in their order. It never waits to fill a batch: a message that comes alone goes to
//! [`Module::handle`](crate::Module::handle).
//!
//! What the module sends and stores, and that all messages of the batch are done, become durable together or not at all. After a
//! failure nothing of the batch remains, and its messages come again one by one, through `handle`, where only the one that
//! is to blame is tried again or becomes a dead letter. So say `batches` for modules whose fields bear that: what is counted in
//! a field and not in the [state](crate::state) is counted again.
//!
//! ```
//! use holdfast_sdk::{Delivered, Error, Failure, Message, Module, Outgoing, state, testing::Harness};
//!
//! struct Counter;
//!
//! impl Counter {
//!     fn add(&self, n: usize) -> Result<(), Failure> {
//!         let count = state::json::<usize>("count")?.unwrap_or(0) + n;
//!         Ok(state::set_json("count", &count)?)
//!     }
//! }
//!
//! impl Module for Counter {
//!     fn start() -> Result<Self, Error> {
//!         Ok(Self)
//!     }
//!     fn handle(&mut self, _: &str, _: Message) -> Result<(), Failure> {
//!         self.add(1)
//!     }
//!     // Without this one, `handle` is called for each message of the batch.
//!     fn handle_batch(&mut self, messages: Vec<Delivered>) -> Result<(), Failure> {
//!         self.add(messages.len())
//!     }
//! }
//!
//! holdfast_sdk::module!(Counter, batches);
//!
//! let mut module = Harness::new().start::<Counter>().unwrap();
//! let answers = module.handle_batch((0..3).map(|n| ("in", Outgoing::text(n.to_string()))));
//! assert_eq!((answers, module.state("count")), (vec![Ok(()); 3], Some(&b"3"[..])));
//! ```

use crate::Message;

/// A message of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The input that it came to.
    pub input: String,
    /// The message.
    pub message: Message,
}
