//! The host's own log, on standard error, with a level that can be changed while it runs. Under systemd each line begins with
//! its severity as journald reads it (sd-daemon(3)), and journald sets the time. A service of Windows has its lines in the event log.

use holdfast_config::Level;
use std::{
    fmt::Result as Written,
    io::{IsTerminal, stderr},
};
use tracing::{Event, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Registry,
    filter::Targets,
    fmt::{self, FormatEvent},
    layer::SubscriberExt,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

/// Changes what is logged.
#[derive(Clone)]
pub struct LogControl(reload::Handle<Targets, Registry>);

/// The rooms follow the level; libraries below say more than an operator wants and follow a coarser one.
fn filter(level: Level) -> Targets {
    let (rooms, libraries) = match level {
        Level::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
        Level::Warn => (LevelFilter::WARN, LevelFilter::WARN),
        Level::Info => (LevelFilter::INFO, LevelFilter::WARN),
        Level::Debug => (LevelFilter::DEBUG, LevelFilter::INFO),
        Level::Trace => (LevelFilter::TRACE, LevelFilter::INFO),
    };
    // A target is a module path; `holdfast` is the beginning of every room's.
    Targets::new().with_default(libraries).with_target("holdfast", rooms)
}

/// Starts logging to standard error.
pub fn start(level: Level) -> LogControl {
    let (layer, handle) = reload::Layer::new(filter(level));
    let journal = is_journal().then(|| {
        let format = Journal(fmt::format().without_time());
        fmt::layer().with_writer(stderr).with_ansi(false).event_format(format)
    });
    #[cfg(windows)]
    let events = events();
    #[cfg(windows)]
    let is_plain = events.is_none();
    #[cfg(unix)]
    let is_plain = journal.is_none();
    let plain = is_plain.then(|| fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal()));
    let log = tracing_subscriber::registry().with(layer).with(journal).with(plain);
    #[cfg(windows)]
    let log = log.with(events);
    // A second start in one process keeps the first subscriber; only tests do that.
    let _ = log.try_init();
    LogControl(handle)
}

/// Whether journald reads standard error. The variable alone does not say it: children inherit it.
#[cfg(unix)]
fn is_journal() -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|about| stream == format!("{}:{}", about.dev(), about.ino()))
}

#[cfg(windows)]
fn is_journal() -> bool {
    false
}

/// The event log, which sets time and severity, if this is a service.
#[cfg(windows)]
fn events<S: Subscriber + for<'a> LookupSpan<'a>>() -> Option<impl tracing_subscriber::Layer<S>> {
    use super::{event_log::EventLog, service};
    let log = service::is_running().then(|| EventLog::open(service::NAME)).and_then(Result::ok)?;
    Some(fmt::layer().with_writer(log).with_ansi(false).without_time().with_level(false))
}

/// Lines for journald.
struct Journal(fmt::format::Format<fmt::format::Full, ()>);

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> fmt::FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &fmt::FmtContext<'_, S, N>,
        mut writer: fmt::format::Writer<'_>,
        event: &Event<'_>,
    ) -> Written {
        let severity = match *event.metadata().level() {
            tracing::Level::ERROR => 3,
            tracing::Level::WARN => 4,
            tracing::Level::INFO => 6,
            tracing::Level::DEBUG | tracing::Level::TRACE => 7,
        };
        write!(writer, "<{severity}>")?;
        self.0.format_event(context, writer, event)
    }
}

impl LogControl {
    /// Changes the level.
    pub fn set(&self, level: Level) -> Result<(), String> {
        self.0.reload(filter(level)).map_err(|error| error.to_string())
    }
}
