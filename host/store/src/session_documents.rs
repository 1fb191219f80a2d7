//! The format of what is kept of MQTT sessions, wills and retained messages: small documents beside the session log.
//!
//! ```text
//! session = version u8 (1) | user text | client id text | expiry seconds varint | away since + 1 varint, 0 is connected
//!           count varint, (filter text | bits u8 | subscription id + 1 varint, 0 is none) *
//!           bits: 1, 2 = quality of service, 4 = no local, 8 = retain as published
//! flow    = version u8 (1) | next varint | last packet id varint
//!           count varint, (order varint | packet id varint, 0 is none | bits u8) *
//!           bits: 1, 2 = quality of service, 4 = released
//! will    = version u8 (1) | user text | client id text | delay seconds varint | packet to the end
//! packet  = version u8 (1) | kept at varint | packet to the end
//! ```
//! `packet` is a PUBLISH of MQTT 5 in its form on the wire. Times are Unix milliseconds. A document of a higher version is
//! never guessed at.

use crate::codec::{Malformed, as_str, name, put_text, put_varint, text, varint};
use bytes::{Buf, Bytes};
use holdfast_types::{Name, Offset, Text, UnixMillis};

const VERSION: u8 = 1;
const QOS_MASK: u8 = 3;
const NO_LOCAL: u8 = 4;
const RETAIN_AS_PUBLISHED: u8 = 8;
const RELEASED: u8 = 4;

/// Why bytes are not the document that they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DocumentFault(pub(crate) &'static str);

impl From<Malformed> for DocumentFault {
    fn from(Malformed(reason): Malformed) -> Self {
        Self(reason)
    }
}

/// Whose a session is, how long it lives, and what it has subscribed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// The user who proved to be it.
    pub user: Name,
    /// The client's identifier.
    pub client_id: Text,
    /// How long it lives without a connection, in seconds.
    pub expiry_s: u32,
    /// Since when it has no connection.
    pub away_since: Option<UnixMillis>,
    /// Its subscriptions.
    pub subscriptions: Vec<SubscriptionRecord>,
}

/// One subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionRecord {
    /// The filter, as the client wrote it.
    pub filter: Text,
    /// The best quality of service: 0 to 2.
    pub qos: u8,
    /// Whether the client's own messages are left out.
    pub no_local: bool,
    /// Whether messages keep their mark as retained.
    pub retain_as_published: bool,
    /// The subscription's identifier.
    pub id: Option<u32>,
}

/// Which messages of the session log a session is done with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowRecord {
    /// Messages of a lower order are done, unless they are in `open`.
    pub next: Offset,
    /// The packet identifier that was given last; 0 if none was.
    pub packet: u16,
    /// Messages below `next` that are not done.
    pub open: Vec<Flight>,
}

/// A message that a session has and is not done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flight {
    /// Its order within the session.
    pub order: Offset,
    /// Its packet identifier, if one was given.
    pub packet: Option<u16>,
    /// The quality of service with which it was sent.
    pub qos: u8,
    /// Whether the client has said that it has it (PUBREC).
    pub released: bool,
}

/// What a client wants to be said when it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WillRecord {
    /// Whose it is.
    pub user: Name,
    /// The client's identifier.
    pub client_id: Text,
    /// Seconds between the end of the connection and the will.
    pub delay_s: u32,
    /// The message.
    pub packet: Bytes,
}

/// A retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketRecord {
    /// When it came.
    pub kept_at: UnixMillis,
    /// The message.
    pub packet: Bytes,
}

fn versioned(mut bytes: Bytes) -> Result<Bytes, Malformed> {
    match bytes.try_get_u8() {
        Ok(VERSION) => Ok(bytes),
        Ok(_) => Err(Malformed("it has an unknown version")),
        Err(_) => Err(Malformed("it is empty")),
    }
}

fn plus_one(number: Option<u64>) -> u64 {
    number.map_or(0, |number| number.saturating_add(1))
}

fn small<T: TryFrom<u64>>(bytes: &mut Bytes) -> Result<T, Malformed> {
    T::try_from(varint(bytes)?).map_err(|_| Malformed("a number is too large"))
}

fn byte(bytes: &mut Bytes) -> Result<u8, Malformed> {
    bytes.try_get_u8().map_err(|_| Malformed("it is cut off"))
}

fn owned(bytes: &mut Bytes) -> Result<Text, Malformed> {
    let text = text(bytes)?;
    as_str(&text).map(Text::from)
}

impl SessionRecord {
    /// As bytes.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = vec![VERSION];
        put_text(&mut out, self.user.as_str());
        put_text(&mut out, &self.client_id);
        put_varint(&mut out, u64::from(self.expiry_s));
        put_varint(&mut out, plus_one(self.away_since.map(|at| at.0)));
        put_varint(&mut out, self.subscriptions.len() as u64);
        for one in &self.subscriptions {
            put_text(&mut out, &one.filter);
            let bits =
                u8::from(one.no_local) * NO_LOCAL + u8::from(one.retain_as_published) * RETAIN_AS_PUBLISHED;
            out.push((one.qos & QOS_MASK) | bits);
            put_varint(&mut out, plus_one(one.id.map(u64::from)));
        }
        out.into()
    }

    /// From bytes.
    ///
    /// # Errors
    /// They are no session.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, DocumentFault> {
        let mut bytes = versioned(bytes)?;
        let user = name(&text(&mut bytes)?)?;
        let client_id = owned(&mut bytes)?;
        let expiry_s = small(&mut bytes)?;
        let away_since = varint(&mut bytes)?.checked_sub(1).map(UnixMillis);
        let mut subscriptions = Vec::new();
        for _ in 0..varint(&mut bytes)? {
            let filter = owned(&mut bytes)?;
            let bits = byte(&mut bytes)?;
            let id = varint(&mut bytes)?.checked_sub(1);
            let id = id.map(u32::try_from).transpose().map_err(|_| Malformed("a number is too large"))?;
            subscriptions.push(SubscriptionRecord {
                filter,
                qos: bits & QOS_MASK,
                no_local: bits & NO_LOCAL != 0,
                retain_as_published: bits & RETAIN_AS_PUBLISHED != 0,
                id,
            });
        }
        Ok(Self { user, client_id, expiry_s, away_since, subscriptions })
    }
}

