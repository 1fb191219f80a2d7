//! `FROM`: which sources a route reads.
//!
//! A pattern is a path. Stars at its very end are cut off, it is closed with `/`, and it matches every source whose path,
//! closed the same way, begins with it, whatever the case. So `/messages/modules/foo` matches all outputs of `foo`, but
//! none of `foobar`; and a star in the middle is a letter that no source has, so such a pattern matches nothing.
//!
//! `Topic("…")` is a filter of MQTT instead, and matches messages that were published to plain topics.

use holdfast_types::{Name, Source, TopicFilter};
use std::fmt;

const MODULES: &str = "/messages/modules/";
const OUTPUTS: &str = "/outputs/";
const CHILDREN: &str = "/messages/";
const TWINS: &str = "/twinChangeNotifications/";

/// A compiled source pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePattern {
    /// As it was written, without white space and comments.
    text: Box<str>,
    /// What a path must begin with; ends with `/`. One that no path begins with if it is a filter of topics.
    prefix: Box<str>,
    /// The plain topics that are read, if it is one.
    topics: Option<TopicFilter>,
}

impl SourcePattern {
    pub(crate) fn new(text: &str) -> Self {
        let prefix = format!("{}/", text.trim_end_matches('*').trim_end_matches('/'));
        Self { text: text.into(), prefix: prefix.into(), topics: None }
    }

    pub(crate) fn topics(filter: TopicFilter) -> Self {
        let text = format!("Topic(\"{}\")", filter.as_str());
        Self { prefix: text.as_str().into(), text: text.into(), topics: Some(filter) }
    }

    /// As it was written, without white space and comments.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a message from this source is read.
    pub fn matches(&self, source: &Source) -> bool {
        if let Some(filter) = &self.topics {
            return matches!(source, Source::Child { topic: Some(topic), .. } if filter.matches(topic));
        }
        match source {
            Source::Module { module, output: None } => self.begins(&[MODULES, module, "/"]),
            Source::Module { module, output: Some(output) } => {
                self.begins(&[MODULES, module, OUTPUTS, output, "/"])
            }
            Source::Child { .. } => self.begins(&[CHILDREN]),
            Source::TwinChange { .. } => self.begins(&[TWINS]),
        }
    }

    /// Whether a message from any output of this module (or from none) can be read.
    pub fn can_match_module(&self, module: &Name) -> bool {
        if self.begins(&[MODULES, module, OUTPUTS]) {
            return true;
        }
        // The pattern goes on behind `/outputs/`: it can match when what remains is one name and the closing slash.
        let length = MODULES.len() + module.len() + OUTPUTS.len();
        let (Some(head), Some(output)) = (self.prefix.get(..length), self.prefix.get(length..)) else {
            return false;
        };
        same(&[MODULES, module, OUTPUTS], head)
            && output.strip_suffix('/').is_some_and(|output| plain_name(output).is_some())
    }

    /// The module and the output that it names, if it names one of each. In whatever case they are written.
    pub fn named_output(&self) -> Option<(Name, Name)> {
        let head = self.prefix.get(..MODULES.len())?;
        let rest = self.prefix.get(MODULES.len()..).filter(|_| head.eq_ignore_ascii_case(MODULES))?;
        let mut parts = rest.strip_suffix('/')?.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(module), Some(word), Some(output), None) if word.eq_ignore_ascii_case("outputs") => {
                Some((plain_name(module)?, plain_name(output)?))
            }
            _ => None,
        }
    }

    /// Whether only twin changes can be read.
    pub fn is_twin_changes(&self) -> bool {
        self.prefix.eq_ignore_ascii_case(TWINS)
    }

    /// Whether any source there can be is read.
    pub fn can_match(&self) -> bool {
        let prefix = &*self.prefix;
        if self.topics.is_some() {
            return true;
        }
        if self.begins(&[MODULES]) || self.begins(&[CHILDREN]) || self.begins(&[TWINS]) {
            return true;
        }
        let module = prefix
            .get(..MODULES.len())
            .filter(|head| head.eq_ignore_ascii_case(MODULES))
            .and_then(|_| prefix.get(MODULES.len()..))
            .and_then(|rest| rest.split('/').next());
        module.and_then(plain_name).is_some_and(|module| self.can_match_module(&module))
    }

    /// Whether the concatenation of `pieces` begins with the prefix, whatever the case.
    fn begins(&self, pieces: &[&str]) -> bool {
        let mut wanted = self.prefix.as_bytes();
        for piece in pieces {
            let common = wanted.len().min(piece.len());
            let (Some((head, rest)), Some(given)) =
                (wanted.split_at_checked(common), piece.as_bytes().get(..common))
            else {
                return false;
            };
            if !head.eq_ignore_ascii_case(given) {
                return false;
            }
            wanted = rest;
            if wanted.is_empty() {
                return true;
            }
        }
        false
    }
}

/// A name that a module or output has. `*` could be one, but in a pattern nobody means it.
fn plain_name(text: &str) -> Option<Name> {
    Name::new(text).ok().filter(|_| text != "*")
}

fn same(pieces: &[&str], text: &str) -> bool {
    let given = pieces.iter().flat_map(|piece| piece.bytes());
    given.map(|b| b.to_ascii_lowercase()).eq(text.bytes().map(|b| b.to_ascii_lowercase()))
}

impl fmt::Display for SourcePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
