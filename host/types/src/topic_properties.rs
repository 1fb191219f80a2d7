//! Properties that travel from a publisher to subscribers.

use crate::Text;
use bytes::Bytes;

/// What travels from a publisher to the subscribers of a topic as it came. Routes and modules see the message's own
/// properties, whose names are unique; here every name stands as often and in the order in which it was sent
/// (MQTT-3.3.2-17, MQTT-3.3.2-18).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicProperties {
    /// The body was said to be UTF-8 text.
    pub is_text: bool,
    /// Type of the content.
    pub content_type: Option<Text>,
    /// Where to send the answer.
    pub response_topic: Option<Text>,
    /// What the answer must bring back.
    pub correlation: Option<Bytes>,
    /// User properties.
    pub user: Vec<(Text, Text)>,
}

impl TopicProperties {
    /// Bytes of all texts and values.
    pub fn size_bytes(&self) -> usize {
        let text = |text: &Option<Text>| text.as_ref().map_or(0, |text| text.len());
        let user: usize = self.user.iter().map(|(name, value)| name.len() + value.len()).sum();
        text(&self.content_type)
            + text(&self.response_topic)
            + self.correlation.as_ref().map_or(0, Bytes::len)
            + user
    }
}
