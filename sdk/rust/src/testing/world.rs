//! What the doubles hold: the world as one module sees it.

use super::{Called, Harness, Line, Measured, Sent, twin::TestTwin};
use crate::{
    Outgoing, Source, UnixMillis,
    log::Level,
    methods::{MethodError, Reply},
    metrics::MetricError,
    outbox::SendError,
    ports::{self, Ports},
    state::StateError,
    timers::TimerError,
    twins::TwinError,
};
use serde_json::Value;
use std::collections::BTreeMap;

// The limits of a host with its default settings, so that a test meets them first.
/// Shortest time of a timer, in milliseconds.
pub const TIMER_MS_MIN: u32 = 10;
/// Most timers of one module.
const TIMERS_MAX: usize = 32;
/// Most metrics of one module, and most characters of a metric's name.
const METRICS_MAX: usize = 64;
/// Shortest time of a method, in milliseconds.
const METHOD_MS_MIN: u32 = 5_000;
/// Longest time of a method, in milliseconds.
const METHOD_MS_MAX: u32 = 300_000;
/// Most bytes in a body.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most application properties of a message.
const PROPERTIES_MAX: usize = 256;
/// Most bytes in a name.
const NAME_BYTES_MAX: usize = 128;

/// What the host says to what would record something while the module answers an HTTP request.
const NO_TURN: &str = "only what handles messages can send, store and report: here nothing would be recorded";

#[derive(Debug)]
pub struct World {
    pub now: UnixMillis,
    pub config: BTreeMap<String, String>,
    pub state: BTreeMap<String, Vec<u8>>,
    pub state_broken: bool,
    pub sent: Vec<Sent>,
    /// The outputs that the module declares.
    pub outputs: Ports,
    pub logs: Vec<Line>,
    pub twin: TestTwin,
    /// What methods of others answer, by target and name.
    pub answers: BTreeMap<(String, String), Reply>,
    pub calls: Vec<Called>,
    pub metrics: BTreeMap<String, Measured>,
    #[cfg(feature = "http")]
    pub web: super::web::Web,
    /// Whether the module answers an HTTP request, which records nothing.
    pub answers_request: bool,
    timers: Vec<Timer>,
}

#[derive(Debug)]
struct Timer {
    name: String,
    due: UnixMillis,
    period_ms: Option<u32>,
}

/// What a failed call is rolled back to.
pub struct Savepoint {
    sent: usize,
    state: BTreeMap<String, Vec<u8>>,
    reported: Value,
}

impl Default for World {
    fn default() -> Self {
        Self {
            now: Harness::START,
            config: BTreeMap::new(),
            state: BTreeMap::new(),
            state_broken: false,
            sent: Vec::new(),
            outputs: ports::ANY,
            logs: Vec::new(),
            twin: TestTwin::default(),
            answers: BTreeMap::new(),
            calls: Vec::new(),
            metrics: BTreeMap::new(),
            #[cfg(feature = "http")]
            web: super::web::Web::default(),
            answers_request: false,
            timers: Vec::new(),
        }
    }
}

impl World {
    pub fn savepoint(&mut self) -> Savepoint {
        self.twin.begin();
        Savepoint { sent: self.sent.len(), state: self.state.clone(), reported: self.twin.reported.clone() }
    }

    pub fn roll_back(&mut self, to: Savepoint) {
        self.sent.truncate(to.sent);
        self.state = to.state;
        self.twin.reported = to.reported;
    }

    pub fn send(&mut self, output: &str, message: Outgoing) -> Result<(), SendError> {
        if self.answers_request {
            return Err(SendError::QuotaExceeded(NO_TURN.to_owned()));
        }
        check_name(output).map_err(SendError::InvalidOutput)?;
        if !ports::have(self.outputs, output) {
            let known = self.outputs.join(", ");
            return Err(SendError::InvalidOutput(format!(
                "{output:?} is not declared, but {known}; add it to Module::OUTPUTS"
            )));
        }
        if message.body.len() > BODY_BYTES_MAX {
            return Err(SendError::BodyTooLarge(BODY_BYTES_MAX as u64));
        }
        if message.properties.len() > PROPERTIES_MAX {
            return Err(SendError::TooManyProperties(PROPERTIES_MAX as u32));
        }
        let source = Source::Module { module: "under-test".to_owned(), output: Some(output.to_owned()) };
        self.sent.push(Sent { output: output.to_owned(), message: message.received_from(source) });
        Ok(())
    }

    pub fn state(&mut self) -> Result<&mut BTreeMap<String, Vec<u8>>, StateError> {
        match self.state_broken {
            true => Err(StateError::Other("the test broke it".to_owned())),
            false => Ok(&mut self.state),
        }
    }

