//! Three decoders that others wrote, each asked the same: is this a packet, and which?

use bytes::BytesMut;
use holdfast_mqtt::Version;
use mqtt_protocol_core::mqtt::packet as core;
use std::{panic::catch_unwind, sync::Arc};
use tokio_util::codec::Decoder;

/// What a decoder says of one whole packet.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is one, and this is what it holds.
    Taken(String),
    /// It is none; why.
    Refused(String),
    /// It says nothing of such bytes.
    NoOpinion,
    /// It has panicked.
    Panicked,
}

/// A decoder.
pub struct Oracle {
    pub name: &'static str,
    ask: fn(Version, &[u8]) -> Verdict,
}

pub const ORACLES: [Oracle; 3] = [
    Oracle { name: "rmqtt-codec", ask: rmqtt },
    Oracle { name: "mqtt-proto", ask: proto },
    Oracle { name: "mqtt-protocol-core", ask: protocol_core },
];

impl Oracle {
    pub fn ask(&self, version: Version, bytes: &[u8]) -> Verdict {
        catch_unwind(|| (self.ask)(version, bytes)).unwrap_or(Verdict::Panicked)
    }
}

/// The name of an error, without the values in it.
fn why(error: impl std::fmt::Debug) -> Verdict {
    let text = format!("{error:?}");
    // mqtt-proto has the errors of both versions inside those of version 5.
    let text = text.strip_prefix("Common(").unwrap_or(&text);
    let name: String = text.chars().take_while(|c| !"({\"".contains(*c)).collect();
    Verdict::Refused(name.trim().to_owned())
}

fn rmqtt(version: Version, bytes: &[u8]) -> Verdict {
    let mut buffer = BytesMut::from(bytes);
    let shown = match version {
        Version::V311 => rmqtt_codec::v3::Codec::new(0)
            .decode(&mut buffer)
            .map(|p| p.map(|(p, _)| format!("{p:?}")))
            .map_err(why),
        Version::V5 => rmqtt_codec::v5::Codec::new(0, 0)
            .decode(&mut buffer)
            .map(|p| p.map(|(p, _)| format!("{p:?}")))
            .map_err(why),
    };
    match shown {
        Ok(Some(packet)) => Verdict::Taken(packet),
        Ok(None) => Verdict::Refused("Incomplete".into()),
        Err(refused) => refused,
    }
}

fn proto(version: Version, bytes: &[u8]) -> Verdict {
    let shown = match version {
        Version::V311 => {
            mqtt_proto::v3::Packet::decode(bytes).map(|p| p.map(|p| format!("{p:?}"))).map_err(why)
        }
        Version::V5 => {
            mqtt_proto::v5::Packet::decode(bytes).map(|p| p.map(|p| format!("{p:?}"))).map_err(why)
        }
    };
    match shown {
        Ok(Some(packet)) => Verdict::Taken(packet),
        Ok(None) => Verdict::Refused("Incomplete".into()),
        Err(refused) => refused,
    }
}

/// It has a function for each kind of packet, behind the fixed header: it has no opinion on that.
fn protocol_core(version: Version, bytes: &[u8]) -> Verdict {
    let (first, head) = (bytes[0], 1 + bytes[1..].iter().take_while(|b| **b & 0x80 != 0).count() + 1);
    let body = bytes.get(head..).unwrap_or_default();
    let expected = match first >> 4 {
        3 => first & 0x0F,
        6 | 8 | 10 => 2,
        _ => 0,
    };
    if first & 0x0F != expected {
        return Verdict::NoOpinion;
    }
    macro_rules! parse {
        ($kind:ty) => {
            match <$kind>::parse(body) {
                Ok((packet, used)) if used == body.len() => Verdict::Taken(format!("{packet:?}")),
                Ok(_) => Verdict::Refused("bytes are left".into()),
                Err(error) => why(error),
            }
        };
    }
    macro_rules! publish {
        ($kind:ty) => {
            match <$kind>::parse(first & 0x0F, Arc::from(body)) {
                Ok((packet, _)) => Verdict::Taken(format!("{packet:?}")),
                Err(error) => why(error),
            }
        };
    }
    // These take no look at what stands behind.
    if matches!(first >> 4, 12 | 13) || (first >> 4 == 14 && version == Version::V311) {
        return if body.is_empty() { Verdict::Taken(String::new()) } else { Verdict::NoOpinion };
    }
    match (version, first >> 4) {
        (Version::V311, 1) => parse!(core::v3_1_1::Connect),
        (Version::V311, 2) => parse!(core::v3_1_1::Connack),
        (Version::V311, 3) => publish!(core::v3_1_1::Publish),
        (Version::V311, 4) => parse!(core::v3_1_1::Puback),
        (Version::V311, 5) => parse!(core::v3_1_1::Pubrec),
        (Version::V311, 6) => parse!(core::v3_1_1::Pubrel),
        (Version::V311, 7) => parse!(core::v3_1_1::Pubcomp),
        (Version::V311, 8) => parse!(core::v3_1_1::Subscribe),
        (Version::V311, 9) => parse!(core::v3_1_1::Suback),
        (Version::V311, 10) => parse!(core::v3_1_1::Unsubscribe),
        (Version::V311, 11) => parse!(core::v3_1_1::Unsuback),
        (Version::V5, 1) => parse!(core::v5_0::Connect),
        (Version::V5, 2) => parse!(core::v5_0::Connack),
        (Version::V5, 3) => publish!(core::v5_0::Publish),
        (Version::V5, 4) => parse!(core::v5_0::Puback),
        (Version::V5, 5) => parse!(core::v5_0::Pubrec),
        (Version::V5, 6) => parse!(core::v5_0::Pubrel),
        (Version::V5, 7) => parse!(core::v5_0::Pubcomp),
        (Version::V5, 8) => parse!(core::v5_0::Subscribe),
        (Version::V5, 9) => parse!(core::v5_0::Suback),
        (Version::V5, 10) => parse!(core::v5_0::Unsubscribe),
        (Version::V5, 11) => parse!(core::v5_0::Unsuback),
        (Version::V5, 14) => parse!(core::v5_0::Disconnect),
        (Version::V5, 15) => parse!(core::v5_0::Auth),
        _ => Verdict::NoOpinion,
    }
}
