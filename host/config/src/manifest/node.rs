//! A place of the merged manifest, which reports what is wrong there by its place in the document it came from.

use super::{Deployment, Fault, FaultCode, Faults, NotCarried, text::part};
use serde_json::{Map, Value};
use std::{cell::RefCell, collections::BTreeSet};

/// Most faults that are told, and most that is listed as not carried over: who has more has another problem.
const LISTED_MAX: usize = 1000;

/// What has been found.
#[derive(Default)]
pub(super) struct Report {
    faults: RefCell<Vec<Fault>>,
    not_carried: RefCell<Vec<NotCarried>>,
}

impl Report {
    pub(super) fn push(&self, fault: Fault) {
        let mut faults = self.faults.borrow_mut();
        // A key that is wrong in two ways is told of once for each.
        if faults.len() < LISTED_MAX && !faults.contains(&fault) {
            faults.push(fault);
        }
    }

    fn push_not_carried(&self, one: NotCarried) {
        let mut all = self.not_carried.borrow_mut();
        if all.len() < LISTED_MAX && !all.contains(&one) {
            all.push(one);
        }
    }

    pub(super) fn finish(self, mut deployment: Deployment) -> Result<Deployment, Faults> {
        let faults = self.faults.into_inner();
        if !faults.is_empty() {
            return Err(Faults(faults));
        }
        deployment.not_carried = self.not_carried.into_inner();
        Ok(deployment)
    }
}

/// Where a part of the merged manifest came from.
pub(super) struct Origin {
    /// The place in the merged document.
    pub(super) path: String,
    /// The document it came from, and the place there.
    pub(super) document: String,
    pub(super) pointer: String,
}

/// A value and its place.
#[derive(Clone)]
pub(super) struct Node<'a> {
    pub(super) report: &'a Report,
    pub(super) origins: &'a [Origin],
    pub(super) path: String,
    pub(super) value: &'a Value,
}

impl<'a> Node<'a> {
    /// The document and the place there.
    fn place(&self) -> (String, String) {
        let inside = |origin: &&Origin| {
            self.path.strip_prefix(&origin.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        // Of two with the same path the later one has replaced the earlier.
        match self.origins.iter().filter(inside).max_by_key(|origin| origin.path.len()) {
            Some(origin) => {
                let rest = self.path.get(origin.path.len()..).unwrap_or_default();
                (origin.document.clone(), format!("{}{rest}", origin.pointer))
            }
            None => (String::new(), self.path.clone()),
        }
    }

    pub(super) fn fault_of(&self, code: FaultCode, reason: impl Into<String>, fix: impl Into<String>) {
        let (document, pointer) = self.place();
        self.report.push(Fault { document, pointer, code, reason: reason.into(), fix: fix.into() });
    }

    pub(super) fn fault(&self, reason: impl Into<String>, fix: impl Into<String>) {
        self.fault_of(FaultCode::Format, reason, fix);
    }

    /// Notes that this is not carried over.
    pub(super) fn not_carried(&self, reason: impl Into<String>) {
        self.not_carried_as(self.value.clone(), reason);
    }

    /// The same with another value, such as that of a text which is JSON itself.
    pub(super) fn not_carried_as(&self, value: Value, reason: impl Into<String>) {
        let (document, pointer) = self.place();
        let value = hide(value);
        self.report.push_not_carried(NotCarried { document, pointer, value, reason: reason.into() });
    }

    /// The same place with a part of it, which stands in a text there.
    pub(super) fn within(&self, path: &str, value: &'a Value) -> Self {
        Node { path: format!("{}{path}", self.path), value, ..self.clone() }
    }

    pub(super) fn child(&self, key: &str, value: &'a Value) -> Self {
        self.within(&part(key), value)
    }

    /// The object that stands here; a fault if it is none.
    pub(super) fn fields(&self, example: &str) -> Option<Fields<'a>> {
        match self.value {
            Value::Object(map) => Some(Fields { node: self.clone(), map, asked: BTreeSet::new() }),
            _ => {
                self.mismatch("an object", example);
                None
            }
        }
    }

    /// The text that stands here; a fault if it is none.
    pub(super) fn text(&self, example: &str) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.mismatch("a text", example);
        }
        text
    }

    /// One of these words, whatever its case; a fault if it is none.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let text = self.text(&format!("{:?}", names.first().unwrap_or(&"")))?;
        let known = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
        if known.is_none() {
            let meant = crate::nearest(text, names.iter().copied());
            let fix = meant.map_or_else(
                || format!("write one of {}", names.join(", ")),
                |word| format!("write {word:?}, if that was meant; known are {}", names.join(", ")),
            );
            self.fault(format!("{text:?} is not known"), fix);
        }
        known.map(|(_, meaning)| *meaning)
    }

    pub(super) fn mismatch(&self, wanted: &str, example: &str) {
        let found = match self.value {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        self.fault(format!("this is {found}, and {wanted} is needed"), format!("write {example}"));
    }
}

/// The fields of an object. Those that nobody asked for are told of.
pub(super) struct Fields<'a> {
    pub(super) node: Node<'a>,
    map: &'a Map<String, Value>,
    asked: BTreeSet<&'static str>,
}

impl<'a> Fields<'a> {
    /// A field; one that is null is not there, as in every twin.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Node<'a>> {
        self.asked.insert(key);
        let value = self.map.get(key).filter(|value| !value.is_null())?;
        Some(self.node.child(key, value))
    }

    /// Every field, in the order of their names.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'a str, Node<'a>)> {
        let there = self.map.iter().filter(|(_, value)| !value.is_null());
        there.map(|(key, value)| (key.as_str(), self.node.child(key, value)))
    }

    /// Names the fields that nobody asked for.
    pub(super) fn finish(&self, reason: &str) {
        for (_, node) in self.all().filter(|(key, _)| !self.asked.contains(key)) {
            node.not_carried(reason);
        }
    }
}

/// Hides what must not be shown, by its key.
fn hide(value: Value) -> Value {
    let secret = |key: &str| {
        let key = key.to_ascii_lowercase();
        ["password", "secret", "token", "credential", "accesskey"].iter().any(|word| key.contains(word))
    };
    match value {
        Value::Object(map) => {
            let hidden = map.into_iter().map(|(key, value)| {
                let plain = value.is_object() || value.is_array();
                let value = if secret(&key) && !plain { Value::from("(hidden)") } else { hide(value) };
                (key, value)
            });
            Value::Object(hidden.collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(hide).collect()),
        plain => plain,
    }
}
