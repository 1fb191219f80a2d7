//! Retained messages: the last one of each topic, for those who subscribe later. In memory, within bounds, and each as a
//! document that is recorded with it.

use crate::translate::{packed, rest_s};
use bytes::Bytes;
use holdfast_broker::Beside;
use holdfast_mqtt::{Publish, PublishProperties, QoS};
use holdfast_types::{Topic, TopicFilter, UnixMillis};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Most bytes of the topic of a retained message: it is the key of a document.
const TOPIC_BYTES_MAX: usize = 4000;

struct Kept {
    qos: QoS,
    payload: Bytes,
    properties: Option<Box<PublishProperties>>,
    bytes: usize,
    expires: Option<UnixMillis>,
}

#[derive(Default)]
struct All {
    by_topic: HashMap<Topic, Kept>,
    bytes: usize,
}

/// The retained messages.
pub(crate) struct Retained {
    all: Mutex<All>,
    order: Mutex<()>,
    messages_max: usize,
    bytes_max: usize,
}

/// There is no room for one more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Retained {
    pub(crate) fn new(messages_max: usize, bytes_max: usize) -> Self {
        Self { all: Mutex::default(), order: Mutex::default(), messages_max, bytes_max }
    }

    /// Held from [`Self::set`] until the broker has the message, so that what is recorded last is what is kept.
    pub(crate) fn in_order(&self) -> MutexGuard<'_, ()> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a message in place of the one before; an empty payload ends that (MQTT-3.3.1-6, MQTT-3.3.1-7). Gives what
    /// is to be recorded with it.
    pub(crate) fn set(
        &self,
        topic: &Topic,
        publish: &Publish,
        now: UnixMillis,
    ) -> Result<Option<Beside>, Full> {
        let beside = |packet| Beside::Retained { topic: topic.clone(), packet };
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.by_topic.remove(topic);
        if let Some(before) = &before {
            all.bytes -= before.bytes;
        }
        if publish.payload.is_empty() {
            return Ok(before.map(|_| beside(None)));
        }
        let restore = |all: &mut All| {
            if let Some(before) = before {
                all.bytes += before.bytes;
                all.by_topic.insert(topic.clone(), before);
            }
            Err(Full)
        };
        if topic.len() > TOPIC_BYTES_MAX {
            return restore(&mut all);
        }
        let user =
            publish.properties.iter().flat_map(|p| &p.user_properties).map(|(k, v)| k.len() + v.len() + 64);
        let bytes = publish.payload.len() + topic.len() + user.sum::<usize>();
        if !self.fits(&all, bytes) {
            all.forget_expired(now);
            if !self.fits(&all, bytes) {
                return restore(&mut all);
            }
        }
        let expiry_s = publish.properties.as_ref().and_then(|properties| properties.message_expiry_s);
        let expires = expiry_s.map(|s| UnixMillis(now.0.saturating_add(u64::from(s) * 1000)));
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
        all.by_topic.insert(topic.clone(), Kept { qos: publish.qos, payload, properties, bytes, expires });
        Ok(Some(beside(Some(packed(publish)))))
    }

    fn fits(&self, all: &All, bytes: usize) -> bool {
        all.by_topic.len() < self.messages_max && all.bytes + bytes <= self.bytes_max
    }

    /// The messages that a filter matches and whose life is not over, marked as retained (MQTT-3.3.1-8).
    pub(crate) fn matching(&self, filter: &TopicFilter, granted: QoS, now: UnixMillis) -> Vec<Publish> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let matching = all.by_topic.iter().filter(|(topic, _)| filter.matches(topic));
        let rest = |kept: &Kept| match kept.expires {
            Some(expires) => rest_s(expires, now).map(Some),
            None => Some(None),
        };
        matching
            .filter_map(|(topic, kept)| {
                let expiry_s = rest(kept)?;
                let mut properties = kept.properties.clone();
                if let Some(properties) = &mut properties {
                    properties.message_expiry_s = expiry_s;
                }
                Some(Publish {
                    qos: kept.qos.min(granted),
                    retain: true,
                    properties,
                    ..Publish::new(&**topic, kept.payload.clone())
                })
            })
            .collect()
    }
}

impl All {
    fn forget_expired(&mut self, now: UnixMillis) {
        let bytes = &mut self.bytes;
        self.by_topic.retain(|_, kept| {
            let lives = kept.expires.is_none_or(|expires| expires > now);
            if !lives {
                *bytes -= kept.bytes;
            }
            lives
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(retained: &Retained, topic: &str, payload: &'static str) -> Result<(), Full> {
        let publish = Publish { qos: QoS::AtLeastOnce, ..Publish::new(topic, payload) };
        retained.set(&Topic::new(topic).unwrap(), &publish, UnixMillis(0)).map(|_| ())
    }

    fn count(retained: &Retained) -> usize {
        retained.matching(&TopicFilter::new("#").unwrap(), QoS::ExactlyOnce, UnixMillis(0)).len()
    }

    #[test]
    fn the_last_message_of_a_topic_is_kept_until_an_empty_one_comes() {
        let retained = Retained::new(10, 1000);
        set(&retained, "a", "1").unwrap();
        set(&retained, "a", "2").unwrap();
        set(&retained, "b", "3").unwrap();
        let found = retained.matching(&TopicFilter::new("a").unwrap(), QoS::AtMostOnce, UnixMillis(0));
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

    #[test]
    fn a_message_whose_life_is_over_is_not_found_and_makes_room() {
        let retained = Retained::new(1, 100);
        let properties = PublishProperties { message_expiry_s: Some(5), ..PublishProperties::default() };
        let publish = Publish { properties: Some(Box::new(properties)), ..Publish::new("a", "1") };
        retained.set(&Topic::new("a").unwrap(), &publish, UnixMillis(0)).unwrap();
        let rest = |now| {
            let found = retained.matching(&TopicFilter::new("#").unwrap(), QoS::AtMostOnce, UnixMillis(now));
            found.first().and_then(|publish| publish.properties.as_ref()?.message_expiry_s)
        };
        assert_eq!([rest(0), rest(3_500), rest(5_000)], [Some(5), Some(2), None]);
        let other = Topic::new("b").unwrap();
        assert_eq!(retained.set(&other, &Publish::new("b", "1"), UnixMillis(4_000)), Err(Full));
        assert!(retained.set(&other, &Publish::new("b", "1"), UnixMillis(5_000)).is_ok());
    }
}
