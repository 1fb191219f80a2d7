//! What a twin is made of: a document with a version, the patches that change it, and the rules that both obey.
//!
//! The rules are IoT Hub's ("Understand and use device twins", format and limits), so that a twin that is taken here is
//! taken there. One is stricter: sizes are those of the compact JSON text, which a reader can count for himself; IoT
//! Hub counts a number as eight bytes whatever its digits.

use serde_json::{Map, Value};
use std::fmt;

/// Most bytes of the desired or of the reported document as compact JSON: 32 KiB each (IoT Hub quotas).
pub const TWIN_BYTES_MAX: usize = 32 * 1024;

/// Most bytes of a key (IoT Hub: 1 KB of UTF-8).
pub const TWIN_KEY_BYTES_MAX: usize = 1024;

/// Most bytes of a text (IoT Hub: 4 KB).
pub const TWIN_TEXT_BYTES_MAX: usize = 4096;

/// Most objects and arrays inside one another, below the document itself (IoT Hub: 10).
pub const TWIN_DEPTH_MAX: usize = 10;

/// The largest whole number, 2^52 - 1 (IoT Hub: what every language's numbers can hold).
pub const TWIN_INTEGER_MAX: i64 = (1 << 52) - 1;

/// The smallest whole number, -2^52.
pub const TWIN_INTEGER_MIN: i64 = -(1 << 52);

/// Most characters of a path that an error shows.
const PATH_SHOWN_MAX: usize = 120;

/// A JSON object.
pub(crate) type Object = Map<String, Value>;

/// Which rule a document or a patch breaks, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TwinFault {
    /// It is no JSON object.
    #[error("it is {0}, not a JSON object; send an object such as {{\"interval\": 5}}")]
    NotAnObject(&'static str),
    /// A key is too long.
    #[error("the key at {path} has {bytes} bytes, {TWIN_KEY_BYTES_MAX} are allowed; shorten it")]
    KeyTooLong {
        /// Where.
        path: Path,
        /// How many it has.
        bytes: usize,
    },
    /// A key holds a character that paths and queries give a meaning.
    #[error(
        "the key at {path} holds {character:?}; keys hold no `.`, `$`, `#`, space or control character: rename it"
    )]
    KeyCharacter {
        /// Where.
        path: Path,
        /// The character.
        character: char,
    },
    /// A text is too long.
    #[error(
        "the text at {path} has {bytes} bytes, {TWIN_TEXT_BYTES_MAX} are allowed; split it over several keys"
    )]
    TextTooLong {
        /// Where.
        path: Path,
        /// How many it has.
        bytes: usize,
    },
    /// Too many levels.
    #[error("at {path} there are more than {TWIN_DEPTH_MAX} levels of objects and arrays; make it flatter")]
    TooDeep {
        /// Where.
        path: Path,
    },
    /// A whole number is out of range.
    #[error(
        "the number at {path} is {value}; whole numbers go from {TWIN_INTEGER_MIN} to {TWIN_INTEGER_MAX}: send it as a \
         text or as a fraction"
    )]
    Integer {
        /// Where.
        path: Path,
        /// What it is.
        value: String,
    },
    /// An array holds null.
    #[error(
        "the array holds null at {path}; null means delete and stands for a whole key only: leave it out"
    )]
    NullInArray {
        /// Where.
        path: Path,
    },
    /// The document would be too large.
    #[error(
        "the document would have {bytes} bytes, {TWIN_BYTES_MAX} are allowed; delete keys by setting them to null"
    )]
    DocumentTooLarge {
        /// How many it would have.
        bytes: usize,
    },
    /// The patch is larger than any document.
    #[error("the patch has {bytes} bytes, {TWIN_BYTES_MAX} are allowed; send it in parts")]
    PatchTooLarge {
        /// How many it has.
        bytes: usize,
    },
}

/// A place in a document, for people: `alarm.levels[2]`. Long ones are cut, and nothing in it steers a terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    fn key(&self, key: &str) -> Self {
        let dot = if self.0.is_empty() { "" } else { "." };
        Self(format!("{}{dot}{}", self.0, key.escape_debug()))
    }

    fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(PATH_SHOWN_MAX) {
            None => f.write_str(&self.0),
            Some((end, _)) => write!(f, "{}…", self.0.get(..end).unwrap_or_default()),
        }
    }
}

/// Takes a patch: an object, within its bounds, whose nulls delete.
pub fn checked_patch(patch: Value) -> Result<Object, TwinFault> {
    let patch = object(patch)?;
    check_object(&patch, &Path::default(), 0)?;
    let bytes = bytes_of(&patch);
    if bytes > TWIN_BYTES_MAX {
        return Err(TwinFault::PatchTooLarge { bytes });
    }
    Ok(patch)
}

