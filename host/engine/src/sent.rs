//! A message as it is compared: what a module has sent, beside what was expected of it.

use crate::logs::cut;
use bytes::Bytes;
use holdfast_types::{Message, Name};
use std::fmt::{self, Write};

/// Most bytes of a body that are shown.
const SHOWN_BYTES_MAX: usize = 200;

/// A message that a module has sent, without what differs each time: when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    output: Option<Name>,
    body: Bytes,
    properties: Vec<(String, String)>,
}

impl Sent {
    /// What was sent by an output.
    pub fn of(output: Option<&Name>, message: &Message) -> Self {
        let properties = message.properties.iter();
        let mut properties: Vec<_> =
            properties.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        properties.sort();
        Self { output: output.cloned(), body: message.body.clone(), properties }
    }

    /// The same without some fields of its body, if that is a JSON object.
    #[must_use]
    pub fn without(mut self, fields: &[String]) -> Self {
        self.body = without(self.body, fields);
        self
    }
}

/// A text without some of its fields, if it is a JSON object.
pub(crate) fn without(text: Bytes, fields: &[String]) -> Bytes {
    if !fields.is_empty()
        && let Ok(serde_json::Value::Object(mut object)) = serde_json::from_slice(&text)
    {
        object.retain(|name, _| !fields.contains(name));
        return serde_json::Value::Object(object).to_string().into();
    }
    text
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.output.as_deref().unwrap_or("(no output)"))?;
        match std::str::from_utf8(&self.body) {
            Ok(text) => {
                // A message must not be able to steer the terminal of whoever looks at it.
                for c in cut(text, SHOWN_BYTES_MAX).chars() {
                    if c.is_control() { write!(f, "{}", c.escape_default())? } else { f.write_char(c)? }
                }
                if text.len() > SHOWN_BYTES_MAX {
                    f.write_char('…')?;
                }
            }
            Err(_) => write!(f, "{} bytes", self.body.len())?,
        }
        self.properties.iter().try_for_each(|(key, value)| write!(f, " {key}={value}"))
    }
}
