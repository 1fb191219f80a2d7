//! JSON text to a value, in which no key stands twice: of two routes with one name the one would be lost without a word.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// A value, and the pointers of keys that stand twice.
pub(super) fn parse(json: &[u8]) -> Result<(Value, Vec<String>), serde_json::Error> {
    let (mut path, mut twice) = (String::new(), Vec::new());
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = Strict { path: &mut path, twice: &mut twice }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok((value, twice))
}

/// A key as a part of a pointer (RFC 6901).
pub(super) fn part(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

struct Strict<'p> {
    path: &'p mut String,
    twice: &'p mut Vec<String>,
}

impl Strict<'_> {
    /// The same one key deeper.
    fn under<R>(&mut self, key: &str, work: impl FnOnce(Strict<'_>) -> R) -> R {
        let length = self.path.len();
        self.path.push_str(&part(key));
        let done = work(Strict { path: self.path, twice: self.twice });
        self.path.truncate(length);
        done
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = self.under(&list.len().to_string(), |under| items.next_element_seed(under))? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = self.under(&key, |under| entries.next_value_seed(under))?;
            if map.insert(key.clone(), value).is_some() {
                self.under(&key, |under| under.twice.push(under.path.clone()));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_serde_reads_is_read_and_keys_that_stand_twice_are_named() {
        let text = r#"{"a":[1,-2,2.5,null,true,"x"],"b":{"c/d":1,"c/d":2},"b":{}}"#;
        let (value, twice) = parse(text.as_bytes()).unwrap();
        assert_eq!(value, json!({"a": [1, -2, 2.5, null, true, "x"], "b": {}}));
        assert_eq!(twice, ["/b/c~1d", "/b"]);
        assert!(parse(b"{} x").is_err());
        assert!(parse("[".repeat(1000).as_bytes()).is_err());
    }
}
