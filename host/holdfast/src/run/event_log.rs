//! The event log of Windows, in which a service has the lines that others have on standard error.

use anyhow::Context;
use std::{
    io,
    sync::{Mutex, PoisonError},
};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use winsafe::{HEVENTLOG, HKEY, RegistryValue, SysResult, co, guard::DeregisterEventSourceGuard};

/// Where Windows finds the sources of its log "Application".
const SOURCES: &str = r"SYSTEM\CurrentControlSet\Services\EventLog\Application";
/// A program of Windows with a text for each event from 1 to 1000, which is the one that is reported.
const TEXTS: &str = r"%SystemRoot%\System32\EventCreate.exe";
/// The number of each event.
const EVENT: u32 = 1;
/// Errors, warnings and information.
const KINDS: u32 = 7;
/// Longest text of one event, in UTF-16 units, if each had another behind it (`ReportEventW` takes 31,839).
const UNITS_MAX: usize = 31_000;

/// Makes a source known, so that its events are shown as they were written.
pub fn register(source: &str) -> anyhow::Result<()> {
    let add = || {
        let name = format!(r"{SOURCES}\{source}");
        let (key, _) = HKEY::LOCAL_MACHINE.RegCreateKeyEx(
            &name,
            None,
            co::REG_OPTION::default(),
            co::KEY::SET_VALUE,
            None,
        )?;
        key.RegSetValueEx(Some("EventMessageFile"), RegistryValue::ExpandSz(TEXTS.into()))?;
        key.RegSetValueEx(Some("TypesSupported"), RegistryValue::Dword(KINDS))
    };
    add().with_context(|| format!("{source} cannot be made a source of the event log"))
}

/// Forgets a source. What it wrote stays.
pub fn unregister(source: &str) -> anyhow::Result<()> {
    match HKEY::LOCAL_MACHINE.RegDeleteKey(&format!(r"{SOURCES}\{source}")) {
        Err(error) if error != co::ERROR::FILE_NOT_FOUND => {
            Err(error).with_context(|| format!("{source} is still a source of the event log"))
        }
        _ => Ok(()),
    }
}

/// Reports an error where nothing is logged yet.
pub fn report_error(source: &str, text: &str) {
    if let Ok(log) = EventLog::open(source) {
        // There is nowhere else to say it.
        let _ = log.report(co::EVENTLOG::ERROR_TYPE, text);
    }
}

/// The log, for one source.
pub struct EventLog(Mutex<DeregisterEventSourceGuard>);

impl EventLog {
    /// Opens it.
    pub fn open(source: &str) -> SysResult<Self> {
        HEVENTLOG::RegisterEventSource(None, source).map(|log| Self(Mutex::new(log)))
    }

    fn report(&self, kind: co::EVENTLOG, text: &str) -> SysResult<()> {
        let text = shown(text.trim_end());
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.ReportEvent(kind, 0, EVENT, None, &[text], &[])
    }
}

/// A text that is shown as it is: not too long, and without what Windows takes for the place of another text, a percent sign before a
/// digit. Who is to see such a sign sees a space behind it.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut units = 0;
    for letter in text.chars() {
        units += letter.len_utf16() + 1;
        if units > UNITS_MAX {
            break;
        }
        if letter.is_ascii_digit() && shown.ends_with('%') {
            shown.push(' ');
        }
        shown.push(letter);
    }
    shown
}

/// What is written of one event.
pub struct Entry<'a> {
    log: &'a EventLog,
    kind: co::EVENTLOG,
}

impl<'a> MakeWriter<'a> for EventLog {
    type Writer = Entry<'a>;

    fn make_writer(&'a self) -> Entry<'a> {
        Entry { log: self, kind: co::EVENTLOG::INFORMATION_TYPE }
    }

    fn make_writer_for(&'a self, about: &Metadata<'_>) -> Entry<'a> {
        let kind = match *about.level() {
            Level::ERROR => co::EVENTLOG::ERROR_TYPE,
            Level::WARN => co::EVENTLOG::WARNING_TYPE,
            _ => co::EVENTLOG::INFORMATION_TYPE,
        };
        Entry { log: self, kind }
    }
}

impl io::Write for Entry<'_> {
    // A line comes as a whole.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.log.report(self.kind, &text).map_err(io::Error::other)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
