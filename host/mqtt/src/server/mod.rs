//! The rules of a session on the server's side, without I/O and without a clock.
//!
//! A [`Connection`] takes packets in and says what is to be done ([`Action`]); its driver does it and reports back. Time
//! comes in as `now`. What must outlive the connection is in [`Session`], which the driver takes out at the end and
//! gives to the client's next connection.
//!
//! ```text
//! bytes -> Codec -> packet() -> Action::Publish { ticket } -> the broker records it
//!                                       settle(ticket, outcome) <- it is on disk
//!          Codec <- ready() gives PUBACK and PUBREC in the order in which the PUBLISH packets came (MQTT-4.6.0-2)
//! ```

mod acks;
mod connection;
mod keep_alive;
mod outgoing;
#[cfg(test)]
mod tests;

pub use acks::{Outcome, Ticket};
pub use connection::{Action, Connection, Rules};
pub use keep_alive::KeepAlive;
pub use outgoing::Outgoing;

use crate::PacketId;
use std::collections::BTreeSet;

/// What outlives a connection: messages on their way to the client, and the QoS 2 messages of the client that are
/// recorded but not yet released (MQTT 3.1.1 section 3.1.2.4; MQTT 5 section 4.1).
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// Messages that the client has not acknowledged yet.
    pub outgoing: Outgoing,
    /// Identifiers of QoS 2 messages from the client between PUBLISH and PUBREL.
    pub received: BTreeSet<PacketId>,
}
