//! How nouns of `types` stand in JSON.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

macro_rules! as_text {
    ($module:ident, $type:ty, $parse:expr, $what:literal) => {
        pub(crate) mod $module {
            use super::*;

            pub(crate) fn serialize<S: Serializer>(value: &$type, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(value)
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<$type, D::Error> {
                let text = String::deserialize(from)?;
                $parse(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no {}", $what)))
            }
        }
    };
}
as_text!(identity, holdfast_types::Identity, holdfast_types::Identity::parse, "device or device/module");

pub(crate) mod name {
    use super::*;
    use holdfast_types::Name;

    pub(crate) fn serialize<S: Serializer>(value: &Name, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(value.as_str())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Name, D::Error> {
        Name::new(&String::deserialize(from)?).map_err(D::Error::custom)
    }

    pub(crate) mod optional {
        use super::*;

        pub(crate) fn serialize<S: Serializer>(value: &Option<Name>, to: S) -> Result<S::Ok, S::Error> {
            match value {
                Some(name) => to.serialize_some(name.as_str()),
                None => to.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Name>, D::Error> {
            let text = Option::<String>::deserialize(from)?;
            text.map(|text| Name::new(&text).map_err(D::Error::custom)).transpose()
        }
    }
}

/// An epoch as 16 hexadecimal digits, as it stands in stable identities.
pub(crate) mod epoch {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{value:016x}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        crate::event::epoch(&text)
            .ok_or_else(|| D::Error::custom(format!("{text:?} is no epoch of 16 hexadecimal digits")))
    }
}

/// A priority as its level, 0 to 10.
pub(crate) mod priority {
    use super::*;
    use holdfast_types::Priority;

    pub(crate) fn serialize<S: Serializer>(value: &Priority, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u8(value.level())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Priority, D::Error> {
        let level = u8::deserialize(from)?;
        Priority::new(level).ok_or_else(|| D::Error::custom(format!("{level} is no priority; it is 0 to 10")))
    }
}

pub(crate) mod offset {
    use super::*;
    use holdfast_types::Offset;

    pub(crate) fn serialize<S: Serializer>(value: &Offset, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(value.0)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Offset, D::Error> {
        u64::deserialize(from).map(Offset)
    }
}

pub(crate) mod millis {
    use super::*;
    use holdfast_types::UnixMillis;

    pub(crate) fn serialize<S: Serializer>(value: &UnixMillis, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(value.0)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<UnixMillis, D::Error> {
        u64::deserialize(from).map(UnixMillis)
    }

    pub(crate) mod optional {
        use super::*;

        pub(crate) fn serialize<S: Serializer>(value: &Option<UnixMillis>, to: S) -> Result<S::Ok, S::Error> {
            match value {
                Some(at) => to.serialize_some(&at.0),
                None => to.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<UnixMillis>, D::Error> {
            Ok(Option::<u64>::deserialize(from)?.map(UnixMillis))
        }
    }
}

/// Bytes as base64.
pub(crate) mod base64 {
    use super::*;
    use ::base64::{Engine, prelude::BASE64_STANDARD};
    use bytes::Bytes;

    pub(crate) fn serialize<S: Serializer>(value: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64_STANDARD.encode(value))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(from)?;
        BASE64_STANDARD
            .decode(&text)
            .map(Bytes::from)
            .map_err(|why| D::Error::custom(format!("no base64: {why}")))
    }
}