impl FlowRecord {
    /// As bytes.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = vec![VERSION];
        put_varint(&mut out, self.next.0);
        put_varint(&mut out, u64::from(self.packet));
        put_varint(&mut out, self.open.len() as u64);
        for one in &self.open {
            put_varint(&mut out, one.order.0);
            put_varint(&mut out, u64::from(one.packet.unwrap_or(0)));
            out.push((one.qos & QOS_MASK) | (u8::from(one.released) * RELEASED));
        }
        out.into()
    }

    /// From bytes.
    ///
    /// # Errors
    /// They are no flow.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, DocumentFault> {
        let mut bytes = versioned(bytes)?;
        let next = Offset(varint(&mut bytes)?);
        let packet = small(&mut bytes)?;
        let mut open = Vec::new();
        for _ in 0..varint(&mut bytes)? {
            let order = Offset(varint(&mut bytes)?);
            let packet = Some(small::<u16>(&mut bytes)?).filter(|id| *id != 0);
            let bits = byte(&mut bytes)?;
            open.push(Flight { order, packet, qos: bits & QOS_MASK, released: bits & RELEASED != 0 });
        }
        Ok(Self { next, packet, open })
    }
}

impl WillRecord {
    /// As bytes.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = vec![VERSION];
        put_text(&mut out, self.user.as_str());
        put_text(&mut out, &self.client_id);
        put_varint(&mut out, u64::from(self.delay_s));
        out.extend_from_slice(&self.packet);
        out.into()
    }

    /// From bytes.
    ///
    /// # Errors
    /// They are no will.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, DocumentFault> {
        let mut bytes = versioned(bytes)?;
        let user = name(&text(&mut bytes)?)?;
        let (client_id, delay_s) = (owned(&mut bytes)?, small(&mut bytes)?);
        Ok(Self { user, client_id, delay_s, packet: bytes })
    }
}

impl PacketRecord {
    /// As bytes.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = vec![VERSION];
        put_varint(&mut out, self.kept_at.0);
        out.extend_from_slice(&self.packet);
        out.into()
    }

    /// From bytes.
    ///
    /// # Errors
    /// They are no message.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, DocumentFault> {
        let mut bytes = versioned(bytes)?;
        let kept_at = UnixMillis(varint(&mut bytes)?);
        Ok(Self { kept_at, packet: bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flights() -> impl Strategy<Value = Vec<Flight>> {
        let one = (any::<u64>(), prop::option::of(1..=u16::MAX), 0..3_u8, any::<bool>());
        let one = one.prop_map(|(order, packet, qos, released)| Flight {
            order: Offset(order),
            packet,
            qos,
            released,
        });
        prop::collection::vec(one, 0..9)
    }

    fn subscriptions() -> impl Strategy<Value = Vec<SubscriptionRecord>> {
        let one = (".{0,9}", 0..3_u8, any::<bool>(), any::<bool>(), prop::option::of(any::<u32>()));
        let one = one.prop_map(|(filter, qos, no_local, retain_as_published, id)| SubscriptionRecord {
            filter: filter.as_str().into(),
            qos,
            no_local,
            retain_as_published,
            id,
        });
        prop::collection::vec(one, 0..9)
    }

    proptest! {
        #[test]
        fn documents_come_back_as_they_were(
            open in flights(), subscriptions in subscriptions(), next in any::<u64>(), packet in any::<u16>(),
            id in ".{0,20}", seconds in any::<u32>(), away in prop::option::of(0..u64::MAX), body in prop::collection::vec(any::<u8>(), 0..99)
        ) {
            let flow = FlowRecord { next: Offset(next), packet, open };
            prop_assert_eq!(FlowRecord::from_bytes(flow.to_bytes()).unwrap(), flow);
            let (user, client_id) = (Name::new("u").unwrap(), Text::from(id.as_str()));
            let will = WillRecord { user: user.clone(), client_id: client_id.clone(), delay_s: seconds, packet: body.clone().into() };
            prop_assert_eq!(WillRecord::from_bytes(will.to_bytes()).unwrap(), will);
            let kept = PacketRecord { kept_at: UnixMillis(next), packet: body.into() };
            prop_assert_eq!(PacketRecord::from_bytes(kept.to_bytes()).unwrap(), kept);
            let session = SessionRecord { user, client_id, expiry_s: seconds, away_since: away.map(UnixMillis), subscriptions };
            let bytes = session.to_bytes();
            prop_assert_eq!(SessionRecord::from_bytes(bytes.clone()).unwrap(), session);
            for cut in 0..bytes.len() {
                // What is cut off is an error and not another session.
                prop_assert!(SessionRecord::from_bytes(bytes.slice(..cut)).is_err());
            }
        }
    }

    #[test]
    fn a_later_version_is_not_guessed_at() {
        assert_eq!(
            FlowRecord::from_bytes(vec![2, 0, 0, 0].into()),
            Err(DocumentFault("it has an unknown version"))
        );
        assert_eq!(WillRecord::from_bytes(Bytes::new()), Err(DocumentFault("it is empty")));
    }
}
