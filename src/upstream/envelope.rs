//! The JSON envelopes of registries: an object with the value in one field. An array in it is read element by element, so
//! that only one element is held as JSON.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use super::{failure::invalid, json_repair};
use crate::origin::FetchError;

/// The value in an envelope.
#[derive(Debug, PartialEq)]
pub(super) enum EnvelopeValue<T> {
    /// A string.
    Text(String),
    /// An object.
    Object(Map<String, Value>),
    /// An array: what its elements were read as, and the number of elements that could not be read.
    Array { read: Vec<T>, broken: usize },
    /// Null.
    Null,
}

/// Reads the value in `field` of an envelope. `element` reads one element of an array; `None` is a broken one.
///
/// # Errors
/// [`FetchError::Invalid`] when the text is no such envelope, or the value is of another type.
pub(super) fn read<T>(
    json: &[u8],
    field: &str,
    element: impl Fn(Map<String, Value>) -> Option<T>,
) -> Result<EnvelopeValue<T>, FetchError> {
    let value = read_strictly(json, field, &element);
    // Text that is not quite JSON costs a character or a value, never the whole envelope.
    let value = value.or_else(|_| read_strictly(json_repair::repair(json).as_bytes(), field, &element));
    value.ok().flatten().ok_or_else(|| invalid("not the registry's JSON"))
}

fn read_strictly<T>(
    json: &[u8],
    field: &str,
    element: ReadElement<'_, T>,
) -> Result<Option<EnvelopeValue<T>>, serde_json::Error> {
    let mut from = serde_json::Deserializer::from_slice(json);
    let value = (&mut from).deserialize_map(EnvelopeVisitor { field, element })?;
    from.end().map(|()| value)
}

/// Reads one element of an array; `None` is a broken one.
type ReadElement<'a, T> = &'a dyn Fn(Map<String, Value>) -> Option<T>;

struct EnvelopeVisitor<'a, T> {
    field: &'a str,
    element: ReadElement<'a, T>,
}

impl<'de, T> Visitor<'de> for EnvelopeVisitor<'_, T> {
    type Value = Option<EnvelopeValue<T>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the field {}", self.field)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut value = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == self.field {
                value = Some(map.next_value_seed(ValueSeed { element: self.element })?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(value)
    }
}

struct ValueSeed<'a, T> {
    element: ReadElement<'a, T>,
}

impl<'de, T> DeserializeSeed<'de> for ValueSeed<'_, T> {
    type Value = EnvelopeValue<T>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de, T> Visitor<'de> for ValueSeed<'_, T> {
    type Value = EnvelopeValue<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, an object, an array or null")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(EnvelopeValue::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(EnvelopeValue::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, value)) = map.next_entry()? {
            object.insert(key, value);
        }
        Ok(EnvelopeValue::Object(object))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut read = Vec::new();
        let mut broken = 0;
        while let Some(value) = seq.next_element::<Value>()? {
            let element = match value {
                Value::Object(object) => (self.element)(object),
                _ => None,
            };
            match element {
                Some(element) => read.push(element),
                None => broken += 1,
            }
        }
        Ok(EnvelopeValue::Array { read, broken })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value(json: Value) -> Result<EnvelopeValue<String>, FetchError> {
        read(json.to_string().as_bytes(), "body", |row| row.get("name")?.as_str().map(str::to_owned))
    }

    #[test]
    fn the_value_of_the_field_is_read_whatever_stands_beside_it() {
        let array = EnvelopeValue::Array { read: vec!["a".to_owned(), "b".to_owned()], broken: 3 };
        for (json, expected) in [
            (json!({"request_id": {"x": [1]}, "body": "text"}), EnvelopeValue::Text("text".into())),
            (json!({"body": null}), EnvelopeValue::Null),
            (json!({"body": [{"name": "a"}, 1, {"name": 2}, null, {"name": "b", "x": {}}], "z": 1}), array),
        ] {
            assert_eq!(value(json.clone()), Ok(expected), "{json}");
        }
        let Ok(EnvelopeValue::Object(object)) = value(json!({"body": {"b": 1, "a": 2}})) else { panic!("an object") };
        assert_eq!(object.keys().collect::<Vec<_>>(), ["b", "a"]);
    }

    #[test]
    fn a_text_that_is_no_envelope_is_rejected() {
        for json in [json!([]), json!("body"), json!({}), json!({"Body": 1}), json!({"body": 1}), json!({"body": true})]
        {
            assert!(matches!(value(json.clone()), Err(FetchError::Invalid(_))), "{json}");
        }
        for text in ["", "<html>", "{\"body\": \"x\"", "{\"body\": \"x\"} {}", "{\"body\": [{]}"] {
            let read = read(text.as_bytes(), "body", |_| Some(()));
            assert!(matches!(read, Err(FetchError::Invalid(_))), "{text}");
        }
    }
}
