//! The imports of the component, and the types of the wire turned into those of this crate.

use crate::{
    Delivered, Failure, Message, Outgoing, Source, SystemProperties, UnixMillis,
    log::Level,
    methods::{MethodError, Reply},
    metrics::MetricError,
    outbox::SendError,
    state::StateError,
    timers::TimerError,
    twins::TwinError,
};

#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
pub use http::{http_send, http_serve};

/// Generated from `wit/`.
#[allow(missing_docs, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "full-module",
        generate_all,
        pub_export_macro: true,
    });
}

/// The export of modules that take batches. Generated apart: those that do not export what they always have.
#[allow(missing_docs, clippy::all)]
pub mod batch_bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "batches",
        with: { "holdfast:module/types@0.1.1": crate::imports::bindings::holdfast::module::types },
        pub_export_macro: true,
    });
}

use batch_bindings::exports::holdfast::module::batch_handler;
use bindings::{
    exports::holdfast::module::handler,
    holdfast::module::{methods, metrics, outbox, timers, twins, types},
    wasi::{config::store as config, keyvalue::store as keyvalue, logging::logging},
};

pub use handler::Failure as WireFailure;
pub use types::MethodReply as WireReply;

pub fn send(output: &str, message: Outgoing) -> Result<(), SendError> {
    let message =
        types::Outgoing { body: message.body, properties: message.properties, system: message.system.into() };
    outbox::send(output, &message).map_err(|error| match error {
        outbox::SendError::InvalidOutput(why) => SendError::InvalidOutput(why),
        outbox::SendError::BodyTooLarge(max) => SendError::BodyTooLarge(max),
        outbox::SendError::TooManyProperties(max) => SendError::TooManyProperties(max),
        outbox::SendError::QuotaExceeded(what) => SendError::QuotaExceeded(what),
    })
}

pub fn set_once(name: &str, delay_ms: u32) -> Result<(), TimerError> {
    timers::set_once(name, delay_ms).map_err(Into::into)
}

pub fn set_repeating(name: &str, period_ms: u32) -> Result<(), TimerError> {
    timers::set_repeating(name, period_ms).map_err(Into::into)
}

pub fn cancel(name: &str) {
    timers::cancel(name);
}

pub fn twin_desired() -> Result<(u64, String), TwinError> {
    Ok(twins::desired().map(|desired| (desired.version, desired.json))?)
}

pub fn twin_reported() -> Result<String, TwinError> {
    Ok(twins::reported()?)
}

pub fn twin_report(patch: &str) -> Result<(), TwinError> {
    Ok(twins::report(patch)?)
}

pub fn method_call(target: &str, name: &str, payload: &str, ms: u32) -> Result<Reply, MethodError> {
    let reply = methods::call(target, name, payload, ms)?;
    Ok(Reply { status: reply.status, payload: reply.payload_json })
}

pub fn metric_count(name: &str, by: u64) -> Result<(), MetricError> {
    Ok(metrics::count(name, by)?)
}

pub fn metric_gauge(name: &str, value: f64) -> Result<(), MetricError> {
    Ok(metrics::gauge(name, value)?)
}

pub fn metric_observe(name: &str, value: f64) -> Result<(), MetricError> {
    Ok(metrics::observe(name, value)?)
}

pub fn config_get(key: &str) -> Result<Option<String>, String> {
    config::get(key).map_err(config_error)
}

pub fn config_all() -> Result<Vec<(String, String)>, String> {
    config::get_all().map_err(config_error)
}

pub fn state_get(key: &str) -> Result<Option<Vec<u8>>, StateError> {
    with_bucket(|bucket| bucket.get(key))
}

pub fn state_set(key: &str, value: &[u8]) -> Result<(), StateError> {
    with_bucket(|bucket| bucket.set(key, value))
}

pub fn state_delete(key: &str) -> Result<(), StateError> {
    with_bucket(|bucket| bucket.delete(key))
}

pub fn state_exists(key: &str) -> Result<bool, StateError> {
    with_bucket(|bucket| bucket.exists(key))
}

pub fn state_keys(cursor: Option<u64>) -> Result<(Vec<String>, Option<u64>), StateError> {
    with_bucket(|bucket| bucket.list_keys(cursor)).map(|page| (page.keys, page.cursor))
}

