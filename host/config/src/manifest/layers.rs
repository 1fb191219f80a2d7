//! Wrappers taken off, and layers put on the base they belong to.

use super::{
    Fault, FaultCode, MANIFEST_BYTES_MAX,
    node::{Node, Origin, Report},
    text::{self, part},
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What IoT Hub calls the desired properties in a manifest.
const DESIRED: &str = "properties.desired";
const AGENT: &str = "$edgeAgent";
const HUB: &str = "$edgeHub";

/// One manifest.
#[derive(Clone, Copy, Debug)]
pub struct Document<'a> {
    /// What it is called in faults; may be empty if there is one only.
    pub name: &'a str,
    /// Its priority; that of its wrapper if none is given, else 0.
    pub priority: Option<i64>,
    /// The text.
    pub json: &'a [u8],
}

/// The desired properties that all documents give together.
pub(super) struct Merged {
    twins: BTreeMap<String, Twin>,
}

/// Those of one module, and where they came from.
#[derive(Default)]
struct Twin {
    value: Value,
    origins: Vec<Origin>,
}

/// A document without its wrappers.
struct Opened {
    name: String,
    priority: i64,
    /// Where `content` stands.
    pointer: String,
    content: Map<String, Value>,
}

pub(super) fn merge(documents: &[Document<'_>], report: &Report) -> Option<Merged> {
    let mut opened: Vec<Opened> = documents.iter().filter_map(|one| open(one, report)).collect();
    if opened.len() < documents.len() || opened.is_empty() {
        return None;
    }
    // The sort is stable: of two with one priority the later one comes on top.
    opened.sort_by_key(|one| one.priority);
    let Some(base) = opened.iter().rposition(is_base) else {
        for one in &opened {
            report.push(Fault {
                document: one.name.clone(),
                pointer: one.pointer.clone(),
                code: FaultCode::Empty,
                reason: format!("there is no {AGENT} with {DESIRED:?}: this is a layer, or nothing at all"),
                fix: "give the base deployment too; layers go on top of it".to_owned(),
            });
        }
        return None;
    };
    let mut twins: BTreeMap<String, Twin> = BTreeMap::new();
    for (at, one) in opened.iter().enumerate() {
        for (module, properties) in &one.content {
            let pointer = format!("{}{}", one.pointer, part(module));
            let node = |value| Node { report, origins: &[], path: String::new(), value };
            let place =
                |pointer: String| [Origin { path: String::new(), document: one.name.clone(), pointer }];
            if at < base {
                let origins = place(pointer);
                let below = Node { origins: &origins, ..node(properties) };
                below.not_carried(
                    "this deployment has a lower priority than the base deployment, which replaces it",
                );
                continue;
            }
            let Value::Object(properties) = properties else {
                let origins = place(pointer);
                let example = "{\"properties.desired\": {…}}";
                Node { origins: &origins, ..node(properties) }.mismatch("an object", example);
                continue;
            };
            let twin = twins.entry(module.clone()).or_default();
            for (key, value) in properties {
                let pointer = format!("{pointer}{}", part(key));
                let path: Option<Vec<&str>> = match key.strip_prefix(DESIRED) {
                    Some("") => Some(Vec::new()),
                    Some(rest) => rest.strip_prefix('.').map(|rest| rest.split('.').collect()),
                    None => None,
                };
                match path {
                    Some(path) if path.iter().all(|part| !part.is_empty()) => {
                        twin.put(&path, value, one, pointer);
                    }
                    _ => {
                        let origins = place(pointer);
                        let fix = "write \"properties.desired\", or \"properties.desired.a.b\" in a layer";
                        let reason = format!("{key:?} is none of the desired properties");
                        Node { origins: &origins, ..node(value) }.fault(reason, fix);
                    }
                }
            }
        }
    }
    Some(Merged { twins })
}

/// Whether it says everything, and not only what to change.
fn is_base(opened: &Opened) -> bool {
    opened.content.get(AGENT).and_then(|agent| agent.get(DESIRED)).is_some_and(Value::is_object)
}

impl Twin {
    /// Puts a value at a path, in the place of what is there.
    fn put(&mut self, path: &[&str], value: &Value, from: &Opened, pointer: String) {
        let merged: String = path.iter().map(|key| part(key)).collect();
        self.origins.retain(|origin| {
            // What is replaced came from elsewhere.
            origin.path.strip_prefix(&merged).is_none_or(|rest| !rest.is_empty() && !rest.starts_with('/'))
        });
        self.origins.push(Origin { path: merged, document: from.name.clone(), pointer });
        let mut place = &mut self.value;
        for key in path {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            let Value::Object(map) = place else { return };
            place = map.entry(*key).or_insert(Value::Null);
        }
        *place = value.clone();
    }

    fn node<'a>(&'a self, report: &'a Report) -> Node<'a> {
        Node { report, origins: &self.origins, path: String::new(), value: &self.value }
    }
}

impl Merged {
    /// A manifest that says the same.
    pub(super) fn text(&self) -> String {
        let twins: Map<String, Value> = self
            .twins
            .iter()
            .map(|(name, twin)| (name.clone(), serde_json::json!({ DESIRED: twin.value })))
            .collect();
        serde_json::json!({ "modulesContent": twins }).to_string()
    }

    pub(super) fn agent<'a>(&'a self, report: &'a Report) -> Option<Node<'a>> {
        self.twins.get(AGENT).map(|twin| twin.node(report))
    }

    pub(super) fn hub<'a>(&'a self, report: &'a Report) -> Option<Node<'a>> {
        self.twins.get(HUB).map(|twin| twin.node(report))
    }

    /// The twins of modules.
    pub(super) fn twins<'a>(&'a self, report: &'a Report) -> impl Iterator<Item = (&'a str, Node<'a>)> {
        let modules = self.twins.iter().filter(|(name, _)| ![AGENT, HUB].contains(&name.as_str()));
        modules.map(|(name, twin)| (name.as_str(), twin.node(report)))
    }
}

