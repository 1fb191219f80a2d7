//! Pairs of text read into a type. What a text means follows from the type that is asked for: `"7"` is a number for a
//! number field and text for a text field.

use super::ConfigError;
use serde::{
    Deserializer,
    de::{self, IntoDeserializer, MapAccess, SeqAccess, value::StringDeserializer},
};
use std::fmt;

/// Reads `pairs` as a map from key to value.
pub fn from_pairs<T: de::DeserializeOwned>(pairs: Vec<(String, String)>) -> Result<T, ConfigError> {
    let mut pairs = Pairs { rest: pairs.into_iter(), current: None };
    T::deserialize(MapOf(&mut pairs)).map_err(|Fault(why)| match pairs.current {
        Some((key, _)) => ConfigError::Value(key, why),
        None => ConfigError::Keys(why),
    })
}

#[derive(Debug)]
struct Fault(String);

impl de::Error for Fault {
    fn custom<T: fmt::Display>(why: T) -> Self {
        Self(why.to_string())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}

/// The pairs not yet read, and the one whose value is being read: a fault names its key.
struct Pairs {
    rest: std::vec::IntoIter<(String, String)>,
    current: Option<(String, String)>,
}

struct MapOf<'a>(&'a mut Pairs);

impl<'de> Deserializer<'de> for MapOf<'_> {
    type Error = Fault;

    fn deserialize_any<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_map(self.0)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> MapAccess<'de> for &mut Pairs {
    type Error = Fault;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.current = None;
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        // The fault of an unknown key names it itself.
        let read = seed.deserialize(into_text(key.clone()))?;
        self.current = Some((key, value));
        Ok(Some(read))
    }

    fn next_value_seed<S: de::DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let text = self.current.as_ref().map(|(_, value)| value.clone()).unwrap_or_default();
        let value = seed.deserialize(Value(text))?;
        self.current = None;
        Ok(value)
    }
}

fn into_text(text: String) -> StringDeserializer<Fault> {
    text.into_deserializer()
}

struct Value(String);

macro_rules! numbers {
    ($($ask:ident $visit:ident $type:ty, $what:literal;)*) => {$(
        fn $ask<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match self.0.trim().parse::<$type>() {
                Ok(number) => visitor.$visit(number),
                Err(_) => Err(Fault(format!("{:?} is not {}", self.0, $what))),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Value {
    type Error = Fault;

    fn deserialize_any<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_string(self.0)
    }

    fn deserialize_bool<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0.trim() {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => Err(Fault(format!("{:?} is not true or false", self.0))),
        }
    }

    numbers! {
        deserialize_i8 visit_i8 i8, "a whole number from -128 to 127";
        deserialize_i16 visit_i16 i16, "a whole number from -32,768 to 32,767";
        deserialize_i32 visit_i32 i32, "a whole number of 32 bits";
        deserialize_i64 visit_i64 i64, "a whole number of 64 bits";
        deserialize_u8 visit_u8 u8, "a whole number from 0 to 255";
        deserialize_u16 visit_u16 u16, "a whole number from 0 to 65,535";
        deserialize_u32 visit_u32 u32, "a whole number from 0 to 4,294,967,295";
        deserialize_u64 visit_u64 u64, "a whole number from 0 up";
    }

    fn deserialize_f32<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => visitor.visit_f64(number),
            _ => Err(Fault(format!("{:?} is not a number", self.0))),
        }
    }

    fn deserialize_option<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: de::Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let items: Vec<String> =
            self.0.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect();
        visitor.visit_seq(List(items.into_iter()))
    }

    fn deserialize_enum<V: de::Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_enum(into_text(self.0.trim().to_owned()))
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple tuple_struct map struct identifier ignored_any
    }
}

struct List(std::vec::IntoIter<String>);

impl<'de> SeqAccess<'de> for List {
    type Error = Fault;

    fn next_element_seed<S: de::DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        self.0.next().map(|item| seed.deserialize(Value(item))).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::time::Duration;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        name: String,
        count: u8,
        #[serde(default)]
        ratio: Option<f64>,
        #[serde(default)]
        list: Vec<u16>,
        #[serde(default)]
        mode: Mode,
        #[serde(default, with = "crate::config::duration")]
        time: Duration,
        #[serde(default)]
        on: bool,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Mode {
        #[default]
        Fast,
        VerySlow,
    }

    fn read(pairs: &[(&str, &str)]) -> Result<Sample, String> {
        let pairs = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        from_pairs(pairs).map_err(|error| error.to_string())
    }

    #[test]
    fn a_text_means_what_the_field_asks_for() {
        let all = [
            ("name", "7"),
            ("count", " 7 "),
            ("ratio", "0.5"),
            ("list", "1, 2,3"),
            ("mode", "very-slow"),
            ("time", "250ms"),
            ("on", "true"),
        ];
        let expected = Sample {
            name: "7".into(),
            count: 7,
            ratio: Some(0.5),
            list: vec![1, 2, 3],
            mode: Mode::VerySlow,
            time: Duration::from_millis(250),
            on: true,
        };
        assert_eq!(read(&all), Ok(expected));
    }

    #[test]
    fn a_fault_names_its_key_and_what_is_wanted() {
        for (pairs, expected) in [
            (
                vec![("count", "300")],
                r#"configuration key "count": "300" is not a whole number from 0 to 255"#,
            ),
            (vec![("name", "n"), ("on", "yes")], r#"configuration key "on": "yes" is not true or false"#),
            (
                vec![("time", "5 weeks")],
                r#"configuration key "time": "5 weeks" is not a time; write a whole number and ms, s, m, h or d, as in 30s"#,
            ),
            (
                vec![("mode", "slow")],
                r#"configuration key "mode": unknown variant `slow`, expected `fast` or `very-slow`"#,
            ),
            (vec![("name", "n")], "configuration: missing field `count`"),
            (
                vec![("nmae", "n")],
                "configuration: unknown field `nmae`, expected one of `name`, `count`, `ratio`, `list`, `mode`, `time`, `on`",
            ),
        ] {
            assert_eq!(read(&pairs), Err(expected.to_owned()));
        }
    }
}
