//! The words that an edge and a hub speak with one another.
//!
//! One MQTT 5 connection carries everything. The edge connects as the module `$edgeHub` of its device
//! ([`client_id`], [`user_name`]), with a clean start, and proves itself as any device of IoT Hub does. Then
//!
//! * the edge publishes telemetry with QoS 1 to [`EVENTS_TOPIC`]; [`event`] says what stands in the user properties. PUBACK
//!   means that the hub has it on disk;
//! * both sides call each other: PUBLISH with QoS 1 to `$holdfast/1/call/{name}` ([`Call::topic`]) with the response topic
//!   [`ANSWER_TOPIC`] and correlation data. The answer goes there with the same correlation data, the user property
//!   [`STATUS_PROPERTY`] ([`Status`]) and a JSON body: the document of the call, or a [`Problem`] if the status is none of
//!   success. Every call may be made again after a reconnect, and then has no further effect.
//!
//! The edge subscribes to nothing: who connects as `$edgeHub` with `holdfast-link` in the user name is called and answered
//! without.
//!
//! Each document is a value of this room with [`Document::encode`] and [`Document::decode`]; the JSON holds its version as
//! `"v"`. Fields that are not known are passed over, so that a field can be added; where a meaning changes, the version does.
//!
//! What this room does not do: it sends nothing, keeps nothing, decides nothing, and knows neither MQTT nor a clock.

mod call;
mod concierge;
mod deployment;
mod document;
pub mod escape;
pub mod event;
mod fields;
mod identities;
mod messages;
mod names;
mod sync;
mod twins;

pub use call::{Call, Direction, Problem, Status};
pub use concierge::{ActiveHub, ConciergeAnswer};
pub use deployment::{Deployment, DeploymentReport, DeploymentState, ModuleReport, Settings};
pub use document::{Document, DocumentFault, Done};
pub use event::{Event, EventFault, EventFields};
pub use identities::{Access, IdentityRecord, Proof, Secret};
pub use messages::{ChildState, ChildStates, CloudToDevice, MethodAnswer, MethodRequest, WireMessage};
pub use names::{
    ANSWER_TOPIC, CALL_TOPIC_PREFIX, EVENTS_TOPIC, HUB_MODULE, LINK_PARAMETER, PROTOCOL, STATUS_PROPERTY,
    client_id, link_version, user_name,
};
pub use sync::{
    Assigned, Change, Delta, Held, Hello, Mark, PAGE_RECORD_BYTES, PAGE_TOKEN_BYTES_MAX, Page, PageContent,
    Part, Revision, SyncRequest, Welcome, take_page,
};
pub use twins::{
    DesiredChange, DesiredForm, Half, ReportForm, ReportedVersion, TwinGet, TwinRecord, TwinReport,
};

/// Most bytes of the body of a call or an answer: 256 KiB, as much as IoT Hub takes in one message. Lists are paged.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
