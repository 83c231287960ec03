//! JSON read into the type of parameters, with what does not fit as data: whose name is unknown, which one is missing, what
//! was found and what was expected. The messages of `serde_json` say the same, but only in words.

use crate::param::{Cause, Mismatch, ParamFault};
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer as _, Unexpected, Visitor};
use serde_json::Value;
use std::fmt;

impl std::error::Error for Mismatch {}

impl de::Error for Mismatch {
    fn custom<T: fmt::Display>(said: T) -> Self {
        Self::Said(said.to_string())
    }
    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::Other { found: in_words(found), expected: wanted(&expected.to_string()) }
    }
    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }
    fn invalid_length(found: usize, expected: &dyn de::Expected) -> Self {
        Self::Other { found: format!("{found} values"), expected: wanted(&expected.to_string()) }
    }
    fn unknown_field(name: &str, known: &'static [&'static str]) -> Self {
        Self::UnknownField { name: name.to_owned(), known }
    }
    fn unknown_variant(name: &str, known: &'static [&'static str]) -> Self {
        Self::UnknownVariant { name: name.to_owned(), known }
    }
    fn missing_field(name: &'static str) -> Self {
        Self::MissingField { name }
    }
}

/// What was found, in the words of a recipe.
fn in_words(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("`{value}`"),
        Unexpected::Signed(value) => format!("`{value}`"),
        // With its point, which tells it from a whole number.
        Unexpected::Float(value) => format!("`{value:?}`"),
        Unexpected::Char(value) => text(&value.to_string()),
        Unexpected::Str(value) => text(value),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a map".to_owned(),
        Unexpected::NewtypeStruct
        | Unexpected::Enum
        | Unexpected::UnitVariant
        | Unexpected::NewtypeVariant
        | Unexpected::TupleVariant
        | Unexpected::StructVariant => "a name without a value".to_owned(),
        Unexpected::Bytes(_) | Unexpected::Other(_) => found.to_string(),
    }
}

/// A text in backquotes, cut if it is long, without what could move a terminal's cursor.
fn text(value: &str) -> String {
    let shown: String = value
        .chars()
        .take(40)
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    format!("the text `{shown}{}`", if value.chars().count() > 40 { "…" } else { "" })
}

/// What a type expects, in the words of a recipe.
fn wanted(expected: &str) -> String {
    let words = match expected {
        "f32" | "f64" => "a number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "a nonzero u64" | "a nonzero usize" | "a nonzero u32" => "a whole number from 1",
        "a boolean" => "`true` or `false`",
        "a string" | "string" => "a text",
        "a sequence" | "sequence" => "a list",
        other if other.starts_with("struct ") => "a map",
        other => other,
    };
    words.to_owned()
}

/// Reads a value as `T`.
///
/// # Errors
/// The first thing that does not fit, with its place.
pub(crate) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Box<ParamFault>> {
    serde_path_to_error::deserialize(Reader(value)).map_err(|e: serde_path_to_error::Error<Mismatch>| {
        let path = e.path().to_string();
        let path = if path == "." { String::new() } else { path };
        let mismatch = e.into_inner();
        Box::new(ParamFault { cause: Cause::Type(mismatch.clone()), ..ParamFault::new(path, mismatch.to_string()) })
    })
}

/// A value to be read from.
struct Reader<'de>(&'de Value);

/// What most of the types ask for comes to the same: the value says itself what it is.
macro_rules! by_value {
    ($($name:ident)*) => {$(
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
            self.deserialize_any(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(n) => match (n.as_u64(), n.as_i64(), n.as_f64()) {
                (Some(n), _, _) => visitor.visit_u64(n),
                (_, Some(n), _) => visitor.visit_i64(n),
                (_, _, Some(n)) => visitor.visit_f64(n),
                (None, None, None) => Err(Mismatch::Said(format!("the number {n} is out of range"))),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => {
                let mut items = Items(items.iter());
                let value = visitor.visit_seq(&mut items)?;
                match items.0.len() {
                    0 => Ok(value),
                    more => Err(Mismatch::Said(format!("found {more} values more than expected"))),
                }
            }
            Value::Object(map) => visitor.visit_map(Names { entries: map.iter(), value: None }),
        }
    }

    by_value! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64
        deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_unit
        deserialize_seq deserialize_map deserialize_identifier
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }
    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_any(visitor)
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }
    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_any(visitor)
    }
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.deserialize_any(visitor)
    }
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.deserialize_any(visitor)
    }
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::String(name) => visitor.visit_enum(Choice { name, value: None }),
            Value::Object(map) => match (map.iter().next(), map.len()) {
                (Some((name, value)), 1) => visitor.visit_enum(Choice { name, value: Some(value) }),
                _ => Err(Mismatch::NotOneName),
            },
            other => Err(Mismatch::Other {
                found: in_words(unexpected(other)),
                expected: "a name, or a map with one name".to_owned(),
            }),
        }
    }
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_unit()
    }
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::Number(n) => match (n.as_u64(), n.as_i64()) {
            (Some(n), _) => Unexpected::Unsigned(n),
            (_, Some(n)) => Unexpected::Signed(n),
            _ => Unexpected::Float(n.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Unexpected::Str(text),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    }
}

