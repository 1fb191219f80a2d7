//! The upper end of links: at a hub, and at an edge that is the parent of others.
//!
//! What this room does: it takes the packets of an edge below apart (`link.rs`): telemetry is stored once and in order
//! ([`Ingest`]), calls are answered by an [`Upper`], answers find their callers; and it tells the edge what changes. A hub is
//! one [`Upper`]. [`Below`] is the other: it answers the edges below an edge from what that edge knows by itself, with and
//! without its own link.
//!
//! What it does not do: it opens no door (the gateway does, and asks this room through [`holdfast_gateway::Links`]), has no
//! link upwards, and knows neither the hub nor what fetches from it.

mod answer;
mod below;
mod ingest;
mod link;
mod post;
mod upper;

pub use answer::{bad, encoded, failed, twin_failed};
pub use below::{Below, Moved, Point};
pub use ingest::{Appended, Batch, Came, Counts, Event, Gap, Ingest, Keeps, Origin, Progress};
pub use link::{CallFault, Door, Down, Link};
pub use upper::{Answered, LEVELS_MAX, Upper, above, behind, record_of};

/// Where an edge keeps what is assigned to each edge below it: [`holdfast_link::Assigned`] as JSON, under its name.
pub const ASSIGNED_SPACE: &str = "below";
