//! How a message was published and what a subscriber asked for: what both sides of a topic agree on.

use bytes::Bytes;
pub use holdfast_types::{Interest, TopicProperties};
use holdfast_types::{QoS, Text, Topic, UnixMillis};
use std::{num::NonZeroU32, sync::Arc};

/// Names a subscriber for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriberId(pub(crate) u64);

/// How a message was published to topics. The default is for senders that cannot say: QoS 1, and nothing else.
#[derive(Clone, Debug, Default)]
pub struct Publishing {
    /// The quality of service it was published with. A subscriber gets the lesser of this and what it was granted.
    pub qos: QoS,
    /// Whether it was published to be retained. Keeping it is the publisher's room's business; subscribers that want to
    /// know are told.
    pub retain: bool,
    /// The subscriber that published it, for those that do not want their own messages back.
    pub origin: Option<SubscriberId>,
    /// Life of the message in seconds from when the host took it (MQTT-3.3.2-5). It bounds the life that routes give.
    pub expiry_s: Option<u32>,
    /// What subscribers get as it came, beside the message itself.
    pub properties: Option<Arc<TopicProperties>>,
    /// What is recorded together with the message.
    pub beside: Vec<Beside>,
}

/// What is recorded together with a message, in the same commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beside {
    /// A session has received the packet identifier of a message of QoS 2.
    Received {
        /// The session's number.
        session: u32,
        /// The identifier.
        packet: u16,
    },
    /// The message is retained in place of the one before on its topic; without a packet, none is.
    Retained {
        /// The topic.
        topic: Topic,
        /// The message as a PUBLISH of MQTT 5.
        packet: Option<Bytes>,
    },
    /// It is the will that was kept under this key: it is published, and kept no longer.
    Will(Text),
}

impl Publishing {
    /// When the message is too old to be of use.
    pub fn expires(&self, received: UnixMillis) -> Option<UnixMillis> {
        self.expiry_s.map(|seconds| UnixMillis(received.0.saturating_add(u64::from(seconds) * 1000)))
    }
}

/// What a subscriber asks for with one filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// The highest quality of service it takes.
    pub qos: QoS,
    /// It does not want what it published itself.
    pub no_local: bool,
    /// It wants to know whether a message was published to be retained.
    pub retain_as_published: bool,
    /// Comes back with each message.
    pub id: Option<NonZeroU32>,
}

impl SubscriptionOptions {
    /// A quality of service and nothing else.
    pub const fn new(qos: QoS) -> Self {
        Self { qos, no_local: false, retain_as_published: false, id: None }
    }
}
