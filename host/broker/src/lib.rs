//! The heart: the one place where a message enters, is decided, recorded and handed on.
//!
//! `core` is pure: it decides which sinks take a message and who has subscribed to what, with no task, clock or file.
//! `task` carries a decision out: it asks the store for a record, hands volatile messages over in memory, calls back
//! when all of it is durable, and lets each sink read its log by cursor. What this room does not do: it opens no
//! socket, runs no module, and knows no protocol.
//!
//! The order that matters: decide, record, fsync, acknowledge (ARCHITECTURE.md, invariant 1).

mod core;
mod task;

/// The rules of twins, for who keeps them elsewhere than in this broker.
pub mod twin_rules {
    pub use crate::core::twin::{checked_document, checked_patch, checked_size, merge};
}

pub use core::{
    decide::{DEFAULT_ROUTE, Decision, Taken},
    drain::{Drain, Percent},
    publishing::{Beside, Interest, Publishing, SubscriberId, SubscriptionOptions, TopicProperties},
    twin::{
        Path, TWIN_BYTES_MAX, TWIN_DEPTH_MAX, TWIN_INTEGER_MAX, TWIN_INTEGER_MIN, TWIN_KEY_BYTES_MAX,
        TWIN_TEXT_BYTES_MAX, TwinFault,
    },
};
/// Why what was kept could not be read.
pub use holdfast_store::StoreError as RestoreError;
pub use holdfast_store::{SessionRecord, SubscriptionRecord, WillRecord};
pub use task::{
    admission::{Receipt, Refused},
    broker::{Broker, BrokerConfig, Counters, CountersSnapshot},
    child_links::ChildLinks,
    deployments::{
        DeployedModule, DeploymentOrder, DeploymentOrigin, DeploymentPhase, DeploymentStatus, Deployments,
    },
    devicebound::{
        DEVICEBOUND_BYTES_MAX, DEVICEBOUND_IDS_KEPT, DEVICEBOUND_LIFE_MAX, DEVICEBOUND_PENDING_MAX,
    },
    documents::Documents,
    methods::{
        METHOD_BYTES_MAX, METHOD_NAME_MAX, METHODS_IN_FLIGHT_MAX, MethodCall, MethodError, MethodReply,
        MethodServer, MethodTimes, MethodWay, Methods, WayAnswer,
    },
    pass_on::PassedOn,
    publish::Done,
    reader::{Delivery, ReadError, Reader, Send, StateWrite, Ticket, Turn},
    room::{Budget, Held, Losses, Room},
    sessions::{
        KeptSession, KeptSessions, KeptWill, SESSION_MESSAGES_MAX, SessionTotals, StoredSession, Unfinished,
    },
    subscriber::{Published, Subscriber},
    tap::{Passing, Tap, TapLagged},
    twins::{DesiredPatch, DesiredWatch, Report, TWINS_LISTED_MAX, Twin, TwinError, Twins, TwinsWatch},
};
