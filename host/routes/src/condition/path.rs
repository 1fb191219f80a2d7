//! Paths into a JSON body: `weather.history[0].temperature`.
//!
//! Names are separated by dots, an index in brackets follows a name. A name is taken as it stands, also its case.
//! Wildcards, slices and quotes do not exist.
//!
//! | quirk | IoT Edge | Holdfast |
//! |---|---|---|
//! | `a[0][1]` | works, although its grammar has one index only | works |
//! | `a.*` | passes; undefined, or the only member | a fault |
//! | text behind the path, `a]` | passes; undefined for every message | a fault |
//! | a name of digits, `a.0` | a fault | a fault |

use serde_json::Value as Json;

/// A compiled path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BodyPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Name(Box<str>),
    Index(usize),
}

/// What is at the end of a path.
pub(crate) enum At<'a> {
    Found(&'a Json),
    /// Nothing; holds the path up to and with the first step that is missing.
    Missing(String),
}

impl BodyPath {
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut steps = Vec::new();
        for item in text.split('.') {
            let (name, mut indices) = match item.find('[') {
                Some(at) => item.split_at_checked(at).unwrap_or((item, "")),
                None => (item, ""),
            };
            steps.push(Step::Name(checked(name)?.into()));
            while !indices.is_empty() {
                let (index, rest) = indices
                    .strip_prefix('[')
                    .and_then(|rest| rest.split_once(']'))
                    .ok_or("after an index comes a dot, another index or the end; write name[0].name")?;
                if index.is_empty() || !index.bytes().all(|b| b.is_ascii_digit()) {
                    return Err("an index is a whole number; wildcards, slices and quotes do not exist");
                }
                steps.push(Step::Index(index.parse().map_err(|_| "the index is too large")?));
                indices = rest;
            }
        }
        Ok(Self { steps })
    }

    /// The value at the path.
    pub(crate) fn of<'a>(&self, body: &'a Json) -> Option<&'a Json> {
        self.steps.iter().try_fold(body, |at, step| step.of(at))
    }

    /// The same, and where it breaks off.
    pub(crate) fn at<'a>(&self, body: &'a Json) -> At<'a> {
        let mut at = body;
        let mut walked = String::new();
        for step in &self.steps {
            match step {
                Step::Name(name) if walked.is_empty() => walked.push_str(name),
                Step::Name(name) => {
                    walked.push('.');
                    walked.push_str(name);
                }
                Step::Index(index) => walked.push_str(&format!("[{index}]")),
            }
            match step.of(at) {
                Some(next) => at = next,
                None => return At::Missing(walked),
            }
        }
        At::Found(at)
    }
}

impl Step {
    fn of<'a>(&self, at: &'a Json) -> Option<&'a Json> {
        match (self, at) {
            (Self::Name(name), Json::Object(members)) => members.get(&**name),
            (Self::Index(index), Json::Array(items)) => items.get(*index),
            _ => None,
        }
    }
}

fn checked(name: &str) -> Result<&str, &'static str> {
    match name {
        "" => Err("a name is missing; write $body.name, with names between the dots"),
        "*" => Err("wildcards do not exist; name the member"),
        _ if name.contains(']') => Err("`]` without `[`"),
        _ if name.bytes().all(|b| b.is_ascii_digit()) => {
            Err("a name cannot be all digits; for an item of an array write name[0]")
        }
        _ => Ok(name),
    }
}