/// The values of a list.
struct Items<'de>(std::slice::Iter<'de, Value>);

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = Mismatch;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mismatch> {
        self.0.next().map(|value| seed.deserialize(Reader(value))).transpose()
    }
    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// The names of a map with their values.
struct Names<'de> {
    entries: serde_json::map::Iter<'de>,
    value: Option<&'de Value>,
}

impl<'de> de::MapAccess<'de> for Names<'de> {
    type Error = Mismatch;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mismatch> {
        let Some((name, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(Name(name)).map(Some)
    }
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mismatch> {
        seed.deserialize(Reader(self.value.take().unwrap_or(&Value::Null)))
    }
}

/// A name in a map. Where the type wants a number there, it is read as one.
struct Name<'de>(&'de str);

macro_rules! numbers {
    ($($name:ident: $visit:ident)*) => {$(
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
            match self.0.parse() {
                Ok(number) => visitor.$visit(number),
                Err(_) => visitor.visit_borrowed_str(self.0),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Name<'de> {
    type Error = Mismatch;
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_borrowed_str(self.0)
    }
    numbers! {
        deserialize_i8: visit_i8 deserialize_i16: visit_i16 deserialize_i32: visit_i32 deserialize_i64: visit_i64
        deserialize_u8: visit_u8 deserialize_u16: visit_u16 deserialize_u32: visit_u32 deserialize_u64: visit_u64
        deserialize_bool: visit_bool
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_enum(Choice { name: self.0, value: None })
    }
    serde::forward_to_deserialize_any! {
        i128 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

/// One of several choices: a name, and what stands under it.
struct Choice<'de> {
    name: &'de str,
    value: Option<&'de Value>,
}

impl<'de> de::EnumAccess<'de> for Choice<'de> {
    type Error = Mismatch;
    type Variant = Content<'de>;
    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self::Variant), Mismatch> {
        let name = seed.deserialize(self.name.into_deserializer())?;
        Ok((name, Content(self.value)))
    }
}

/// What stands under the name of a choice, if anything does.
struct Content<'de>(Option<&'de Value>);

impl Content<'_> {
    fn lacking(expected: &str) -> Mismatch {
        Mismatch::Other { found: "a name without a value".to_owned(), expected: expected.to_owned() }
    }
}

