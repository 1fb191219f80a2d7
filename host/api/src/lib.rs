//! The control socket and the metrics: shows and asks, decides nothing.
//!
//! What this room does: it lets the command line of this machine talk to the running host over a Unix socket (a named
//! pipe on Windows) that the host's own user alone may open. It carries [`Request`]s to the [`Host`] and [`Item`]s back,
//! and bounds whoever asks: connections, length of a line, patience with a slow reader. What it does not do: it knows
//! neither modules nor logs nor routes; what a request means is the business of the [`Host`].
//!
//! # The wire
//!
//! Lines of JSON. A client sends one request in a line and reads lines until an `end` or an `error`; then it may send
//! the next. Every line has the version.
//!
//! ```text
//! → {"v":1,"request":"queues"}
//! ← {"v":1,"item":{"queue":{"log":"upstream","priority":10,"waiting":7,…}}}
//! ← {"v":1,"end":{"items":1}}
//! → {"v":1,"request":{"module":{"action":"restart","module":"windwo"}}}
//! ← {"v":1,"error":{"code":"not-found","message":"there is no module windwo","fix":"see `holdfast list`"}}
//! ```
//!
//! Requests are read strictly: an unknown request or field is refused by name. Answers are read loosely, so that a later
//! host may say more. Half of a connection may be closed: a client that writes a request and closes its side still gets
//! a finite answer whole. An answer that follows (`logs`, `tail`) ends when the client goes or closes its side.
//!
//! # Metrics
//!
//! What is counted is read over the control socket, and over HTTP by Prometheus where the configuration names an address
//! for it ([`MetricsServer`]).
//!
//! # Who may connect
//!
//! On Unix the socket has mode 0600 from its first moment: the mode is set before the socket gets its name, so no umask
//! can widen it. A missing folder is made with mode 0700. On Windows the pipe's name is derived from the path of the
//! socket, and its security descriptor lets in its owner, administrators and the system.
//!
//! A lock file beside the socket (`control.sock.lock`) is held as long as the host lives. So a second host is refused, a socket
//! file that a killed host left behind is replaced, and two hosts that start at once cannot take each other's socket.

mod client;
mod line;
mod local;
mod metrics;
mod server;
mod wire;

pub use client::{Answers, AskError, Client, ConnectError};
pub use local::{BindError, check_control_path};
pub use metrics::{MetricFamily, MetricKind, MetricSample, MetricsServer, MetricsSource, metrics_text};
pub use server::{Answer, Gone, Host, Items, Limits, Server};
pub use wire::{
    Body, CheckResult, ChildrenItem, Code, DeadLetter, DeployedModuleItem, DeploymentAction, DeploymentItem,
    DeploymentRequest, DesireRequest, DeviceAction, DeviceCredential, DeviceItem, DeviceRequest,
    DeviceboundRequest, End, InvalidMessage, Item, Level, LogLine, LogsRequest, MessageText, MethodReplyItem,
    MethodRequest, ModuleAction, ModuleItem, ModuleRequest, NotCarriedItem, OPERATOR_PROPERTY, OwnMetric,
    PassingItem, PeekRequest, PurgeRequest, QueueItem, REPLY_BYTES_MAX, REQUEST_BYTES_MAX, ReceiptItem,
    Refusal, Request, RequeueRequest, RouteExplanation, RouteItem, SecretText, SendRequest, Sender,
    SessionItem, ShadowItem, StatusItem, StoredItem, TailRequest, Taken, TwinItem, TwinRequest, UpstreamItem,
    VERSION, WayItem,
};