/// Takes a whole document. Keys that are null are as good as absent.
pub fn checked_document(document: Value) -> Result<Object, TwinFault> {
    let given = object(document)?;
    check_object(&given, &Path::default(), 0)?;
    let mut document = Object::new();
    merge(&mut document, &given);
    checked_size(&document)?;
    Ok(document)
}

/// Whether a document is within its bound.
pub fn checked_size(document: &Object) -> Result<(), TwinFault> {
    let bytes = bytes_of(document);
    if bytes > TWIN_BYTES_MAX { Err(TwinFault::DocumentTooLarge { bytes }) } else { Ok(()) }
}

/// Applies a checked patch as RFC 7386 says: objects are merged, null deletes, all else replaces.
pub fn merge(document: &mut Object, patch: &Object) {
    for (key, change) in patch {
        match change {
            Value::Null => {
                document.remove(key);
            }
            Value::Object(change) => {
                if !matches!(document.get(key), Some(Value::Object(_))) {
                    document.insert(key.clone(), Value::Object(Object::new()));
                }
                if let Some(Value::Object(inner)) = document.get_mut(key) {
                    merge(inner, change);
                }
            }
            value => {
                document.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The patch that turns `old` into `new`.
pub(crate) fn difference(old: &Object, new: &Object) -> Object {
    let mut patch = Object::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        match (old.get(key), value) {
            (Some(before), value) if before == value => {}
            (Some(Value::Object(before)), Value::Object(after)) => {
                patch.insert(key.clone(), Value::Object(difference(before, after)));
            }
            _ => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    patch
}

/// The body of the message that tells of a reported change, as IoT Hub writes it.
pub(crate) fn change_body(patch: &Object, version: u64) -> Vec<u8> {
    let mut reported = patch.clone();
    reported.insert("$version".to_owned(), version.into());
    serde_json::json!({ "properties": { "reported": reported } }).to_string().into_bytes()
}

fn object(value: Value) -> Result<Object, TwinFault> {
    match value {
        Value::Object(object) => Ok(object),
        Value::Null => Err(TwinFault::NotAnObject("null")),
        Value::Bool(_) => Err(TwinFault::NotAnObject("a boolean")),
        Value::Number(_) => Err(TwinFault::NotAnObject("a number")),
        Value::String(_) => Err(TwinFault::NotAnObject("a text")),
        Value::Array(_) => Err(TwinFault::NotAnObject("an array")),
    }
}

fn bytes_of(document: &Object) -> usize {
    /// Counts what is written to it.
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    match serde_json::to_writer(&mut count, document) {
        Ok(()) => count.0,
        // A map of texts to values always has a JSON text; if it had none, it would fit nowhere.
        Err(_) => usize::MAX,
    }
}

fn check_object(object: &Object, path: &Path, depth: usize) -> Result<(), TwinFault> {
    for (key, value) in object {
        let path = path.key(key);
        if key.len() > TWIN_KEY_BYTES_MAX {
            return Err(TwinFault::KeyTooLong { path, bytes: key.len() });
        }
        let forbidden = |c: &char| matches!(c, '.' | '$' | '#' | ' ') || c.is_control();
        if let Some(character) = key.chars().find(forbidden) {
            return Err(TwinFault::KeyCharacter { path, character });
        }
        check_value(value, path, depth)?;
    }
    Ok(())
}

/// `depth` counts the objects and arrays around the value, the document not among them.
fn check_value(value: &Value, path: Path, depth: usize) -> Result<(), TwinFault> {
    if matches!(value, Value::Object(_) | Value::Array(_)) && depth >= TWIN_DEPTH_MAX {
        return Err(TwinFault::TooDeep { path });
    }
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Number(number) if number.is_f64() => Ok(()),
        Value::Number(number) => match number.as_i64() {
            Some(TWIN_INTEGER_MIN..=TWIN_INTEGER_MAX) => Ok(()),
            _ => Err(TwinFault::Integer { path, value: number.to_string() }),
        },
        Value::String(text) if text.len() > TWIN_TEXT_BYTES_MAX => {
            Err(TwinFault::TextTooLong { path, bytes: text.len() })
        }
        Value::String(_) => Ok(()),
        Value::Array(items) => items.iter().enumerate().try_for_each(|(at, item)| match item {
            Value::Null => Err(TwinFault::NullInArray { path: path.index(at) }),
            item => check_value(item, path.index(at), depth + 1),
        }),
        Value::Object(object) => check_object(object, &path, depth + 1),
    }
}

#[cfg(test)]
mod tests;
