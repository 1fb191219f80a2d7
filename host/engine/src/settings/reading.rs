//! Reads one table of a settings file key by key, noting every fault.

use super::Faults;
use crate::ports::Ports;
use std::collections::BTreeMap;
use std::fmt::Display;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

type Entry<'a, 'i> = (&'a Spanned<toml::de::DeString<'i>>, &'a Spanned<DeValue<'i>>);

/// One table that is being read. Keys that were never asked for are unknown keys.
pub(super) struct Section<'a, 'f> {
    text: &'a str,
    path: String,
    line: usize,
    entries: Vec<Entry<'a, 'a>>,
    asked: Vec<&'static str>,
    faults: &'f mut Faults,
}

impl<'a, 'f> Section<'a, 'f> {
    pub(super) fn new(text: &'a str, path: &str, table: &'a DeTable<'a>, faults: &'f mut Faults) -> Self {
        let entries = table.iter().collect();
        Self { text, path: path.to_owned(), line: 0, entries, asked: Vec::new(), faults }
    }

    fn value(&mut self, key: &'static str) -> Option<(usize, &'a DeValue<'a>)> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        let (_, value) = self.entries.iter().find(|(name, _)| name.get_ref() == key)?;
        Some((line_of(self.text, value.span().start), value.get_ref()))
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn wrong_kind(&mut self, line: usize, key: &str, value: &DeValue<'_>, needed: &str) {
        let found = value.type_str();
        let article = if found.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        let text = format!("{} is {article} {found}; {needed} is needed", self.full(key));
        self.faults.add(line, text);
    }

    /// Notes a fault of the table itself.
    pub(super) fn fault(&mut self, text: &str) {
        self.faults.add(self.line, format!("{}: {text}", self.path));
    }

    /// One of several words.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)], into: &mut T) {
        let Some((line, value)) = self.value(key) else { return };
        let known = value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
        if let Some((_, meaning)) = known {
            *into = *meaning;
            return;
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        match value.as_str() {
            Some(text) => {
                let fault = format!("{} = {text:?} is not one of {}", self.full(key), names.join(", "));
                self.faults.add(line, fault);
            }
            None => self.wrong_kind(line, key, value, &format!("one of {}", names.join(", "))),
        }
    }

    /// A whole number within bounds.
    pub(super) fn number<T>(&mut self, key: &'static str, min: T, max: T, into: &mut T)
    where
        T: TryFrom<i128> + PartialOrd + Display + Copy,
    {
        let Some((line, value)) = self.value(key) else { return };
        let Some(number) = value.as_integer() else {
            return self.wrong_kind(line, key, value, "a whole number");
        };
        let digits = number.as_str().replace('_', "");
        let parsed = i128::from_str_radix(&digits, number.radix()).ok().and_then(|n| T::try_from(n).ok());
        match parsed {
            Some(n) if n >= min && n <= max => *into = n,
            _ => {
                let text =
                    format!("{} = {digits} is out of bounds; {min} to {max} is allowed", self.full(key));
                self.faults.add(line, text);
            }
        }
    }

    /// A text. Says whether the key is there.
    pub(super) fn text(&mut self, key: &'static str, into: &mut String) -> bool {
        let Some((line, value)) = self.value(key) else { return false };
        match value.as_str() {
            Some(text) => text.clone_into(into),
            None => self.wrong_kind(line, key, value, "a text"),
        }
        true
    }

    /// True or false.
    pub(super) fn flag(&mut self, key: &'static str, into: &mut bool) {
        let Some((line, value)) = self.value(key) else { return };
        match value.as_bool() {
            Some(flag) => *into = flag,
            None => self.wrong_kind(line, key, value, "true or false"),
        }
    }

    /// A list of names of inputs or outputs.
    pub(super) fn ports(&mut self, key: &'static str, into: &mut Ports) {
        let mut names = None;
        self.list(key, &mut names);
        match names.map(Ports::parse) {
            Some(Ok(ports)) => *into = ports,
            Some(Err(fault)) => {
                let line = self.value(key).map_or(0, |(line, _)| line);
                let fault = format!("{}: {fault}", self.full(key));
                self.faults.add(line, fault);
            }
            None => {}
        }
    }

    /// A list of texts.
    pub(super) fn list(&mut self, key: &'static str, into: &mut Option<Vec<String>>) {
        let Some((line, value)) = self.value(key) else { return };
        let texts = value.as_array().map(|list| {
            list.iter().map(|entry| entry.get_ref().as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        });
        match texts.flatten() {
            Some(texts) => *into = Some(texts),
            None => self.wrong_kind(line, key, value, "a list of texts"),
        }
    }

    /// A table of this table.
    pub(super) fn section(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_, '_>)) {
        let Some((line, value)) = self.value(key) else { return };
        let Some(table) = value.as_table() else {
            return self.wrong_kind(line, key, value, "a table");
        };
        let path = self.full(key);
        let mut section = Section { line, ..Section::new(self.text, &path, table, self.faults) };
        read(&mut section);
        section.finish();
    }

    /// A list of tables.
    pub(super) fn tables(&mut self, key: &'static str, mut read: impl FnMut(&mut Section<'_, '_>)) {
        let Some((line, value)) = self.value(key) else { return };
        let Some(list) = value.as_array() else {
            return self.wrong_kind(line, key, value, "a list of tables");
        };
        let path = self.full(key);
        for entry in list.iter() {
            let line = line_of(self.text, entry.span().start);
            let Some(table) = entry.get_ref().as_table() else {
                self.wrong_kind(line, key, entry.get_ref(), "a table");
                continue;
            };
            let mut section = Section { line, ..Section::new(self.text, &path, table, self.faults) };
            read(&mut section);
            section.finish();
        }
    }

    /// Every key with its value as text; numbers and truth values are written as TOML writes them.
    pub(super) fn texts(
        &mut self,
        into: &mut BTreeMap<String, String>,
        refused: impl Fn(&str) -> Option<String>,
    ) {
        for (key, value) in std::mem::take(&mut self.entries) {
            let (key, line) = (key.get_ref(), line_of(self.text, value.span().start));
            let value = value.get_ref();
            let text = match value {
                DeValue::String(text) => text.to_string(),
                DeValue::Integer(number) => number.to_string(),
                DeValue::Float(number) => number.to_string(),
                DeValue::Boolean(flag) => flag.to_string(),
                DeValue::Datetime(time) => time.to_string(),
                DeValue::Array(_) | DeValue::Table(_) => {
                    self.wrong_kind(line, key, value, "a text, number or truth value");
                    continue;
                }
            };
            if let Some(reason) = refused(key) {
                let fault = format!("{}: {reason}", self.full(key));
                self.faults.add(line, fault);
                continue;
            }
            into.insert(key.to_string(), text);
        }
    }

    /// Notes the keys that nobody asked for.
    pub(super) fn finish(self) {
        for (key, _) in &self.entries {
            if !self.asked.contains(&&**key.get_ref()) {
                let fault = format!(
                    "{} is not known here; known are: {}",
                    self.full(key.get_ref()),
                    self.asked.join(", ")
                );
                self.faults.add(line_of(self.text, key.span().start), fault);
            }
        }
    }
}

/// The line, counted from 1, of the byte at `at`.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}
