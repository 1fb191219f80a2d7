//! The body as JSON.
//!
//! It is read when the content type is `application/json` and the content encoding `utf-8`, `utf-16` or `utf-32`, whatever
//! their case, and nothing else. A change of a twin is made by the host and needs to say neither.
//!
//! | quirk | IoT Edge | Holdfast |
//! |---|---|---|
//! | comments, single quotes, bare names in JSON | read | not JSON: undefined |
//! | byte order mark | not JSON | read, and tells the byte order |
//! | a string that is a date (`2026-01-31T12:00:00Z`) | undefined | the same |
//! | an array or a scalar as the whole body | undefined | the same |
//! | more than 1 MiB | not possible, messages have at most 256 KB | undefined |

use super::value::Value;
use holdfast_types::{Envelope, Source, SystemKey};
use serde_json::Value as Json;
use std::{borrow::Cow, fmt};

/// Most bytes of a body that conditions read: 1 MiB, four times the largest message of IoT Edge. JSON takes up to twenty
/// times its size in memory once it is read, and a body of the largest size would not fit a small device then.
pub const JSON_BYTES_MAX: usize = 1024 * 1024;

/// Why the body is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// No content type.
    NoContentType,
    /// Another content type.
    ContentType(String),
    /// No content encoding.
    NoContentEncoding,
    /// Another content encoding.
    ContentEncoding(String),
    /// More bytes than [`JSON_BYTES_MAX`]; holds how many.
    TooLong(usize),
    /// Bytes that are not text in the encoding.
    NotText(&'static str),
    /// Text that is not JSON.
    NotJson(String),
    /// JSON that is not an object.
    NotAnObject,
}

impl fmt::Display for BodyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoContentType => f.write_str("the message has no contentType; it must be application/json"),
            Self::ContentType(given) => write!(f, "contentType is {given:?}; it must be application/json"),
            Self::NoContentEncoding => {
                f.write_str("the message has no contentEncoding; it must be utf-8, utf-16 or utf-32")
            }
            Self::ContentEncoding(given) => {
                write!(f, "contentEncoding is {given:?}; it must be utf-8, utf-16 or utf-32")
            }
            Self::TooLong(bytes) => {
                write!(f, "the body has {bytes} bytes; conditions read at most {JSON_BYTES_MAX}")
            }
            Self::NotText(encoding) => write!(f, "the body is not {encoding} text"),
            Self::NotJson(why) => write!(f, "the body is not JSON: {why}"),
            Self::NotAnObject => f.write_str("the body is JSON, but not an object"),
        }
    }
}

#[derive(Clone, Copy)]
enum Encoding {
    Utf8,
    Utf16,
    Utf32,
}

/// Reads the body of a message.
pub(crate) fn parse(envelope: &Envelope) -> Result<Json, BodyFault> {
    let encoding = encoding(envelope)?;
    let body = &*envelope.message.body;
    if body.len() > JSON_BYTES_MAX {
        return Err(BodyFault::TooLong(body.len()));
    }
    let text = match encoding {
        Encoding::Utf8 => {
            std::str::from_utf8(body).map(Cow::Borrowed).map_err(|_| BodyFault::NotText("utf-8"))?
        }
        Encoding::Utf16 => Cow::Owned(utf16(body).ok_or(BodyFault::NotText("utf-16"))?),
        Encoding::Utf32 => Cow::Owned(utf32(body).ok_or(BodyFault::NotText("utf-32"))?),
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    match serde_json::from_str(text) {
        Ok(json @ Json::Object(_)) => Ok(json),
        Ok(_) => Err(BodyFault::NotAnObject),
        Err(why) => Err(BodyFault::NotJson(why.to_string())),
    }
}

fn encoding(envelope: &Envelope) -> Result<Encoding, BodyFault> {
    let system = &envelope.message.system;
    let (content_type, encoding) =
        (system.value(SystemKey::ContentType), system.value(SystemKey::ContentEncoding));
    let own = matches!(envelope.source, Source::TwinChange { .. });
    match content_type {
        None if own => {}
        None => return Err(BodyFault::NoContentType),
        Some(given) if given.eq_ignore_ascii_case("application/json") => {}
        Some(given) => return Err(BodyFault::ContentType(given.to_owned())),
    }
    const ENCODINGS: [(&str, Encoding); 3] =
        [("utf-8", Encoding::Utf8), ("utf-16", Encoding::Utf16), ("utf-32", Encoding::Utf32)];
    match encoding {
        None if own => Ok(Encoding::Utf8),
        None => Err(BodyFault::NoContentEncoding),
        Some(given) => ENCODINGS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(given))
            .map(|(_, encoding)| *encoding)
            .ok_or_else(|| BodyFault::ContentEncoding(given.to_owned())),
    }
}

