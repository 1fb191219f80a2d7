//! Read by cursor, send, wait for the acknowledgement, move the cursor.
//!
//! What this room does: it carries the log `upstream` to any MQTT broker, over TLS unless told otherwise. It reads
//! through the broker's reader, gives each message its topic from a template and its stable identity, keeps a window of
//! QoS 1 messages in flight, and tells the reader which are done. A broken link is dialled again after a jittered
//! back-off; what was not acknowledged is sent again, under the same identity. A message that the other side will never
//! take becomes a dead letter with the reason. Where there are several ways (QUIC, TLS, WebSocket) or several receivers,
//! it chooses among them (`choice.rs`), or asks somebody who knows (`concierge.rs`).
//!
//! To a hub of Holdfast (`hub/`) the same connection carries calls as well: the edge learns who its children are, what is
//! desired and how to keep messages, and tells what was reported. To an IoT Hub of Azure (`iot_hub/`) all goes in its own dialect,
//! in which the edge is one device: messages up, its twin both ways, methods and messages down. Children may be devices of their
//! own there, each with a connection of its own (`children/`).
//!
//! What it does not do: it holds no queue of its own beside the window, decides no route, and opens no socket but
//! through `net`.
//!
//! Order: within a priority messages are sent in the order of their offsets, and the highest priority first. A receiver
//! sees them so, but for two things, both of which the stable identity shows: after a reconnect up to one window comes
//! again, and a message that the server refused for the moment (quota), or over which it hung up (`poison.rs`), comes
//! after those sent behind it.

mod acknowledged;
mod backoff;
mod children;
mod choice;
mod concierge;
mod config;
mod fault;
mod form;
mod hold;
mod horizon;
mod hub;
mod iot_hub;
mod lanes;
mod line;
mod link;
mod peer;
mod poison;
mod probe;
mod records;
mod run;
mod sender;
mod status;
mod template;
mod tokens;
mod topics;
mod verdict;
mod wire;

pub use backoff::{Backoff, BackoffConfig};
pub use children::{CHILDREN_TURN, ChildTrouble, ChildrenConfig, ChildrenStatus};
pub use choice::ChoiceRules;
pub use concierge::{Concierge, ConciergeFault};
pub use config::{BuildError, ConfigFault, Dialect, Payload, Place, Secret, UpstreamConfig};
pub use fault::{AtHub, LinkFault};
pub use holdfast_mqtt::Version;
pub use horizon::KeepAcknowledged;
pub use hub::{HubConfig, Identities, Keeper, Kept, Known, Sync};
pub use iot_hub::IotHubConfig;
pub use run::{Drained, Running, Upstream};
pub use status::{Counters, LastError, LinkState, Status, StatusHandle, WayState, WayStatus};
pub use template::{InvalidTemplate, Template};
pub use tokens::TOKEN_LIFE;