impl<'de> de::VariantAccess<'de> for Content<'de> {
    type Error = Mismatch;
    fn unit_variant(self) -> Result<(), Mismatch> {
        match self.0 {
            None | Some(Value::Null) => Ok(()),
            Some(value) => Err(de::Error::invalid_type(unexpected(value), &"a name without a value")),
        }
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Mismatch> {
        self.0.map_or_else(|| Err(Self::lacking("one with a value under it")), |value| seed.deserialize(Reader(value)))
    }
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Some(value @ Value::Array(_)) => Reader(value).deserialize_any(visitor),
            Some(value) => Err(de::Error::invalid_type(unexpected(value), &"a sequence")),
            None => Err(Self::lacking("one with a list under it")),
        }
    }
    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Some(value @ Value::Object(_)) => Reader(value).deserialize_any(visitor),
            Some(value) => Err(de::Error::invalid_type(unexpected(value), &"a map")),
            None => Err(Self::lacking("one with a map under it")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};
    use serde_json::json;
    use std::collections::BTreeMap;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Whole {
        count: u32,
        #[serde(default)]
        rate: f64,
        #[serde(default)]
        name: Option<String>,
        #[serde(default)]
        on: bool,
        #[serde(default)]
        list: Vec<i64>,
        #[serde(default)]
        pair: Option<(u8, String)>,
        #[serde(default)]
        by_name: BTreeMap<String, Choice>,
        #[serde(default)]
        by_number: BTreeMap<u32, bool>,
        #[serde(default)]
        choice: Option<Choice>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "snake_case")]
    enum Choice {
        Plain,
        One(f64),
        Two(u8, u8),
        Named { at: u64 },
    }

    fn fault(value: Value) -> (String, Mismatch) {
        let found = read::<Whole>(&value).unwrap_err();
        let Cause::Type(mismatch) = found.cause else { panic!("{found:?}") };
        (found.path, mismatch)
    }

    /// It takes what `serde_json` takes, reads the same from it, and refuses the rest.
    #[test]
    fn it_reads_what_serde_json_reads() {
        let values = [
            json!(null),
            json!(true),
            json!(0),
            json!(-1),
            json!(255),
            json!(256),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(1.5),
            json!(1e308),
            json!(""),
            json!("plain"),
            json!("one"),
            json!("other"),
            json!([]),
            json!([1]),
            json!([1, "a"]),
            json!([1, 2]),
            json!([1, 2, 3]),
            json!({}),
            json!({"plain": null}),
            json!({"plain": 1}),
            json!({"one": 2}),
            json!({"one": 2.5}),
            json!({"two": [1, 2]}),
            json!({"two": [1]}),
            json!({"two": 1}),
            json!({"named": {"at": 3}}),
            json!({"named": {"at": -3}}),
            json!({"named": {}}),
            json!({"named": 1}),
            json!({"one": 1, "plain": null}),
            json!({"1": true}),
            json!({"x": true}),
            json!({"a": "plain", "b": {"one": 1}}),
        ];
        let mut read_well = 0;
        for field in ["count", "rate", "name", "on", "list", "pair", "by_name", "by_number", "choice", "unknown"] {
            for value in &values {
                let whole = json!({"count": 1, field: value});
                let theirs = serde_json::from_value::<Whole>(whole.clone()).ok();
                let ours = read::<Whole>(&whole).ok();
                assert_eq!(ours, theirs, "{whole}");
                read_well += usize::from(ours.is_some());
            }
        }
        assert!(read_well > 30, "{read_well}");
    }

    #[test]
    fn what_does_not_fit_is_data() {
        let other = |found: &str, expected: &str| Mismatch::Other { found: found.into(), expected: expected.into() };
        assert_eq!(fault(json!({})), (String::new(), Mismatch::MissingField { name: "count" }));
        let (path, found) = fault(json!({"count": 1, "cuont": 2}));
        assert!(path.is_empty() || path == "cuont", "{path}");
        assert!(matches!(found, Mismatch::UnknownField { name, known } if name == "cuont" && known.contains(&"count")));
        assert_eq!(fault(json!({"count": "many"})).1, other("the text `many`", "a whole number from 0"));
        assert_eq!(fault(json!({"count": -2})), ("count".into(), other("`-2`", "a whole number from 0")));
        assert_eq!(fault(json!({"count": 1, "rate": {}})).1, other("a map", "a number"));
        assert_eq!(fault(json!({"count": 1, "on": null})).1, other("nothing", "`true` or `false`"));
        let long = "x\u{1b}".repeat(100);
        assert!(!fault(json!({"count": long})).1.to_string().contains('\u{1b}'));
        assert_eq!(fault(json!({"count": 1, "list": [1, 2.5]})).0, "list[1]");
        let (_, found) = fault(json!({"count": 1, "choice": "palin"}));
        assert!(matches!(found, Mismatch::UnknownVariant { name, known } if name == "palin" && known.len() == 4));
        assert_eq!(fault(json!({"count": 1, "choice": {"one": 1, "plain": null}})).1, Mismatch::NotOneName);
        assert_eq!(fault(json!({"count": 1, "choice": 3})).1, other("`3`", "a name, or a map with one name"));
        assert_eq!(
            fault(json!({"count": 1, "choice": "one"})).1,
            other("a name without a value", "one with a value under it")
        );
    }
}
