//! The walk over the TOML tree: it reads on after a fault, so that one run reports every fault.
//!
//! A [`Section`] is asked for each key that it may hold; what is left over at its end is unknown. So the list of known
//! keys cannot differ from what is read.

use crate::{Fault, Faults, nearest::nearest};
use std::{cell::RefCell, ops::Range, sync::Arc};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// What is wrong with a value and what to do; where is added by the [`Section`].
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) reason: String,
    pub(crate) fix: String,
    /// Bytes from the start of the value's text to the faulty place.
    pub(crate) offset: Option<usize>,
}

impl Problem {
    pub(crate) fn new(reason: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { reason: reason.into(), fix: fix.into(), offset: None }
    }

    /// The same, at byte `offset` of the value's text.
    pub(crate) fn at(self, offset: usize) -> Self {
        Self { offset: Some(offset), ..self }
    }
}

/// Most faults that are listed: more is another file by mistake, and nobody reads on.
const FAULTS_MAX: usize = 1000;

/// Collects faults and knows where the lines begin.
pub(crate) struct Report<'t> {
    file: Arc<str>,
    text: &'t str,
    /// Where each line begins.
    lines: Vec<usize>,
    faults: RefCell<Vec<Fault>>,
    /// Parts of the text that could not be read: faults of meaning there would only repeat the fault of form.
    broken: Vec<Range<usize>>,
}

impl<'t> Report<'t> {
    pub(crate) fn new(file: &str, text: &'t str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file: file.into(), text, lines, faults: RefCell::default(), broken: Vec::new() }
    }

    /// Takes what the TOML parser could not read.
    pub(crate) fn take_syntax(&mut self, errors: &[toml::de::Error]) {
        for error in errors.iter().take(FAULTS_MAX) {
            let at = error.span().map_or(0, |span| span.start).min(self.text.len());
            let line = self.line_of(at);
            let header = self.text.get(line.clone()).is_some_and(|text| text.trim_start().starts_with('['));
            // A broken header leaves its keys in the wrong table, up to the next header.
            let end = match header {
                true => self
                    .text
                    .get(line.end..)
                    .and_then(|rest| rest.find("\n["))
                    .map_or(self.text.len(), |n| line.end + n),
                false => line.end,
            };
            // One slip makes the parser stumble several times; the first of a line says it.
            if !self.is_broken(at) {
                let named = error.span().and_then(|span| self.text.get(span)).filter(|_| header);
                self.push(at, String::new(), syntax_problem(error.message(), named));
                self.broken.push(line.start..end);
            }
        }
    }

    fn is_full(&self) -> bool {
        self.faults.borrow().len() >= FAULTS_MAX
    }

    fn is_broken(&self, at: usize) -> bool {
        self.broken.iter().any(|range| range.contains(&at) || range.end == at)
    }

    fn line_of(&self, at: usize) -> Range<usize> {
        let (before, after) = self.text.split_at_checked(at).unwrap_or((self.text, ""));
        let start = before.rfind('\n').map_or(0, |n| n + 1);
        start..after.find('\n').map_or(self.text.len(), |n| at + n)
    }

    /// The line and column of a byte, both from 1.
    pub(crate) fn position(&self, at: usize) -> (usize, usize) {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let line = self.lines.partition_point(|start| *start <= at);
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let column = self.text.get(start..at).unwrap_or_default().chars().count() + 1;
        (line, column)
    }

    /// Adds a fault at byte `at`.
    pub(crate) fn push(&self, at: usize, key: String, problem: Problem) {
        if self.is_broken(at) || self.is_full() {
            return;
        }
        let (line, column) = self.position(at);
        let Problem { reason, fix, .. } = problem;
        self.faults.borrow_mut().push(Fault { file: self.file.clone(), line, column, key, reason, fix });
    }

    /// Adds a fault about something that is not there. It is left out of a file that could not be read whole, since
    /// the thing may stand in the unreadable part.
    fn push_missing(&self, at: usize, key: String, problem: Problem) {
        if self.broken.is_empty() {
            self.push(at, key, problem);
        }
    }

