//! What is subscribed to.

use crate::{Text, TopicFilter};
use std::fmt;

/// A filter, alone or shared with a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interest {
    /// The group that shares each message with one of its members (MQTT 5, section 4.8.2). The same group with another
    /// filter is another group.
    pub group: Option<Text>,
    /// Which topics.
    pub filter: TopicFilter,
}

impl From<TopicFilter> for Interest {
    fn from(filter: TopicFilter) -> Self {
        Self { group: None, filter }
    }
}

/// As a client writes it in SUBSCRIBE.
impl fmt::Display for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.group {
            Some(group) => write!(f, "$share/{group}/{}", self.filter.as_str()),
            None => f.write_str(self.filter.as_str()),
        }
    }
}
