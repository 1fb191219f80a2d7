//! What one instance holds on the host's side.

use crate::config::Limits;
use crate::imports::{Calling, Outbox, Requests, Sharing, Sockets, TimerSet, Views};
use crate::limiter::Limiter;
use crate::metrics::Metrics;
use crate::module_log::ModuleLog;
use crate::pace::Meter;
use crate::runtime::Deadline;
use crate::settings::Settings;
use crate::state::StateView;
use crate::twin::TwinView;
use std::sync::Arc;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::WasiHttpCtx;

/// Most WASI resources (open files, streams, pollables) of one instance at a time.
pub(crate) const RESOURCES_MAX: usize = 1_024;

/// The data of a `wasmtime::Store`: what the imports work on.
pub(crate) struct Host {
    pub(crate) wasi: WasiCtx,
    pub(crate) table: ResourceTable,
    pub(crate) limiter: Limiter,
    pub(crate) limits: Limits,
    pub(crate) settings: Arc<Settings>,
    pub(crate) log: ModuleLog,
    pub(crate) meter: Meter,
    pub(crate) metrics: Metrics,
    pub(crate) deadline: Deadline,
    pub(crate) outbox: Outbox,
    /// By how many messages the running call is shared.
    pub(crate) sharing: Sharing,
    pub(crate) timers: TimerSet,
    pub(crate) state: StateView,
    pub(crate) views: Views,
    pub(crate) twin: TwinView,
    pub(crate) calling: Calling,
    /// Whom it may reach, and the WASI of HTTP.
    pub(crate) requests: Requests,
    pub(crate) http: WasiHttpCtx,
    pub(crate) sockets: Sockets,
    /// Whether its calls belong to turns, which record what it sends and stores.
    pub(crate) records: bool,
}

impl Host {
    /// Forgets what the running call has sent and stored: it failed.
    pub(crate) fn discard(&mut self) {
        self.outbox.clear();
        self.state.discard();
        self.twin.discard();
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}
