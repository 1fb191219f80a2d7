//! The doubles: each call goes to the [`World`] of the test harness that is running on this thread.

use crate::{
    Outgoing, UnixMillis,
    log::Level,
    methods::{MethodError, Reply},
    metrics::MetricError,
    outbox::SendError,
    state::StateError,
    testing::{Measured, World},
    timers::TimerError,
    twins::TwinError,
};
use std::cell::RefCell;

thread_local! {
    static CURRENT: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Runs `act` with `world` as what the host provides, and gives the world back. If `act` panics the world is lost with
/// the test that it belongs to.
pub fn within<T>(world: World, act: impl FnOnce() -> T) -> (T, World) {
    let outer = CURRENT.replace(Some(world));
    let result = act();
    let world = CURRENT.replace(outer).unwrap_or_default();
    (result, world)
}

fn with<T>(call: &str, act: impl FnOnce(&mut World) -> T) -> T {
    CURRENT.with_borrow_mut(|current| match current {
        Some(world) => act(world),
        None => panic!(
            "{call} was called outside a module; in a test, call it through holdfast_sdk::testing::Harness"
        ),
    })
}

pub fn send(output: &str, message: Outgoing) -> Result<(), SendError> {
    with("outbox::send", |world| world.send(output, message))
}

pub fn set_once(name: &str, delay_ms: u32) -> Result<(), TimerError> {
    with("timers::once", |world| world.set_timer(name, delay_ms, false))
}

pub fn set_repeating(name: &str, period_ms: u32) -> Result<(), TimerError> {
    with("timers::every", |world| world.set_timer(name, period_ms, true))
}

pub fn cancel(name: &str) {
    with("timers::cancel", |world| world.cancel_timer(name));
}

pub fn twin_desired() -> Result<(u64, String), TwinError> {
    with("twins::desired", |world| Ok((world.twin.version, world.twin.desired.to_string())))
}

pub fn twin_reported() -> Result<String, TwinError> {
    with("twins::reported", |world| Ok(world.twin.reported.to_string()))
}

pub fn twin_report(patch: &str) -> Result<(), TwinError> {
    with("twins::report", |world| world.report(patch))
}

pub fn method_call(target: &str, name: &str, payload: &str, ms: u32) -> Result<Reply, MethodError> {
    with("methods::call", |world| world.call(target, name, payload, ms))
}

#[cfg(feature = "http")]
pub fn http_send(
    request: &crate::http::Request,
    target: &crate::http::Target,
) -> Result<crate::http::Response, crate::http::HttpError> {
    with("http::Request::send", |world| world.web.send(request, target))
}

pub fn metric_count(name: &str, by: u64) -> Result<(), MetricError> {
    with("metrics::count", |world| world.measure(name, Measured::Counter(by)))
}

pub fn metric_gauge(name: &str, value: f64) -> Result<(), MetricError> {
    with("metrics::gauge", |world| world.measure(name, Measured::Gauge(value)))
}

pub fn metric_observe(name: &str, value: f64) -> Result<(), MetricError> {
    with("metrics::observe", |world| world.measure(name, Measured::Observed(vec![value])))
}

pub fn config_get(key: &str) -> Result<Option<String>, String> {
    with("config::get", |world| Ok(world.config.get(key).cloned()))
}

pub fn config_all() -> Result<Vec<(String, String)>, String> {
    with("config::all", |world| Ok(world.config.iter().map(|(k, v)| (k.clone(), v.clone())).collect()))
}

pub fn state_get(key: &str) -> Result<Option<Vec<u8>>, StateError> {
    with("state::get", |world| world.state().map(|state| state.get(key).cloned()))
}

pub fn state_set(key: &str, value: &[u8]) -> Result<(), StateError> {
    with("state::set", |world| {
        world.state_to_write().map(|state| state.insert(key.to_owned(), value.to_vec()))
    })?;
    Ok(())
}

pub fn state_delete(key: &str) -> Result<(), StateError> {
    with("state::delete", |world| world.state_to_write().map(|state| state.remove(key)))?;
    Ok(())
}

pub fn state_exists(key: &str) -> Result<bool, StateError> {
    with("state::exists", |world| world.state().map(|state| state.contains_key(key)))
}

pub fn state_keys(cursor: Option<u64>) -> Result<(Vec<String>, Option<u64>), StateError> {
    // Small pages, so that a test sees a module that reads only the first.
    const PAGE: usize = 2;
    with("state::keys", |world| {
        let state = world.state()?;
        let from = cursor.and_then(|at| usize::try_from(at).ok()).unwrap_or(0);
        let page: Vec<String> = state.keys().skip(from).take(PAGE).cloned().collect();
        let next = from + page.len();
        Ok((page, (next < state.len()).then_some(next as u64)))
    })
}

/// Outside a harness a line goes to the error stream, so that helper functions that log can be tested alone.
pub fn log(level: Level, context: &str, line: &str) {
    CURRENT.with_borrow_mut(|current| match current {
        Some(world) => world.log(level, line),
        None => eprintln!("{level:?} {context}: {line}"),
    });
}

pub fn now() -> UnixMillis {
    with("clock::now", |world| world.now)
}