    pub fn state_to_write(&mut self) -> Result<&mut BTreeMap<String, Vec<u8>>, StateError> {
        match self.answers_request {
            true => Err(StateError::Other(NO_TURN.to_owned())),
            false => self.state(),
        }
    }

    pub fn report(&mut self, patch: &str) -> Result<(), TwinError> {
        match self.answers_request {
            true => Err(TwinError::Unavailable(NO_TURN.to_owned())),
            false => self.twin.report(patch),
        }
    }

    pub fn call(&mut self, target: &str, name: &str, payload: &str, ms: u32) -> Result<Reply, MethodError> {
        if ms != 0 && !(METHOD_MS_MIN..=METHOD_MS_MAX).contains(&ms) {
            return Err(MethodError::Invalid(format!(
                "the time of {ms} ms is out of range; take {METHOD_MS_MIN} to {METHOD_MS_MAX}"
            )));
        }
        let called = Called { target: target.to_owned(), name: name.to_owned(), payload: payload.to_owned() };
        let answer = self.answers.get(&(called.target.clone(), called.name.clone())).cloned();
        self.calls.push(called);
        answer.ok_or_else(|| {
            MethodError::NotConnected(format!("{target} is not connected, or serves no methods"))
        })
    }

    pub fn measure(&mut self, name: &str, new: Measured) -> Result<(), MetricError> {
        if let Some(metric) = self.metrics.get_mut(name) {
            match (metric, new) {
                (Measured::Counter(value), Measured::Counter(by)) => *value = value.saturating_add(by),
                (Measured::Gauge(value), Measured::Gauge(new)) => *value = new,
                (Measured::Observed(values), Measured::Observed(new)) => values.extend(new),
                _ => return Err(MetricError::Invalid(format!("{name:?} is a metric of another kind"))),
            }
            return Ok(());
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_name = name.chars().all(allowed) && !name.starts_with(|c: char| c.is_ascii_digit());
        if !is_name || name.is_empty() || name.len() > METRICS_MAX {
            return Err(MetricError::Invalid(format!("{name:?} is no name of a metric")));
        }
        if self.metrics.len() >= METRICS_MAX {
            return Err(MetricError::TooMany(METRICS_MAX as u32));
        }
        self.metrics.insert(name.to_owned(), new);
        Ok(())
    }

    pub fn log(&mut self, level: Level, line: &str) {
        self.logs.push(Line { level, text: line.to_owned() });
    }

    pub fn set_timer(&mut self, name: &str, time_ms: u32, repeating: bool) -> Result<(), TimerError> {
        if time_ms < TIMER_MS_MIN {
            return Err(TimerError::TooShort(TIMER_MS_MIN));
        }
        let others = self.timers.iter().filter(|timer| timer.name != name).count();
        if others >= TIMERS_MAX {
            return Err(TimerError::TooMany(TIMERS_MAX as u32));
        }
        self.cancel_timer(name);
        let due = self.now.saturating_add(u64::from(time_ms));
        self.timers.push(Timer { name: name.to_owned(), due, period_ms: repeating.then_some(time_ms) });
        Ok(())
    }

    pub fn cancel_timer(&mut self, name: &str) {
        self.timers.retain(|timer| timer.name != name);
    }

    pub fn clear_timers(&mut self) {
        self.timers.clear();
    }

    pub fn timer_names(&self) -> Vec<&str> {
        self.timers.iter().map(|timer| timer.name.as_str()).collect()
    }

    /// The next timer that runs out no later than `until`. The clock moves to that moment.
    pub fn next_timer(&mut self, until: UnixMillis) -> Option<String> {
        let (at, _) = self.timers.iter().enumerate().min_by_key(|(_, timer)| timer.due)?;
        let timer = self.timers.get_mut(at).filter(|timer| timer.due <= until)?;
        self.now = self.now.max(timer.due);
        let name = timer.name.clone();
        match timer.period_ms {
            Some(period) => timer.due = timer.due.saturating_add(u64::from(period)),
            None => drop(self.timers.remove(at)),
        }
        Some(name)
    }
}

/// The names that the host takes: those of IoT Hub, less the characters that MQTT filters give a meaning.
fn check_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-:._%*?!(),=@$'".contains(c);
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(format!("it has {} bytes; 1 to {NAME_BYTES_MAX} are allowed", name.len()));
    }
    match name.char_indices().find(|&(_, c)| !allowed(c)) {
        Some((at, c)) => Err(format!("{c:?} at byte {at} is not allowed")),
        None => Ok(()),
    }
}