/// Takes the wrappers off.
fn open(document: &Document<'_>, report: &Report) -> Option<Opened> {
    let fault = |pointer: &str, reason: String, fix: &str| {
        report.push(Fault {
            document: document.name.to_owned(),
            pointer: pointer.to_owned(),
            code: FaultCode::Format,
            reason,
            fix: fix.to_owned(),
        });
    };
    let whole = "give a manifest: {\"modulesContent\": {\"$edgeAgent\": {\"properties.desired\": {…}}, …}}";
    if document.json.len() > MANIFEST_BYTES_MAX {
        let bytes = document.json.len();
        let reason = format!("the manifest has {bytes} bytes; at most {MANIFEST_BYTES_MAX} are read");
        fault("", reason, "take out what the edge does not need, such as long createOptions");
        return None;
    }
    // Editors on Windows write a mark before the text.
    let json = document.json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document.json);
    let (value, twice) = match text::parse(json) {
        Ok(parsed) => parsed,
        Err(error) => {
            fault("", format!("this is no JSON: {error}"), whole);
            return None;
        }
    };
    for pointer in &twice {
        fault(
            pointer,
            "this key stands here twice, and one of the two would be lost".to_owned(),
            "remove one",
        );
    }
    let priority = value.get("priority").and_then(Value::as_i64);
    let (content, mut pointer) = match value.get("content") {
        Some(content) if value.get("modulesContent").is_none() => (content, "/content".to_owned()),
        _ => (&value, String::new()),
    };
    let Some(Value::Object(modules)) = content.get("modulesContent") else {
        let reason = match content.get("modulesContent") {
            Some(_) => "modulesContent is no object",
            None => "there is no modulesContent",
        };
        fault(&pointer, reason.to_owned(), whole);
        return None;
    };
    let aside = content.as_object().into_iter().flatten().filter(|(key, _)| *key != "modulesContent");
    for (key, value) in aside.filter(|_| !pointer.is_empty()) {
        let place = [Origin {
            path: String::new(),
            document: document.name.to_owned(),
            pointer: format!("{pointer}{}", part(key)),
        }];
        let node = Node { report, origins: &place, path: String::new(), value };
        node.not_carried("only modulesContent is for an edge");
    }
    pointer.push_str("/modulesContent");
    Some(Opened {
        name: document.name.to_owned(),
        priority: document.priority.or(priority).unwrap_or(0),
        pointer,
        content: modules.clone(),
    })
}
