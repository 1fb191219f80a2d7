//! The last log lines of a module, in memory, with a bound in lines and bytes; and readers that follow.

use crate::config::Profile;
use crate::status::now;
use holdfast_types::{Text, UnixMillis};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Most bytes of one line; what is longer is cut. A line longer than this is data, not a message to people.
pub(crate) const LINE_BYTES_MAX: usize = 4 * 1024;

/// Most lines of standard error that are told as the cause of a trap.
const LAST_LINES: usize = 6;

/// How grave a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Finest detail.
    Trace,
    /// For the module's author.
    Debug,
    /// Normal events; standard output.
    Info,
    /// Something to look at; standard error.
    Warn,
    /// Something failed.
    Error,
    /// The module cannot do its work.
    Critical,
}

impl LogLevel {
    /// The word that is shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// Who wrote a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogOrigin {
    /// The module, through the logging interface.
    Module,
    /// The module's standard output.
    Stdout,
    /// The module's standard error.
    Stderr,
    /// The host, about the module.
    Host,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When it was written.
    pub at: UnixMillis,
    /// How grave it is.
    pub level: LogLevel,
    /// Who wrote it.
    pub origin: LogOrigin,
    /// What it says, with the context in front if the module gave one.
    pub text: Text,
}

/// Which lines are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Only the last so many of what is there now.
    pub tail: Option<usize>,
    /// Only those since then.
    pub since: Option<UnixMillis>,
    /// Wait for further lines.
    pub follow: bool,
}

#[derive(Debug)]
struct Ring {
    lines: VecDeque<LogLine>,
    bytes: usize,
    /// The number of the line at the front; lines are numbered from 0 for the life of the book.
    first: u64,
    closed: bool,
}

#[derive(Debug)]
struct Inner {
    ring: Mutex<Ring>,
    written: Notify,
    lines_max: usize,
    bytes_max: usize,
}

/// The lines of one module. Clones write to the same book.
#[derive(Clone, Debug)]
pub(crate) struct LogBook(Arc<Inner>);

impl LogBook {
    pub(crate) fn new(profile: Profile) -> Self {
        // Enough for the last minutes of a busy module; a hundred modules stay below 50 MiB, or 6 MiB when small.
        let (lines_max, bytes_max) = match profile {
            Profile::Standard => (2_000, 512 * 1024),
            Profile::Small => (300, 64 * 1024),
        };
        let ring = Ring { lines: VecDeque::new(), bytes: 0, first: 0, closed: false };
        Self(Arc::new(Inner { ring: Mutex::new(ring), written: Notify::new(), lines_max, bytes_max }))
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self, level: LogLevel, origin: LogOrigin, text: &str) {
        let text = cut(text.trim_end_matches(['\n', '\r']), LINE_BYTES_MAX);
        let line = LogLine { at: now(), level, origin, text: text.into() };
        let mut ring = self.ring();
        ring.bytes += line.text.len();
        ring.lines.push_back(line);
        while ring.lines.len() > self.0.lines_max || ring.bytes > self.0.bytes_max {
            let Some(oldest) = ring.lines.pop_front() else { break };
            ring.bytes -= oldest.text.len();
            ring.first += 1;
        }
        drop(ring);
        self.0.written.notify_waiters();
    }

    /// What the module last wrote to standard error since then: a panic's own words, in one line.
    pub(crate) fn last_words(&self, since: UnixMillis) -> Option<String> {
        let ring = self.ring();
        let own = ring.lines.iter().rev().take_while(|line| line.at >= since);
        let mut words: Vec<&str> = own
            .take_while(|line| line.origin == LogOrigin::Stderr)
            .take(LAST_LINES)
            .map(|line| &*line.text)
            .collect();
        // A panic of a Rust guest begins with the thread's name; what stands before it is older.
        if let Some(begin) = words.iter().position(|line| line.starts_with("thread '")) {
            words.truncate(begin + 1);
        }
        words.retain(|line| !line.is_empty() && !line.starts_with("note:"));
        words.reverse();
        (!words.is_empty()).then(|| words.join(" "))
    }