    /// `value`, if there was no fault.
    pub(crate) fn finish<T>(self, value: T) -> Result<T, Faults> {
        let mut faults = self.faults.into_inner();
        if faults.is_empty() {
            return Ok(value);
        }
        faults.sort_by(|a, b| (a.line, a.column, &a.key).cmp(&(b.line, b.column, &b.key)));
        Err(Faults(faults))
    }

    /// The byte where the value of `span` has its `offset`-th byte, as far as that can be told: escapes in the text
    /// move what follows them, and then the start of the value has to do.
    fn inside(&self, span: &Range<usize>, value: &str, offset: usize) -> usize {
        let raw = self.text.get(span.clone()).unwrap_or_default();
        match raw.find(value) {
            Some(start) if !value.is_empty() => span.start + start + offset.min(value.len()),
            _ => span.start,
        }
    }
}

/// `section` is the name in the header of a section, if that is where the parser stumbled.
fn syntax_problem(message: &str, section: Option<&str>) -> Problem {
    if let Some(section) = section.filter(|_| message.contains("duplicate key")) {
        let reason = format!("this is not TOML: [{section}] stands here for the second time");
        return Problem::new(reason, "put what stands below it below the first one");
    }
    let fix = match message {
        m if m.contains("duplicate key") => "keep one of the two and remove the other",
        m if m.contains("string values must be quoted") => "put the value in quotation marks",
        m if m.contains("escape") => {
            "write \\\\ for a backslash, or put the text in single quotation marks: 'C:\\folder'"
        }
        _ => "write it as TOML has it: key = \"text\", key = 12, key = [\"a\", \"b\"], [section]",
    };
    Problem::new(format!("this is not TOML: {message}"), fix)
}

/// One value of the tree and where it stands.
#[derive(Clone, Copy)]
pub(crate) struct Value<'a, 'i>(pub(crate) &'a Spanned<DeValue<'i>>);

impl<'a, 'i> Value<'a, 'i> {
    pub(crate) fn get(self) -> &'a DeValue<'i> {
        self.0.get_ref()
    }

    pub(crate) fn at(self) -> usize {
        self.0.span().start
    }

    /// `expected` was wanted and something else is there.
    pub(crate) fn mismatch(self, expected: &str, example: &str) -> Problem {
        let found = match self.get() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a point",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a section",
        };
        Problem::new(format!("{expected} is needed here, and {found} was found"), format!("write {example}"))
    }
}

/// A table of the file while it is read.
pub(crate) struct Section<'a, 'i, 't> {
    report: &'a Report<'t>,
    table: &'a DeTable<'i>,
    /// The full name, empty for the file itself.
    path: String,
    /// Where it begins.
    at: usize,
    asked: Vec<&'static str>,
    /// Other spellings that are understood.
    aliases: Vec<&'static str>,
}

impl<'a, 'i, 't> Section<'a, 'i, 't> {
    pub(crate) fn new(report: &'a Report<'t>, table: &'a DeTable<'i>, path: String, at: usize) -> Self {
        Self { report, table, path, at, asked: Vec::new(), aliases: Vec::new() }
    }

    pub(crate) fn report(&self) -> &'a Report<'t> {
        self.report
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The full name of `key`.
    pub(crate) fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of `key`, as it stands.
    pub(crate) fn value(&mut self, key: &'static str) -> Option<Value<'a, 'i>> {
        self.asked.push(key);
        self.table.get(key).map(Value)
    }

    /// The value of `key` without asking for it.
    pub(crate) fn value_of(&self, key: &str) -> Option<Value<'a, 'i>> {
        self.table.get(key).map(Value)
    }

    /// Whether `key` is there, faulty or not.
    pub(crate) fn holds(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// This section once more, to report faults that are found later.
    pub(crate) fn again(&self) -> Self {
        Self { path: self.path.clone(), asked: Vec::new(), aliases: Vec::new(), ..*self }
    }

    /// The value of a key that is understood but not proposed.
    pub(crate) fn take_alias<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(Value<'a, 'i>) -> Result<T, Problem>,
    ) -> Option<T> {
        self.aliases.push(key);
        let value = self.value_of(key)?;
        read(value).map_err(|problem| self.fault(value, key, problem)).ok()
    }

    /// The value of `key`, read by `read`. Absent, or faulty and reported: none.
    pub(crate) fn take<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(Value<'a, 'i>) -> Result<T, Problem>,
    ) -> Option<T> {
        let value = self.value(key)?;
        read(value).map_err(|problem| self.fault(value, key, problem)).ok()
    }

