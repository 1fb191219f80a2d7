//! Messages of the session log: on which topic, and for which sessions.
//!
//! A message for many sessions is stored once and names them all. The format is part of the record (`record.rs`):
//!
//! ```text
//! addressed = topic text (empty: that of the source) | bits u8 | [order varint] | [properties]
//!             recipient count varint, recipient *
//!             bits: 1, 2 = quality of service, 4 = retained, 8 = has an order of its own, 16 = has properties
//! properties = bits u8 | [content type text] | [response topic text] | [correlation text, any bytes]
//!             count varint, (name text, value text) *
//!             bits: 1 = is text, 2, 4, 8 = has content type, response topic, correlation
//! recipient = distance to the session before, varint | bits u8 | [id count varint, subscription id varint *]
//!             [group text, filter text]
//!             bits: 1, 2 = quality of service, 4 = retained, 8 = has subscription identifiers, 16 = was picked from a group
//! ```
//! Recipients stand in rising order of their numbers; the distance of the first is its number. A record that was
//! appended anew because only few still need it keeps its first offset as `order`: each session gets its messages by
//! that.

use crate::codec::{Malformed, as_str, put_text, put_varint, text, varint};
use bytes::{Buf, Bytes};
use holdfast_types::{Interest, Offset, Source, Text, Topic, TopicFilter, TopicProperties};
use std::sync::Arc;

const QOS_MASK: u8 = 3;
const RETAINED: u8 = 4;
const HAS_ORDER: u8 = 8;
const HAS_PROPERTIES: u8 = 16;
const HAS_IDS: u8 = 8;
const IS_SHARED: u8 = 16;
const IS_TEXT: u8 = 1;
const HAS_CONTENT_TYPE: u8 = 2;
const HAS_RESPONSE_TOPIC: u8 = 4;
const HAS_CORRELATION: u8 = 8;

/// For whom a message is, beside its sinks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressed {
    /// The topic on which it is delivered.
    pub topic: Topic,
    /// The quality of service of its publisher: 0 to 2.
    pub qos: u8,
    /// Whether its publisher asked to retain it.
    pub retain: bool,
    /// Its first offset, if it was appended anew.
    pub order: Option<Offset>,
    /// What its publisher sent along for subscribers.
    pub properties: Option<Arc<TopicProperties>>,
    /// Who gets it, in rising order of their numbers, each once.
    pub recipients: Vec<Recipient>,
}

/// A session that gets a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The session's number.
    pub session: u32,
    /// The quality of service with which it gets it: 1 or 2.
    pub qos: u8,
    /// Whether it is marked as retained.
    pub retain: bool,
    /// Identifiers of the subscriptions that matched.
    pub ids: Vec<u32>,
    /// The shared subscription as whose member it was picked: another member gets the message if it does not come for it.
    pub shared: Option<Arc<Interest>>,
}

/// The topic that a source names by itself.
fn topic_of(source: &Source) -> Option<&Topic> {
    match source {
        Source::Child { topic, .. } => topic.as_ref(),
        Source::Module { .. } | Source::TwinChange { .. } => None,
    }
}

pub(crate) fn encode(out: &mut Vec<u8>, addressed: &Addressed, source: &Source) {
    let own = topic_of(source).is_some_and(|topic| *topic == addressed.topic);
    put_text(out, if own { "" } else { &addressed.topic });
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    out.push(
        (addressed.qos & QOS_MASK)
            | flag(addressed.retain, RETAINED)
            | flag(addressed.order.is_some(), HAS_ORDER)
            | flag(addressed.properties.is_some(), HAS_PROPERTIES),
    );
    if let Some(order) = addressed.order {
        put_varint(out, order.0);
    }
    if let Some(properties) = &addressed.properties {
        encode_properties(out, properties);
    }
    put_varint(out, addressed.recipients.len() as u64);
    let mut before = 0;
    for one in &addressed.recipients {
        put_varint(out, u64::from(one.session.wrapping_sub(before)));
        before = one.session;
        out.push(
            (one.qos & QOS_MASK)
                | flag(one.retain, RETAINED)
                | flag(!one.ids.is_empty(), HAS_IDS)
                | flag(one.shared.is_some(), IS_SHARED),
        );
        if !one.ids.is_empty() {
            put_varint(out, one.ids.len() as u64);
            one.ids.iter().for_each(|id| put_varint(out, u64::from(*id)));
        }
        if let Some(interest) = &one.shared {
            put_text(out, interest.group.as_deref().unwrap_or_default());
            put_text(out, interest.filter.as_str());
        }
    }
}

