//! Topic aliases on the way out (MQTT 5, section 3.3.2.3.4).

use crate::Publish;
use bytestring::ByteString;
use std::{collections::HashMap, num::NonZeroU16};

/// The aliases of one connection. The first topics get one and keep it: there is no eviction, since a sender whose
/// topics never repeat would only pay for it.
#[derive(Debug)]
pub(crate) struct Aliases {
    max: u16,
    of_topic: HashMap<ByteString, NonZeroU16>,
    free: Vec<NonZeroU16>,
}

impl Aliases {
    pub(crate) fn none() -> Self {
        Self::up_to(0)
    }

    pub(crate) fn up_to(max: u16) -> Self {
        Self { max, of_topic: HashMap::new(), free: Vec::new() }
    }

    /// Whether topics can have aliases at all.
    pub(crate) fn any(&self) -> bool {
        self.max > 0
    }

    /// Replaces a known topic by its alias, or gives it one along with the topic.
    pub(crate) fn apply(&mut self, publish: &mut Publish) {
        if self.max == 0 {
            return;
        }
        if let Some(&alias) = self.of_topic.get(&publish.topic) {
            publish.topic = ByteString::new();
            publish.properties.get_or_insert_default().topic_alias = Some(alias);
        } else if let Some(alias) = self.next_free() {
            self.of_topic.insert(publish.topic.clone(), alias);
            publish.properties.get_or_insert_default().topic_alias = Some(alias);
        }
    }

    fn next_free(&mut self) -> Option<NonZeroU16> {
        let fresh = u16::try_from(self.of_topic.len()).ok().filter(|used| *used < self.max);
        self.free.pop().or_else(|| fresh.and_then(|used| NonZeroU16::new(used + 1)))
    }

    /// The topic has no alias any more; its number can be given to another topic at any time (MQTT-3.3.2-12 allows a
    /// new mapping).
    pub(crate) fn forget(&mut self, topic: &str) {
        if let Some(alias) = self.of_topic.remove(topic) {
            self.free.push(alias);
        }
    }
}