    /// The same for a list: each faulty item is reported.
    pub(crate) fn take_list<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl Fn(Value<'a, 'i>) -> Result<T, Problem>,
    ) -> Option<Vec<T>> {
        let value = self.value(key)?;
        let DeValue::Array(items) = value.get() else {
            self.fault(value, key, value.mismatch("a list", example));
            return None;
        };
        let item = |item: &'a Spanned<DeValue<'i>>| {
            read(Value(item)).map_err(|problem| self.fault(Value(item), key, problem)).ok()
        };
        Some(items.iter().filter_map(item).collect())
    }

    /// The section `key`.
    pub(crate) fn section(&mut self, key: &'static str) -> Option<Self> {
        let value = self.value(key)?;
        self.subsection(key, value)
    }

    /// `value` as the section `key` of this one.
    pub(crate) fn subsection(&self, key: &str, value: Value<'a, 'i>) -> Option<Self> {
        match value.get() {
            DeValue::Table(table) => Some(Self::new(self.report, table, self.key(key), value.at())),
            _ => {
                self.fault(value, key, value.mismatch("a section", &format!("[{}]", self.key(key))));
                None
            }
        }
    }

    /// Every entry, for tables whose keys are names; then nothing is unknown.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a str, usize, Value<'a, 'i>)> + use<'a, 'i> {
        self.table.iter().map(|(key, value)| (&**key.get_ref(), key.span().start, Value(value)))
    }

    /// Reports a fault of `value`.
    pub(crate) fn fault(&self, value: Value<'a, 'i>, key: &str, problem: Problem) {
        let at = match (problem.offset, value.get()) {
            (Some(offset), DeValue::String(text)) => self.report.inside(&value.0.span(), text, offset),
            _ => value.at(),
        };
        self.report.push(at, self.key(key), problem);
    }

    /// Reports that `key` is needed and absent.
    pub(crate) fn missing(&self, key: &str, problem: Problem) {
        self.report.push_missing(self.at, self.key(key), problem);
    }

    /// Reports every key that nobody asked for.
    pub(crate) fn finish(self) {
        for (key, at, _) in self.entries() {
            // To find what was meant takes time that a full report does not need.
            if !self.asked.contains(&key) && !self.aliases.contains(&key) && !self.report.is_full() {
                self.report.push(at, self.key(key), self.unknown(key));
            }
        }
    }

    fn unknown(&self, key: &str) -> Problem {
        let place = if self.path.is_empty() { "the file".to_owned() } else { section_header(&self.path) };
        let reason = format!("{place} has no key {key:?}");
        if let Some(near) = nearest(key, self.asked.iter().copied()) {
            return Problem::new(reason, format!("write {near:?}"));
        }
        let elsewhere = || crate::KEYS.iter().filter_map(|full| full.rsplit_once('.'));
        if let Some((section, _)) = elsewhere().find(|(_, last)| *last == key) {
            return Problem::new(reason, format!("move it to {}", section_header(section)));
        }
        let near = nearest(key, elsewhere().map(|(_, last)| last));
        if let Some((section, last)) = near.and_then(|near| elsewhere().find(|(_, last)| *last == near)) {
            return Problem::new(reason, format!("write {last:?}, in {}", section_header(section)));
        }
        Problem::new(reason, format!("remove it, or use one of: {}", self.asked.join(", ")))
    }
}

fn section_header(section: &str) -> String {
    match section {
        _ if section.starts_with("users") => "[[users]]".to_owned(),
        "routes.NAME" => "a route: [routes.NAME]".to_owned(),
        _ => format!("[{section}]"),
    }
}
