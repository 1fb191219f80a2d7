//! Telemetry on its way up: what stands in the user properties beside the body.
//!
//! The body of the message is the payload, its content type and correlation id stand in the fields that MQTT has for them. All else
//! are user properties:
//!
//! * `holdfast-id`: the stable identity, `{edge}/{epoch}/{priority}/{sequence}`, the epoch as 16 hexadecimal digits, the default
//!   priority as `d`. Absent on messages of volatile routes.
//! * `holdfast-origin`: the stable identity at the edge where it was made, if that is another than the one that brings it: an
//!   edge passes on what edges below it send. Then `holdfast-source` is as seen there.
//! * `holdfast-source`: who sent it, in a form that names no two senders alike: `m/{module}`, `m/{module}/{output}`, `c/{child}`,
//!   `c/{child}/{topic}`, `t/{device}`, `t/{device}/{module}`.
//! * `holdfast-created`: when it was made, in milliseconds since 1970.
//! * `holdfast-{name}`: the system property of that name in routes.
//! * any other: an application property. One whose own name begins with `holdfast-` has its first letter encoded, so that
//!   no sender can pass for the edge.
//!
//! All of them but `holdfast-id` and `holdfast-created` are percent-encoded as [`crate::escape`] says.

use crate::{
    escape::{decoded, escaped},
    messages::system_key,
};
use bytes::Bytes;
use holdfast_types::{
    BODY_BYTES_MAX, Message, Name, Offset, PROPERTIES_MAX, Priority, Source, StableId, SystemKey, Topic,
    UnixMillis,
};
use std::borrow::Cow;

/// What begins the names of the edge's own properties.
const OWN_PREFIX: &str = "holdfast-";
const ID: &str = "holdfast-id";
const ORIGIN: &str = "holdfast-origin";
const SOURCE: &str = "holdfast-source";
const CREATED: &str = "holdfast-created";

/// A message as the hub gets it from an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its identity; none if it was never stored at the edge.
    pub id: Option<StableId>,
    /// Its identity at the edge where it was made; none if that is the edge that brings it.
    pub origin: Option<StableId>,
    /// Who sent it, as the edge says; whether the edge may say so is for the hub to check.
    pub source: Source,
    /// What was sent.
    pub message: Message,
}

/// An event as it stands in a PUBLISH.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFields<'a> {
    /// Content type.
    pub content_type: Option<Cow<'a, str>>,
    /// Correlation data.
    pub correlation: Option<Bytes>,
    /// User properties.
    pub user: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// Why a PUBLISH holds no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventFault {
    /// A property is no such.
    #[error("the property {name} is {value:?}, which is no {what}")]
    Property {
        /// Which.
        name: &'static str,
        /// What it says, cut.
        value: String,
        /// What it should be.
        what: &'static str,
    },
    /// It does not say who sent it.
    #[error("the property {SOURCE} is missing")]
    NoSource,
    /// An own property comes twice.
    #[error("the property {0} is there twice")]
    Twice(&'static str),
    /// Too large a body.
    #[error("the body has {0} bytes, at most {BODY_BYTES_MAX} are allowed")]
    BodyTooLarge(usize),
    /// Too many properties.
    #[error("there are more than {PROPERTIES_MAX} application properties")]
    TooManyProperties,
    /// The correlation data is no text.
    #[error("the correlation data is not UTF-8")]
    Correlation,
}

fn property(name: &'static str, value: &str, what: &'static str) -> EventFault {
    EventFault::Property { name, value: value.chars().take(80).collect(), what }
}

/// What goes into the PUBLISH of a message, beside its body.
pub fn encode<'a>(id: Option<&StableId>, source: &Source, message: &'a Message) -> EventFields<'a> {
    let mut fields = EventFields::default();
    let system = message.system.iter();
    fields.user.reserve(3 + system.len() + message.properties.len());
    let mut own = |name: &'static str, value: String| fields.user.push((name.into(), value.into()));
    if let Some(id) = id {
        own(ID, id.to_string());
    }
    match message.system.value(SystemKey::Origin).and_then(parse_origin) {
        Some((origin, source)) => {
            own(ORIGIN, origin.to_string());
            own(SOURCE, source.to_owned());
        }
        None => own(SOURCE, encode_source(source)),
    }
    if let Some(created) = message.system.creation_time {
        own(CREATED, created.0.to_string());
    }
    for (key, value) in system {
        match key {
            SystemKey::ContentType => fields.content_type = Some(escaped(value)),
            SystemKey::CorrelationId => fields.correlation = Some(Bytes::copy_from_slice(value.as_bytes())),
            SystemKey::Origin => {}
            key => fields.user.push((format!("{OWN_PREFIX}{}", key.route_name()).into(), escaped(value))),
        }
    }
    let application = message.properties.iter();
    fields.user.extend(application.map(|(name, value)| (application_name(name), escaped(value))));
    fields
}

fn is_own(name: &str) -> bool {
    name.get(..OWN_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(OWN_PREFIX))
}

fn application_name(name: &str) -> Cow<'_, str> {
    match name.chars().next() {
        Some(first) if is_own(name) => {
            let rest = name.get(first.len_utf8()..).unwrap_or_default();
            format!("%{:02X}{}", u32::from(first), escaped(rest)).into()
        }
        _ => escaped(name),
    }
}

