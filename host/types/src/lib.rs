//! The nouns that every room shares: names, messages, sources, sinks, limits.
//!
//! What this room does: it gives each thing one type, so that a wrong value cannot be held further in. What it does
//! not do: no serialisation, no tasks, no clock, no files. The formats of these types on disk, on the wire and in
//! manifests belong to `store`, `mqtt` and `config`, each with a version of its own.

mod endpoint;
mod filter;
mod identity;
mod interest;
mod limits;
mod message;
mod name;
mod qos;
mod queue;
mod soon;
mod topic_properties;

pub use endpoint::{Sink, Source};
pub use filter::{InvalidFilter, TopicFilter};
pub use identity::Identity;
pub use interest::Interest;
pub use limits::{
    BODY_BYTES_MAX, HOPS_MAX, MESSAGE_BYTES_MAX_UPSTREAM, NAME_BYTES_MAX, PROPERTIES_MAX, TOPIC_BYTES_MAX,
};
pub use message::{Envelope, Message, Properties, SystemKey, SystemProperties};
pub use name::{InvalidName, InvalidTopic, Name, Text, Topic};
pub use qos::QoS;
pub use queue::{Durability, LogId, Offset, Priority, QueueId, StableId, UnixMillis, WhenFull};
pub use soon::Soon;
pub use topic_properties::TopicProperties;
