//! Topic templates.
//!
//! A template is a topic with placeholders: `{edge}`, `{source}` (module and output, or child and topic), `{module}`,
//! `{output}`, `{child}`, `{topic}`, `{route}`, `{priority}`, `{id}`. Not every message has all of them: a child's has no module, a
//! module's has no child. A level (the part between two
//! slashes) whose placeholder has no value is left out together with its slash, so that one template serves both:
//! `plant/{edge}/{module}/{output}/{child}/{topic}`. `{topic}` is the whole topic that a child published to, and `{id}`
//! the stable identity `edge/epoch/priority/sequence`; both bring slashes of their own.
//!
//! Control characters and Unicode non-characters in a value are percent-encoded, since brokers may close the connection
//! over them: a device's topic `sensors/` U+0001 is put in as `sensors/%01`. So that two topics of devices never become
//! one, `%` is put in as `%25` where two hexadecimal digits follow it: percent-decoding a value gives it back.

use bytestring::ByteString;
use holdfast_broker::Delivery;
use holdfast_link::escape;
use holdfast_types::{InvalidTopic, Name, Source, TOPIC_BYTES_MAX, Text};
use std::fmt::Write;

/// A checked topic template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    levels: Vec<Vec<Piece>>,
    names_id: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Text),
    Field(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Edge,
    Source,
    Module,
    Output,
    Child,
    Topic,
    Route,
    Priority,
    Id,
}

const FIELDS: [(&str, Field); 9] = [
    ("edge", Field::Edge),
    ("source", Field::Source),
    ("module", Field::Module),
    ("output", Field::Output),
    ("child", Field::Child),
    ("topic", Field::Topic),
    ("route", Field::Route),
    ("priority", Field::Priority),
    ("id", Field::Id),
];

/// Why a text is not a topic template. The message says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// No characters at all.
    #[error("the topic template is empty; give a topic such as holdfast/{{edge}}/{{module}}/{{output}}")]
    Empty,
    /// A placeholder that there is not.
    #[error(
        "{{{0}}} is not a placeholder; there are {{edge}}, {{source}}, {{module}}, {{output}}, {{child}}, {{topic}}, \
         {{route}}, {{priority}} and {{id}}"
    )]
    Unknown(String),
    /// A brace without its partner.
    #[error("a brace at byte {0} has no partner; a placeholder is written {{edge}}")]
    Brace(usize),
    /// A control character or a Unicode non-character, over which brokers may close the connection.
    #[error(
        "the topic template holds the character {0:?}, over which brokers close the connection; leave it out"
    )]
    Unwelcome(char),
    /// The text between placeholders cannot stand in a topic.
    #[error("{0}")]
    Topic(InvalidTopic),
}

impl Template {
    /// Checks `text` and takes it.
    ///
    /// # Errors
    /// Says which placeholder, brace or character is wrong.
    pub fn new(text: &str) -> Result<Self, InvalidTemplate> {
        if text.is_empty() {
            return Err(InvalidTemplate::Empty);
        }
        if text.len() > TOPIC_BYTES_MAX {
            return Err(InvalidTemplate::Topic(InvalidTopic::TooLong(text.len())));
        }
        let mut at = 0;
        let mut levels = Vec::new();
        for level in text.split('/') {
            levels.push(pieces(level, at)?);
            at += level.len() + 1;
        }
        let names_id = levels.iter().flatten().any(|piece| *piece == Piece::Field(Field::Id));
        Ok(Self { levels, names_id })
    }

    /// Whether each message gets a topic of its own, by its identity.
    pub fn names_id(&self) -> bool {
        self.names_id
    }

    /// The topic of a message.
    ///
    /// # Errors
    /// What was put in does not make a topic.
    pub fn render(&self, edge: &Name, delivery: &Delivery) -> Result<ByteString, InvalidTopic> {
        let mut topic = String::with_capacity(64);
        let mut first = true;
        for level in &self.levels {
            let before = topic.len();
            if !first {
                topic.push('/');
            }
            if level.iter().all(|piece| piece.write(&mut topic, edge, delivery)) {
                first = false;
            } else {
                topic.truncate(before);
            }
        }
        check(&topic)?;
        Ok(topic.into())
    }
}