/// Reads the PUBLISH of a message.
///
/// # Errors
/// What is wrong with it. The same bytes are wrong for ever.
pub fn decode<'a>(
    body: Bytes,
    content_type: Option<&str>,
    correlation: Option<&[u8]>,
    user: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Event, EventFault> {
    if body.len() > BODY_BYTES_MAX {
        return Err(EventFault::BodyTooLarge(body.len()));
    }
    let mut message = Message::new(body);
    let (mut id, mut origin, mut source) = (None, None, None);
    for (name, value) in user {
        match name {
            ID => once(&mut id, ID, parse_id(value).ok_or_else(|| property(ID, value, "stable identity"))?)?,
            ORIGIN => {
                let read = parse_id(value).ok_or_else(|| property(ORIGIN, value, "stable identity"))?;
                once(&mut origin, ORIGIN, read)?;
            }
            SOURCE => {
                let read = decode_source(value).ok_or_else(|| property(SOURCE, value, "source"))?;
                once(&mut source, SOURCE, read)?;
            }
            CREATED => {
                let millis = value.parse().map_err(|_| property(CREATED, value, "number of milliseconds"))?;
                once(&mut message.system.creation_time, CREATED, UnixMillis(millis))?;
            }
            name if is_own(name) => {
                // One that is not known here is of a newer edge.
                if let Some(key) = name.get(OWN_PREFIX.len()..).and_then(system_key) {
                    message.system.set(key, &decoded(value));
                }
            }
            name if message.properties.len() < PROPERTIES_MAX => {
                message.properties.set(&decoded(name), &decoded(value));
            }
            _ => return Err(EventFault::TooManyProperties),
        }
    }
    if let Some(kind) = content_type {
        message.system.set(SystemKey::ContentType, &decoded(kind));
    }
    if let Some(correlation) = correlation {
        let text = std::str::from_utf8(correlation).map_err(|_| EventFault::Correlation)?;
        message.system.set(SystemKey::CorrelationId, text);
    }
    Ok(Event { id, origin, source: source.ok_or(EventFault::NoSource)?, message })
}

fn once<T>(slot: &mut Option<T>, name: &'static str, value: T) -> Result<(), EventFault> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(EventFault::Twice(name)),
    }
}

/// A source in a form that names no two alike.
pub fn encode_source(source: &Source) -> String {
    let text = match source {
        Source::Module { module, output: None } => format!("m/{module}"),
        Source::Module { module, output: Some(output) } => format!("m/{module}/{output}"),
        Source::Child { child, topic: None } => format!("c/{child}"),
        Source::Child { child, topic: Some(topic) } => format!("c/{child}/{topic}"),
        Source::TwinChange { device, module: None } => format!("t/{device}"),
        Source::TwinChange { device, module: Some(module) } => format!("t/{device}/{module}"),
    };
    match escaped(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(escaped) => escaped,
    }
}

/// The source of such a form.
pub fn decode_source(text: &str) -> Option<Source> {
    let text = decoded(text);
    let (kind, rest) = text.split_once('/')?;
    let (first, second) = match rest.split_once('/') {
        Some((first, second)) => (Name::new(first).ok()?, Some(second)),
        None => (Name::new(rest).ok()?, None),
    };
    let name = |text: &str| Name::new(text).ok();
    // The second part is missing or is one; one that is wrong makes the whole wrong.
    Some(match kind {
        "m" => Source::Module {
            module: first,
            output: second.map(|text| name(text).ok_or(())).transpose().ok()?,
        },
        "c" => Source::Child {
            child: first,
            topic: second.map(|text| Topic::new(text).map_err(drop)).transpose().ok()?,
        },
        "t" => Source::TwinChange {
            device: first,
            module: second.map(|text| name(text).ok_or(())).transpose().ok()?,
        },
        _ => return None,
    })
}

/// What [`SystemKey::Origin`] holds of a message that an edge below sent: the identity that it has there, and its source
/// there.
pub fn origin(id: &StableId, source: &Source) -> String {
    format!("{id} {}", encode_source(source))
}

/// Reads it; the source stays as it is encoded.
fn parse_origin(text: &str) -> Option<(StableId, &str)> {
    let (id, source) = text.split_once(' ')?;
    Some((parse_id(id)?, source))
}

/// The identity of a text like `edge-1/00000000000000ff/d/17`.
pub fn parse_id(text: &str) -> Option<StableId> {
    let mut parts = text.split('/');
    let (edge, life, priority, sequence) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let priority = match priority {
        "d" => Priority::DEFAULT,
        level => {
            Priority::new(number(level)?.try_into().ok()?).filter(|level| *level != Priority::DEFAULT)?
        }
    };
    Some(StableId {
        edge: Name::new(edge).ok()?,
        epoch: epoch(life)?,
        priority,
        sequence: Offset(number(sequence)?),
    })
}

/// Digits and nothing else: no sign, no blank.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|digit| digit.is_ascii_digit()).then(|| text.parse().ok())?
}

/// An epoch of 16 hexadecimal digits.
pub(crate) fn epoch(text: &str) -> Option<u64> {
    let is_hex = text.len() == 16 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| u64::from_str_radix(text, 16).ok())?
}