    /// Ends all readers: the module is gone.
    pub(crate) fn close(&self) {
        self.ring().closed = true;
        self.0.written.notify_waiters();
    }

    pub(crate) fn reader(&self, query: LogQuery) -> LogReader {
        let ring = self.ring();
        let end = ring.first + ring.lines.len() as u64;
        let next = match query.tail {
            Some(tail) => end.saturating_sub(tail as u64).max(ring.first),
            None => ring.first,
        };
        drop(ring);
        LogReader { book: self.clone(), next, end, query }
    }
}

/// The longest beginning of `text` with at most `max` bytes.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

/// Lines of a module, oldest first.
#[derive(Debug)]
pub struct LogReader {
    book: LogBook,
    next: u64,
    /// Where a reader that does not follow stops.
    end: u64,
    query: LogQuery,
}

impl LogReader {
    /// The next line; `None` at the end. A reader that follows ends when the module is removed. Lines that were dropped
    /// from the book before they were read are skipped.
    pub async fn next(&mut self) -> Option<LogLine> {
        let inner = self.book.0.clone();
        loop {
            // The waiter is made before the look, so that a line written in between wakes it.
            let written = inner.written.notified();
            match self.look() {
                Look::Line(line) => return Some(line),
                Look::End => return None,
                Look::Wait => written.await,
            }
        }
    }

    /// Those that are there now.
    pub fn ready(&mut self) -> Vec<LogLine> {
        std::iter::from_fn(|| match self.look() {
            Look::Line(line) => Some(line),
            Look::End | Look::Wait => None,
        })
        .collect()
    }

    fn look(&mut self) -> Look {
        let ring = self.book.ring();
        self.next = self.next.max(ring.first);
        loop {
            if !self.query.follow && self.next >= self.end {
                return Look::End;
            }
            let at = usize::try_from(self.next - ring.first).unwrap_or(usize::MAX);
            let Some(line) = ring.lines.get(at) else {
                return if ring.closed { Look::End } else { Look::Wait };
            };
            self.next += 1;
            if self.query.since.is_none_or(|since| line.at >= since) {
                return Look::Line(line.clone());
            }
        }
    }
}

enum Look {
    Line(LogLine),
    Wait,
    End,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[LogLine]) -> Vec<&str> {
        lines.iter().map(|line| &*line.text).collect()
    }

    #[test]
    fn the_book_keeps_the_newest_lines_within_its_bounds() {
        let book = LogBook::new(Profile::Small);
        for n in 0..1_000 {
            book.write(LogLevel::Info, LogOrigin::Module, &format!("line {n}"));
        }
        let all = book.reader(LogQuery::default()).ready();
        assert_eq!(all.len(), 300);
        assert_eq!(&*all[0].text, "line 700");
        let tail = book.reader(LogQuery { tail: Some(2), ..LogQuery::default() }).ready();
        assert_eq!(texts(&tail), ["line 998", "line 999"]);

        book.write(LogLevel::Info, LogOrigin::Stdout, &"ü".repeat(100_000));
        let all = book.reader(LogQuery::default()).ready();
        assert!(all.iter().map(|line| line.text.len()).sum::<usize>() <= 64 * 1024);
        assert_eq!(all[all.len() - 1].text.len(), LINE_BYTES_MAX);
    }

    #[tokio::test]
    async fn a_follower_sees_lines_as_they_come_and_ends_with_the_module() {
        let book = LogBook::new(Profile::Small);
        book.write(LogLevel::Info, LogOrigin::Module, "before");
        let mut follower = book.reader(LogQuery { follow: true, tail: Some(0), since: None });
        let writer = book.clone();
        let write = tokio::spawn(async move {
            writer.write(LogLevel::Warn, LogOrigin::Stderr, "after\n");
            writer.close();
        });
        assert_eq!(&*follower.next().await.unwrap().text, "after");
        assert_eq!(follower.next().await, None);
        write.await.unwrap();
    }
}
