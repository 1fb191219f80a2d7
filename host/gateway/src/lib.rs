//! The gateway: devices and programs that speak MQTT come in here.
//!
//! What this room does: it listens, proves who connects, keeps one task for each connection, turns packets into messages
//! and messages into packets, and acknowledges a message when the broker says that it is recorded. It keeps sessions,
//! wills and retained messages. What it does not do: it decides no route, stores nothing, and does not know who else
//! uses the broker. The rules of a session are in `holdfast-mqtt`; those of topics in `holdfast-auth`.
//!
//! Sessions, wills and retained messages live in memory, within bounds: they outlive a connection but not the process.
//! Messages that were acknowledged to their sender are durable; messages on their way to a subscriber are not.
//!
//! A connection's bytes are bounded at every step. A client that sends faster than the log takes is not read from; a
//! client that reads slower than messages come loses those of QoS 0 and is cut off if it has subscriptions of QoS 1 or 2.
//! No client waits for another.
//!
//! Devices that speak the dialect of IoT Hub are served in `hub/`: their topics are requests, and what they are is proved.

mod beside;
mod board;
mod connection;
mod cuts;
mod end;
mod episodes;
mod farewell;
mod greet;
mod hub;
mod inbound;
mod leave;
mod limits;
mod lobby;
mod outbound;
mod pace;
mod plain;
mod prove;
mod retained;
mod server;
mod sessions;
mod shared;
mod stats;
mod subscriptions;
mod translate;
mod wills;

pub use limits::{FAIR_SHARE, Limits};
pub use server::{Gateway, GatewayConfig};
pub use stats::{Stats, StatsSnapshot};
pub use translate::RESPONSE_TOPIC_PROPERTY;