fn pieces(level: &str, at: usize) -> Result<Vec<Piece>, InvalidTemplate> {
    let mut pieces = Vec::new();
    let mut rest = level;
    while !rest.is_empty() {
        let here = at + level.len() - rest.len();
        if let Some(inner) = rest.strip_prefix('{') {
            let (name, after) = inner.split_once('}').ok_or(InvalidTemplate::Brace(here))?;
            let field = FIELDS.iter().find(|(known, _)| *known == name);
            pieces.push(Piece::Field(field.ok_or_else(|| InvalidTemplate::Unknown(name.to_owned()))?.1));
            rest = after;
        } else {
            let (literal, after) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
            if let Some(brace) = literal.find('}') {
                return Err(InvalidTemplate::Brace(here + brace));
            }
            if let Some(odd) = literal.chars().find(|c| *c != '\0' && escape::is_unwelcome(*c)) {
                return Err(InvalidTemplate::Unwelcome(odd));
            }
            check(literal).map_err(InvalidTemplate::Topic)?;
            pieces.push(Piece::Literal(literal.into()));
            rest = after;
        }
    }
    Ok(pieces)
}

fn check(topic: &str) -> Result<(), InvalidTopic> {
    if topic.is_empty() {
        return Err(InvalidTopic::Empty);
    }
    if topic.len() > TOPIC_BYTES_MAX {
        return Err(InvalidTopic::TooLong(topic.len()));
    }
    match topic.bytes().find(|b| matches!(b, b'+' | b'#' | 0)) {
        Some(0) => Err(InvalidTopic::Null),
        Some(b) => Err(InvalidTopic::Wildcard(b.into())),
        None => Ok(()),
    }
}

impl Piece {
    /// Appends the piece; false if there is no value.
    fn write(&self, topic: &mut String, edge: &Name, delivery: &Delivery) -> bool {
        let source = &delivery.envelope.source;
        let value: Option<&str> = match self {
            Self::Literal(text) => {
                topic.push_str(text);
                return true;
            }
            Self::Field(Field::Edge) => Some(edge),
            Self::Field(Field::Route) => Some(&delivery.route),
            Self::Field(Field::Module) => match source {
                Source::Module { module, .. } => Some(module),
                Source::TwinChange { module, .. } => module.as_deref(),
                Source::Child { .. } => None,
            },
            Self::Field(Field::Output) => match source {
                Source::Module { output, .. } => output.as_deref(),
                Source::Child { .. } | Source::TwinChange { .. } => None,
            },
            Self::Field(Field::Child) => match source {
                Source::Child { child, .. } => Some(child),
                // Changes of the edge's own modules are of no child.
                Source::TwinChange { device, .. } if device != edge => Some(device),
                Source::Module { .. } | Source::TwinChange { .. } => None,
            },
            Self::Field(Field::Topic) => match source {
                Source::Child { topic, .. } => topic.as_deref(),
                Source::Module { .. } | Source::TwinChange { .. } => None,
            },
            Self::Field(Field::Source) => {
                write_source(topic, source);
                Some("")
            }
            Self::Field(Field::Priority) => {
                return delivery.id.as_ref().is_some_and(|id| write!(topic, "{}", id.priority).is_ok());
            }
            Self::Field(Field::Id) => {
                return delivery.id.as_ref().is_some_and(|id| write!(topic, "{id}").is_ok());
            }
        };
        escape::push(topic, value.unwrap_or_default());
        value.is_some()
    }
}

/// Module and output, or child and topic, as levels.
fn write_source(topic: &mut String, source: &Source) {
    let (first, second): (&str, Option<&str>) = match source {
        Source::Module { module, output } => (module, output.as_deref()),
        Source::Child { child, topic } => (child, topic.as_deref()),
        Source::TwinChange { device, module } => (device, module.as_deref()),
    };
    escape::push(topic, first);
    if let Some(second) = second {
        topic.push('/');
        escape::push(topic, second);
    }
}
