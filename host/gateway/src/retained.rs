//! Retained messages: the last one of each topic, for those who subscribe later. In memory, within bounds.

use bytes::Bytes;
use holdfast_mqtt::{Publish, PublishProperties, QoS};
use holdfast_types::{Topic, TopicFilter};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

struct Kept {
    qos: QoS,
    payload: Bytes,
    properties: Option<Box<PublishProperties>>,
    bytes: usize,
}

#[derive(Default)]
struct All {
    by_topic: HashMap<Topic, Kept>,
    bytes: usize,
}

/// The retained messages.
pub(crate) struct Retained {
    all: Mutex<All>,
    messages_max: usize,
    bytes_max: usize,
}

/// There is no room for one more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Retained {
    pub(crate) fn new(messages_max: usize, bytes_max: usize) -> Self {
        Self { all: Mutex::default(), messages_max, bytes_max }
    }

    /// Keeps a message in place of the one before; an empty payload ends that (MQTT-3.3.1-6, MQTT-3.3.1-7).
    pub(crate) fn set(&self, topic: &Topic, publish: &Publish) -> Result<(), Full> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = all.by_topic.remove(topic) {
            all.bytes -= before.bytes;
        }
        if publish.payload.is_empty() {
            return Ok(());
        }
        let user =
            publish.properties.iter().flat_map(|p| &p.user_properties).map(|(k, v)| k.len() + v.len() + 64);
        let bytes = publish.payload.len() + topic.len() + user.sum::<usize>();
        if all.by_topic.len() >= self.messages_max || all.bytes + bytes > self.bytes_max {
            return Err(Full);
        }
        // A copy: the payload is a slice of a buffer that was read into and would be kept as a whole.
        let payload = Bytes::copy_from_slice(&publish.payload);
        let properties = publish.properties.as_ref().map(|all| {
            let mut kept = PublishProperties { topic_alias: None, ..(**all).clone() };
            let copy = |text: &bytestring::ByteString| bytestring::ByteString::from(&**text);
            kept.content_type = kept.content_type.as_ref().map(copy);
            kept.response_topic = kept.response_topic.as_ref().map(copy);
            kept.correlation_data = kept.correlation_data.map(|data| Bytes::copy_from_slice(&data));
            kept.user_properties = kept.user_properties.iter().map(|(k, v)| (copy(k), copy(v))).collect();
            Box::new(kept)
        });
        all.bytes += bytes;
        all.by_topic.insert(topic.clone(), Kept { qos: publish.qos, payload, properties, bytes });
        Ok(())
    }

    /// The messages that a filter matches, marked as retained (MQTT-3.3.1-8).
    pub(crate) fn matching(&self, filter: &TopicFilter, granted: QoS) -> Vec<Publish> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let matching = all.by_topic.iter().filter(|(topic, _)| filter.matches(topic));
        matching
            .map(|(topic, kept)| Publish {
                qos: kept.qos.min(granted),
                retain: true,
                properties: kept.properties.clone(),
                ..Publish::new(&**topic, kept.payload.clone())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(retained: &Retained, topic: &str, payload: &'static str) -> Result<(), Full> {
        let publish = Publish { qos: QoS::AtLeastOnce, ..Publish::new(topic, payload) };
        retained.set(&Topic::new(topic).unwrap(), &publish)
    }

    fn count(retained: &Retained) -> usize {
        retained.matching(&TopicFilter::new("#").unwrap(), QoS::ExactlyOnce).len()
    }

    #[test]
    fn the_last_message_of_a_topic_is_kept_until_an_empty_one_comes() {
        let retained = Retained::new(10, 1000);
        set(&retained, "a", "1").unwrap();
        set(&retained, "a", "2").unwrap();
        set(&retained, "b", "3").unwrap();
        let found = retained.matching(&TopicFilter::new("a").unwrap(), QoS::AtMostOnce);
        assert!(matches!(&found[..], [p] if p.payload == "2" && p.retain && p.qos == QoS::AtMostOnce));
        set(&retained, "a", "").unwrap();
        assert_eq!(count(&retained), 1);
    }

    #[test]
    fn there_is_room_for_so_many_messages_and_bytes_and_no_more() {
        let retained = Retained::new(2, 10);
        set(&retained, "a", "1").unwrap();
        set(&retained, "b", "123456").unwrap();
        assert_eq!(set(&retained, "c", ""), Ok(()));
        assert_eq!(set(&retained, "c", "1"), Err(Full));
        set(&retained, "a", "").unwrap();
        assert_eq!(set(&retained, "c", "123"), Err(Full));
        assert_eq!(set(&retained, "c", "12"), Ok(()));
        assert_eq!(count(&retained), 2);
    }
}
