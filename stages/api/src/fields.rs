//! The fields of a type in the order in which it declares them. A schema sorts them by name.

use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

/// The names of the fields of a map-like type; none of any other.
#[must_use]
pub fn fields<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    let mut found: &'static [&'static str] = &[];
    // It always fails: all that is wanted is the question.
    let _ = T::deserialize(Ask(&mut found));
    found
}

/// Answers no question, but notes the names in the one for a map of known fields.
struct Ask<'a>(&'a mut &'static [&'static str]);

type Nothing = serde::de::value::Error;

impl<'de> Deserializer<'de> for Ask<'_> {
    type Error = Nothing;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Nothing> {
        Err(Nothing::custom("only the names were asked for"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Nothing> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize;

    #[derive(Serialize, serde::Deserialize)]
    #[allow(dead_code)]
    struct Some {
        second: u8,
        first: u8,
    }

    #[test]
    fn they_come_as_they_are_declared() {
        assert_eq!(fields::<Some>(), ["second", "first"]);
        assert!(fields::<u8>().is_empty());
    }
}