pub fn log(level: Level, context: &str, line: &str) {
    let level = match level {
        Level::Trace => logging::Level::Trace,
        Level::Debug => logging::Level::Debug,
        Level::Info => logging::Level::Info,
        Level::Warn => logging::Level::Warn,
        Level::Error => logging::Level::Error,
        Level::Critical => logging::Level::Critical,
    };
    logging::log(level, context, line);
}

pub fn now() -> UnixMillis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixMillis::try_from(since.as_millis()).unwrap_or(UnixMillis::MAX)
}

/// The one bucket is opened once and kept.
fn with_bucket<T>(
    act: impl FnOnce(&keyvalue::Bucket) -> Result<T, keyvalue::Error>,
) -> Result<T, StateError> {
    thread_local! {
        static BUCKET: std::cell::RefCell<Option<keyvalue::Bucket>> = const { std::cell::RefCell::new(None) };
    }
    BUCKET.with_borrow_mut(|kept| {
        let bucket = match kept {
            Some(bucket) => bucket,
            None => kept.insert(keyvalue::open("")?),
        };
        Ok(act(bucket)?)
    })
}

fn config_error(error: config::Error) -> String {
    match error {
        config::Error::Upstream(why) | config::Error::Io(why) => why,
    }
}

impl From<keyvalue::Error> for StateError {
    fn from(error: keyvalue::Error) -> Self {
        match error {
            keyvalue::Error::NoSuchStore => Self::NoStore,
            keyvalue::Error::AccessDenied => Self::AccessDenied,
            keyvalue::Error::Other(why) => Self::Other(why),
        }
    }
}

impl From<timers::TimerError> for TimerError {
    fn from(error: timers::TimerError) -> Self {
        match error {
            timers::TimerError::TooMany(max) => Self::TooMany(max),
            timers::TimerError::TooShort(min) => Self::TooShort(min),
        }
    }
}

impl From<metrics::MetricError> for MetricError {
    fn from(error: metrics::MetricError) -> Self {
        match error {
            metrics::MetricError::Invalid(why) => Self::Invalid(why),
            metrics::MetricError::TooMany(max) => Self::TooMany(max),
        }
    }
}

impl From<twins::TwinError> for TwinError {
    fn from(error: twins::TwinError) -> Self {
        match error {
            twins::TwinError::Invalid(why) => Self::Invalid(why),
            twins::TwinError::TooMany(max) => Self::TooMany(max),
            twins::TwinError::Unavailable(why) => Self::Unavailable(why),
        }
    }
}

impl From<methods::MethodError> for MethodError {
    fn from(error: methods::MethodError) -> Self {
        match error {
            methods::MethodError::Invalid(why) => Self::Invalid(why),
            methods::MethodError::NotConnected(why) => Self::NotConnected(why),
            methods::MethodError::Busy(why) => Self::Busy(why),
            methods::MethodError::NoReply(why) => Self::NoReply(why),
        }
    }
}

impl From<Failure> for WireFailure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Retry(reason) => Self::Retry(reason),
            Failure::Reject(reason) => Self::Reject(reason),
        }
    }
}

impl From<types::Message> for Message {
    fn from(message: types::Message) -> Self {
        Self {
            body: message.body,
            properties: message.properties,
            system: message.system.into(),
            source: message.source.into(),
        }
    }
}

impl From<batch_handler::Delivered> for Delivered {
    fn from(delivered: batch_handler::Delivered) -> Self {
        Self { input: delivered.input, message: delivered.message.into() }
    }
}

impl From<types::SystemProperties> for SystemProperties {
    fn from(system: types::SystemProperties) -> Self {
        Self {
            message_id: system.message_id,
            correlation_id: system.correlation_id,
            content_type: system.content_type,
            content_encoding: system.content_encoding,
            creation_time: system.creation_time,
        }
    }
}

impl From<SystemProperties> for types::SystemProperties {
    fn from(system: SystemProperties) -> Self {
        Self {
            message_id: system.message_id,
            correlation_id: system.correlation_id,
            content_type: system.content_type,
            content_encoding: system.content_encoding,
            creation_time: system.creation_time,
        }
    }
}

impl From<types::Source> for Source {
    fn from(source: types::Source) -> Self {
        match source {
            types::Source::Module(source) => Self::Module { module: source.module, output: source.output },
            types::Source::Child(source) => Self::Child { child: source.child, topic: source.topic },
            types::Source::TwinChange((device, module)) => Self::TwinChange { device, module },
        }
    }
}
