//! The gateway: devices and programs that speak MQTT come in here.
//!
//! What this room does: it listens, proves who connects, keeps one task for each connection, turns packets into messages
//! and messages into packets, and acknowledges a message when the broker says that it is recorded. It keeps sessions,
//! wills and retained messages. What it does not do: it decides no route, stores nothing, and does not know who else
//! uses the broker. The rules of a session are in `holdfast-mqtt`; those of topics in `holdfast-auth`.
//!
//! Sessions that are to outlive their connection outlive the process too, as do wills and retained messages: they are
//! documents, and messages of QoS 1 and 2 for such a session are in its log before their sender has its acknowledgement.
//! Sessions that end with their connection live in memory.
//!
//! A connection's bytes are bounded at every step. A client that sends faster than the log takes is not read from; a
//! client that reads slower than messages come loses those of QoS 0; those of QoS 1 and 2 wait for it in the log, or it is cut
//! off if its session ends with its connection.
//! No client waits for another.
//!
//! Devices that speak the dialect of IoT Hub are served in `hub/`: their topics are requests, and what they are is proved.

mod above;
mod behind;
mod beside;
mod board;
mod connection;
mod cuts;
mod durable;
mod end;
mod episodes;
mod farewell;
mod greet;
mod heavy;
mod hub;
mod inbound;
mod life;
mod limits;
mod linked;
mod listing;
mod lobby;
mod outbound;
mod pace;
mod plain;
mod prove;
mod reading;
mod retained;
mod server;
mod sessions;
mod shared;
mod stats;
mod strangers;
mod subscriptions;
mod translate;
mod turns;
mod wills;

pub use above::{Above, EdgeDoor, EdgeLink, Fates, Links, TwinAnswer};
pub use heavy::EVENT_INTERVAL;
pub use limits::{FAIR_SHARE, Limits};
pub use listing::{SessionList, ShownSession};
pub use server::{BindError, Gateway, GatewayConfig};
pub use stats::{Stats, StatsSnapshot};
pub use translate::RESPONSE_TOPIC_PROPERTY;
