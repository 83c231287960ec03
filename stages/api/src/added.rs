//! Parameters of later versions, which a key holds only if they change what a stage did before they were there.
//!
//! A field that is added to a kind's parameters says at which value the kind behaves as it did without it:
//! `#[schemars(extend("x-added" = 1.0))]`. At that value it is left out of the key, whether the recipe names it or not. So
//! a new parameter recomputes nothing, and its default may change later without a word in old keys.

use crate::choice::fitting;
use serde_json::Value;

/// The word of a schema that holds the value of the old behaviour.
const ADDED: &str = "x-added";

/// Normalised parameters less those that were added later and stand at their old behaviour.
#[must_use]
pub fn without_added(schema: &Value, params: &Value) -> Value {
    match params {
        Value::Object(map) => {
            let kept = map.iter().filter_map(|(name, value)| {
                let Some(own) = own(schema, params, name) else { return Some((name.clone(), value.clone())) };
                let value = without_added(own, value);
                let old = own.get(ADDED).is_some_and(|old| same(&without_added(own, old), &value));
                (!old).then(|| (name.clone(), value))
            });
            Value::Object(kept.collect())
        }
        Value::Array(items) => items.iter().map(|item| without_added(item_of(schema, params), item)).collect(),
        other => other.clone(),
    }
}

/// The schema of the value under `name`, among the choices that have the form of `map`.
fn own<'s>(schema: &'s Value, map: &'s Value, name: &str) -> Option<&'s Value> {
    let here = [&schema["properties"][name], &schema["additionalProperties"]].into_iter().find(|s| s.is_object());
    here.or_else(|| fitting(schema, map).find_map(|choice| own(choice, map, name)))
}

fn item_of<'s>(schema: &'s Value, list: &'s Value) -> &'s Value {
    let here = &schema["items"];
    if here.is_object() { here } else { fitting(schema, list).map(|c| item_of(c, list)).next().unwrap_or(here) }
}

/// Whether two values are the same, whichever way their numbers are written. A number of 32 bits, which a parameter's type
/// may have, is the same as the decimal that it was read from.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            #[expect(clippy::cast_possible_truncation, reason = "to the precision of the parameter's type")]
            let short = |n: &serde_json::Number| n.as_f64().map(|n| n as f32);
            x == y || (x.is_f64() || y.is_f64()) && (x.as_f64() == y.as_f64() || short(x) == short(y))
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(a, b)| same(a, b)),
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(name, a)| y.get(name).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemars::JsonSchema;
    use schemars::generate::SchemaSettings;
    use serde::Serialize;
    use serde_json::json;

    #[derive(Default, Serialize, JsonSchema)]
    struct Params {
        rounds: u32,
        #[schemars(extend("x-added" = 0.1))]
        dropout: f32,
        #[schemars(extend("x-added" = {"from": 1, "to": 2}))]
        range: Range,
        #[schemars(extend("x-added" = null))]
        name: Option<String>,
        inner: Option<Inner>,
        several: Vec<Choice>,
        by_name: std::collections::BTreeMap<String, Inner>,
    }

    #[derive(Serialize, JsonSchema)]
    struct Range {
        from: u32,
        to: u32,
        /// Added after the range itself.
        #[schemars(extend("x-added" = 1))]
        by: u32,
    }

    impl Default for Range {
        fn default() -> Self {
            Self { from: 1, to: 2, by: 1 }
        }
    }

    #[derive(Default, Serialize, JsonSchema)]
    struct Inner {
        old: u32,
        #[schemars(extend("x-added" = false))]
        new: bool,
    }

    #[derive(Serialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Choice {
        One {
            old: u32,
            #[schemars(extend("x-added" = 7))]
            new: u32,
        },
        Other {
            new: u32,
        },
        Plain,
    }

    fn kept(params: &Params) -> Value {
        let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
        let schema: Value = settings.into_generator().into_root_schema_for::<Params>().into();
        without_added(&schema, &serde_json::to_value(params).unwrap())
    }

    #[test]
    fn at_the_old_behaviour_it_is_left_out() {
        let old = json!({"rounds": 0, "inner": null, "several": [], "by_name": {}});
        assert_eq!(kept(&Params { dropout: 0.1, ..Params::default() }), old);
        let by = Range { by: 3, ..Range::default() };
        assert_eq!(
            kept(&Params { dropout: 0.2, name: Some("n".into()), range: by, ..Params::default() }),
            json!({"rounds": 0, "inner": null, "several": [], "by_name": {}, "name": "n", "dropout": 0.2_f32, "range": {"from": 1, "to": 2, "by": 3}})
        );
    }

    #[test]
    fn in_every_place() {
        let params = Params {
            dropout: 0.1,
            inner: Some(Inner::default()),
            several: vec![
                Choice::One { old: 1, new: 7 },
                Choice::One { old: 1, new: 8 },
                Choice::Other { new: 7 },
                Choice::Plain,
            ],
            by_name: [("new".to_owned(), Inner { old: 1, new: true }), ("b".to_owned(), Inner::default())].into(),
            ..Params::default()
        };
        let several = json!([{"one": {"old": 1}}, {"one": {"old": 1, "new": 8}}, {"other": {"new": 7}}, "plain"]);
        let by_name = json!({"new": {"old": 1, "new": true}, "b": {"old": 0}});
        assert_eq!(kept(&params), json!({"rounds": 0, "inner": {"old": 0}, "several": several, "by_name": by_name}));
    }

    /// Without the word every parameter stays as it is, at whatever value.
    #[test]
    fn what_was_not_added_stays() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "number", "default": 1}}});
        for params in [json!({"a": 1}), json!({"a": 1.0, "b": [1, {"c": null}]}), json!({}), json!([1]), json!(null)] {
            assert_eq!(without_added(&schema, &params), params);
        }
    }
}
