//! The packets that begin and end subscriptions.

use crate::{
    ReasonCode,
    packet::{AckProperties, PacketId, QoS, UserProperties},
};
use bytestring::ByteString;

/// SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Identifier that the SUBACK brings back.
    pub packet_id: PacketId,
    /// Identifier of these subscriptions, 1 to 268,435,455.
    pub subscription_id: Option<u32>,
    /// User properties.
    pub user_properties: UserProperties,
    /// One or more filters.
    pub subscriptions: Vec<Subscription>,
}

/// One filter with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The filter; checked by the codec, see [`crate::TopicFilter`].
    pub filter: ByteString,
    /// The highest quality of service that the subscriber wants.
    pub qos: QoS,
    /// Do not send the subscriber's own messages back to it.
    pub no_local: bool,
    /// Leave the retain flag as it was published.
    pub retain_as_published: bool,
    /// When to send retained messages.
    pub retain_handling: RetainHandling,
}

impl Subscription {
    /// A subscription with the options of version 3.1.1.
    pub fn new(filter: impl Into<ByteString>, qos: QoS) -> Self {
        Self {
            filter: filter.into(),
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Always,
        }
    }
}

/// When a new subscription gets retained messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum RetainHandling {
    /// At each SUBSCRIBE.
    #[default]
    Always = 0,
    /// Only if the subscription is new.
    IfNew = 1,
    /// Never.
    Never = 2,
}

/// SUBACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck {
    /// The SUBSCRIBE that it answers.
    pub packet_id: PacketId,
    /// For each filter the granted quality of service (`Success` is QoS 0), or why not.
    pub reasons: Vec<ReasonCode>,
    /// Properties of version 5.
    pub properties: AckProperties,
}

/// UNSUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Identifier that the UNSUBACK brings back.
    pub packet_id: PacketId,
    /// One or more filters.
    pub filters: Vec<ByteString>,
    /// User properties.
    pub user_properties: UserProperties,
}

/// UNSUBACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsubAck {
    /// The UNSUBSCRIBE that it answers.
    pub packet_id: PacketId,
    /// What became of each filter; empty in version 3.1.1.
    pub reasons: Vec<ReasonCode>,
    /// Properties of version 5.
    pub properties: AckProperties,
}
