//! Who is it, and may it?
//!
//! Two questions, two files. [`who`] proves that a client is the user it says it is; [`may`] says what a user may publish
//! and subscribe to. The default of both is no, and a no has a reason. What this room does not do: it opens no socket,
//! reads no file, knows no clock and draws no random numbers; its secrets are passed in.

pub mod may;
mod registry;
pub mod who;

pub use may::{Action, Grants, Refusal};
pub use registry::{Fault, Password, Registry, UserRecord};
pub use who::{Evidence, NotProved, hash_password};