pub(crate) fn decode(bytes: &mut Bytes, source: &Source) -> Result<Addressed, Malformed> {
    let cut_off = |_| Malformed("a list of sessions is cut off");
    let named = text(bytes)?;
    let topic = match (named.is_empty(), topic_of(source)) {
        (true, Some(topic)) => topic.clone(),
        _ => Topic::new(as_str(&named)?).map_err(|_| Malformed("a topic is not valid"))?,
    };
    let bits = bytes.try_get_u8().map_err(cut_off)?;
    let order = if bits & HAS_ORDER != 0 { Some(Offset(varint(bytes)?)) } else { None };
    let properties =
        if bits & HAS_PROPERTIES != 0 { Some(Arc::new(decode_properties(bytes)?)) } else { None };
    let count = varint(bytes)?;
    // Two bytes at least for each: a broken count takes no memory.
    let mut recipients =
        Vec::with_capacity(usize::try_from(count).unwrap_or(usize::MAX).min(bytes.len() / 2));
    let mut session = 0_u32;
    for _ in 0..count {
        session = session.wrapping_add(number(bytes)?);
        let bits = bytes.try_get_u8().map_err(cut_off)?;
        let mut ids = Vec::new();
        if bits & HAS_IDS != 0 {
            for _ in 0..varint(bytes)? {
                ids.push(number(bytes)?);
            }
        }
        let shared = if bits & IS_SHARED != 0 { Some(Arc::new(interest(bytes)?)) } else { None };
        recipients.push(Recipient {
            session,
            qos: bits & QOS_MASK,
            retain: bits & RETAINED != 0,
            ids,
            shared,
        });
    }
    Ok(Addressed { topic, qos: bits & QOS_MASK, retain: bits & RETAINED != 0, order, properties, recipients })
}

fn encode_properties(out: &mut Vec<u8>, all: &TopicProperties) {
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    out.push(
        flag(all.is_text, IS_TEXT)
            | flag(all.content_type.is_some(), HAS_CONTENT_TYPE)
            | flag(all.response_topic.is_some(), HAS_RESPONSE_TOPIC)
            | flag(all.correlation.is_some(), HAS_CORRELATION),
    );
    all.content_type.iter().chain(&all.response_topic).for_each(|text| put_text(out, text));
    if let Some(correlation) = &all.correlation {
        put_varint(out, correlation.len() as u64);
        out.extend_from_slice(correlation);
    }
    put_varint(out, all.user.len() as u64);
    for (name, value) in &all.user {
        put_text(out, name);
        put_text(out, value);
    }
}

fn decode_properties(bytes: &mut Bytes) -> Result<TopicProperties, Malformed> {
    let bits = bytes.try_get_u8().map_err(|_| Malformed("properties are cut off"))?;
    let owned = |bytes: &mut Bytes| as_str(&text(bytes)?).map(Text::from);
    let content_type = if bits & HAS_CONTENT_TYPE != 0 { Some(owned(bytes)?) } else { None };
    let response_topic = if bits & HAS_RESPONSE_TOPIC != 0 { Some(owned(bytes)?) } else { None };
    let correlation = if bits & HAS_CORRELATION != 0 { Some(text(bytes)?) } else { None };
    let mut user = Vec::new();
    for _ in 0..varint(bytes)? {
        user.push((owned(bytes)?, owned(bytes)?));
    }
    Ok(TopicProperties { is_text: bits & IS_TEXT != 0, content_type, response_topic, correlation, user })
}

fn interest(bytes: &mut Bytes) -> Result<Interest, Malformed> {
    let group = Some(Text::from(as_str(&text(bytes)?)?));
    let filter = TopicFilter::new(as_str(&text(bytes)?)?);
    Ok(Interest { group, filter: filter.map_err(|_| Malformed("a filter is not valid"))? })
}

fn number(bytes: &mut Bytes) -> Result<u32, Malformed> {
    u32::try_from(varint(bytes)?).map_err(|_| Malformed("a number is too large"))
}
