//! Load, link, limit, run, swap and supervise modules.
//!
//! What this room does: it turns a `.wasm` component in the plugins folder into a running module, hands it the messages
//! of its log one by one, and records what it did with them, all or nothing. A module can do only what it was granted,
//! within bounds; one that traps, loops, floods or grows is stopped alone. It is the only room that names wasmtime.
//!
//! What it does not do: it keeps no message (the store does), decides no route (the broker does), and knows nothing of
//! devices or of what is upstream.

mod cache;
mod compiler;
mod config;
mod engine;
mod error;
mod handle;
mod host;
mod http;
mod imports;
mod instance;
mod limiter;
mod load;
mod logs;
mod metrics;
mod module;
mod module_log;
mod outgoing;
mod pace;
mod plan;
mod plugins;
mod ports;
mod relay;
mod runtime;
mod sent;
mod settings;
mod state;
mod status;
mod supervisor;
mod twin;
mod usage;
mod waiting;
mod wants;

pub use compiler::{Compiler, compile_as_child};
pub use config::{Backoff, EngineConfig, Limits, Profile};
pub use engine::Engine;
pub use error::EngineError;
pub use handle::{CommandError, EngineHandle};
pub use http::HttpDoor;
pub use logs::{LogLevel, LogLine, LogOrigin, LogQuery, LogReader};
pub use metrics::{BUCKETS, Histogram, Measured};
pub use outgoing::{Connection, Later, NotConnected, Outgoing};
pub use plan::{Adopted, Plan, PlanError, PlannedModule, Prepared, Unfit};
pub use plugins::{Source, base_of, next_name};
pub use ports::Ports;
pub use sent::Sent;
pub use settings::RestartPolicy;
pub use status::{ModuleStatus, RuntimeStatus, ShadowReport};
pub use wants::{GRANTS_SECTION, Wants, with_wishes};
