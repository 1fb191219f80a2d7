//! What a module may call: one file for each interface, named as in wit/.
//!
//! Sends, state writes and reports are collected and take effect when the call has succeeded, so there is nothing to
//! wait for. Only calls of methods suspend the module.

mod batches;
mod config;
mod files;
mod keyvalue;
mod logging;
mod methods;
mod metrics;
mod network;
mod outbox;
mod stdio;
mod timers;
mod twins;
mod wasi;

pub(crate) mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "batch-module",
        ownership: Borrowing { duplicate_if_necessary: false },
        imports: { "holdfast:module/methods.call": async },
        exports: { default: async },
        with: { "wasi:keyvalue/store.bucket": crate::imports::keyvalue::Bucket },
    });
}

pub(crate) use batches::{BATCH_HANDLER, Sharing};
pub(crate) use files::Views;
pub(crate) use methods::{Calling, METHOD_HANDLER, METHODS};
pub(crate) use network::{Reach, Requests, Sockets};
pub(crate) use outbox::Outbox;
pub(crate) use timers::{TIMER_HANDLER, TimerSet};
pub(crate) use twins::TWIN_HANDLER;
pub(crate) use wasi::context;

use crate::host::Host;
use wasmtime::component::{HasSelf, Linker};

/// Gives `linker` everything that a module may import.
pub(crate) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    files::link(linker)?;
    network::link(linker)?;
    bindings::BatchModule::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)
}

/// Why a program, or an instance that answers a request, cannot send, store or report.
const NO_TURN: &str = "only what handles messages can send, store and report: here nothing would be recorded";

/// What a module that handles messages exports.
/// The version is looked up as semantic versioning has it: what was built with an older one of 0.1 is found.
pub(crate) const HANDLER: &str = "holdfast:module/handler@0.1.1";

/// How its name begins, whatever the last number.
pub(crate) const HANDLERS: &str = "holdfast:module/handler@0.1.";

/// What a program with a main function exports, and what answers HTTP requests; the versions that are taken follow.
pub(crate) const RUN: &str = "wasi:cli/run@0.2.";
pub(crate) const INCOMING: &str = "wasi:http/incoming-handler@0.2.";

/// The interfaces that modules may import, for messages about those they may not.
pub(crate) const OFFERED: &[&str] = &[
    "holdfast:module/types",
    "holdfast:module/outbox",
    "holdfast:module/timers",
    "holdfast:module/twins",
    "holdfast:module/methods",
    "holdfast:module/metrics",
    "wasi:config/store",
    "wasi:keyvalue/store",
    "wasi:logging/logging",
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
    "wasi:http/types",
    "wasi:http/outgoing-handler",
];
