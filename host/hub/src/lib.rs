//! The hub: the upstream side of every edge, and of devices that connect to it directly.
//!
//! What this room does: it is the authority of the registry, of twins and of deployments; it takes telemetry from edges
//! and devices into one stream that any number of consumers read from any offset; it drops what an edge sends twice, and
//! says what is missing; it brings methods, desired changes and messages down, through the edge that is the parent of the
//! target, or directly. Services ask it over HTTP.
//!
//! What it does not do: it opens no door for devices (the gateway does, and asks this room through
//! [`holdfast_gateway::Above`]), runs no module, and reads no configuration. Everything durable goes through
//! [`backend::Backend`], so that another storage can stand in the place of the embedded one.

mod above;
mod answers;
pub mod api;
pub mod backend;
pub mod client;
mod deployments;
mod devicebound;
mod directory;
mod down;
mod error;
mod events;
mod follow;
mod heard;
mod hub;
mod layers;
pub mod peers;
mod presence;
mod query;
mod recipient;
mod transfer;
mod twins;
mod upper;

pub use deployments::{DEPLOYMENTS_MAX, Deployments, StoredDeployment, Target};
pub use directory::{Directory, DirectoryError};
pub use error::HubError;
pub use events::event_json;
pub use follow::follow;
pub use holdfast_links::record_of;
pub use hub::{EdgeItem, Hub, HubConfig, HubCounts};
pub use query::{Condition, InvalidCondition};
pub use recipient::PublicKey;
pub use transfer::ExportTo;
pub use twins::{HubTwin, TwinPatch};