/// Little endian, unless a byte order mark says otherwise.
fn utf16(body: &[u8]) -> Option<String> {
    let (pairs, rest) = body.as_chunks::<2>();
    let big = pairs.first() == Some(&[0xfe, 0xff]);
    let units =
        pairs.iter().map(|pair| if big { u16::from_be_bytes(*pair) } else { u16::from_le_bytes(*pair) });
    let text: Result<String, _> = char::decode_utf16(units).collect();
    text.ok().filter(|_| rest.is_empty())
}

/// The same for four bytes.
fn utf32(body: &[u8]) -> Option<String> {
    let (quads, rest) = body.as_chunks::<4>();
    let big = quads.first() == Some(&[0, 0, 0xfe, 0xff]);
    let points =
        quads.iter().map(|quad| if big { u32::from_be_bytes(*quad) } else { u32::from_le_bytes(*quad) });
    let text: Option<String> = points.map(char::from_u32).collect();
    text.filter(|_| rest.is_empty())
}

/// A JSON value as a value of the language: objects, arrays and dates are none.
pub(crate) fn scalar(json: &Json) -> Value<'_> {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => number.as_f64().map_or(Value::Undefined, Value::number),
        Json::String(text) if is_date(text) => Value::Undefined,
        Json::String(text) => Value::Text(Cow::Borrowed(text)),
        Json::Array(_) | Json::Object(_) => Value::Undefined,
    }
}

/// Whether the JSON reader of IoT Edge (Newtonsoft, with its default settings) makes a date of this string: a full
/// ISO 8601 date and time to the second, with at most 7 digits of fraction and an optional zone, or `/Date(…)/`.
pub(crate) fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    match bytes.first() {
        Some(b'/') => text
            .strip_prefix("/Date(")
            .and_then(|rest| rest.strip_suffix(")/"))
            .is_some_and(|inner| is_ticks(inner.as_bytes())),
        Some(b'0'..=b'9') if (19..=40).contains(&bytes.len()) => is_iso(bytes).unwrap_or(false),
        _ => false,
    }
}

fn is_ticks(inner: &[u8]) -> bool {
    let unsigned = inner.strip_prefix(b"-").unwrap_or(inner);
    let digits = unsigned.iter().take_while(|b| b.is_ascii_digit()).count();
    let zone = unsigned.get(digits..).unwrap_or_default();
    digits > 0 && (zone.is_empty() || is_zone(zone))
}

fn is_iso(bytes: &[u8]) -> Option<bool> {
    let number = |from: usize, to: usize| -> Option<u32> {
        bytes
            .get(from..to)?
            .iter()
            .try_fold(0, |sum, b| b.is_ascii_digit().then(|| sum * 10 + u32::from(b - b'0')))
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|(at, mark)| bytes.get(*at) != Some(mark)) {
        return Some(false);
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    let time = (hour < 24 && minute < 60 && second < 60) || (hour == 24 && minute == 0 && second == 0);
    let mut rest = bytes.get(19..)?;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if !(1..=7).contains(&digits) {
            return Some(false);
        }
        rest = fraction.get(digits..)?;
    }
    let zone = rest.is_empty() || matches!(rest, b"Z" | b"z") || is_zone(rest);
    Some(year > 0 && (1..=days).contains(&day) && time && zone)
}

/// `+hh`, `+hhmm` or `+hh:mm`, or the same with a minus.
fn is_zone(zone: &[u8]) -> bool {
    let digit = |b: &u8| b.is_ascii_digit();
    match zone {
        [b'+' | b'-', digits @ ..] if matches!(digits.len(), 2 | 4) => digits.iter().all(digit),
        [b'+' | b'-', h1, h2, b':', m1, m2] => [h1, h2, m1, m2].into_iter().all(digit),
        _ => false,
    }
}
