//! Messages of the session log: on which topic, and for which sessions.
//!
//! A message for many sessions is stored once and names them all. The format is part of the record (`record.rs`):
//!
//! ```text
//! addressed = topic text (empty: that of the source) | bits u8 | [order varint]
//!             recipient count varint, recipient *
//!             bits: 1, 2 = quality of service, 4 = retained, 8 = has an order of its own
//! recipient = distance to the session before, varint | bits u8 | [id count varint, subscription id varint *]
//!             bits: 1, 2 = quality of service, 4 = retained, 8 = has subscription identifiers
//! ```
//! Recipients stand in rising order of their numbers; the distance of the first is its number. A record that was
//! appended anew because only few still need it keeps its first offset as `order`: each session gets its messages by
//! that.

use crate::codec::{Malformed, as_str, put_text, put_varint, text, varint};
use bytes::{Buf, Bytes};
use holdfast_types::{Offset, Source, Topic};

const QOS_MASK: u8 = 3;
const RETAINED: u8 = 4;
const HAS_ORDER: u8 = 8;
const HAS_IDS: u8 = 8;

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
            | flag(addressed.order.is_some(), HAS_ORDER),
    );
    if let Some(order) = addressed.order {
        put_varint(out, order.0);
    }
    put_varint(out, addressed.recipients.len() as u64);
    let mut before = 0;
    for one in &addressed.recipients {
        put_varint(out, u64::from(one.session.wrapping_sub(before)));
        before = one.session;
        out.push((one.qos & QOS_MASK) | flag(one.retain, RETAINED) | flag(!one.ids.is_empty(), HAS_IDS));
        if !one.ids.is_empty() {
            put_varint(out, one.ids.len() as u64);
            one.ids.iter().for_each(|id| put_varint(out, u64::from(*id)));
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
        recipients.push(Recipient { session, qos: bits & QOS_MASK, retain: bits & RETAINED != 0, ids });
    }
    Ok(Addressed { topic, qos: bits & QOS_MASK, retain: bits & RETAINED != 0, order, recipients })
}

fn number(bytes: &mut Bytes) -> Result<u32, Malformed> {
    u32::try_from(varint(bytes)?).map_err(|_| Malformed("a number is too large"))
}
