//! The parameters of a stage in one list.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is shown of parameters.
pub enum Shown {
    /// All of them.
    All,
    /// No text but the words of the kind's own schema: anything else may be a prompt or a path.
    Shared(Option<Arc<Value>>),
}

/// The parameters that a manifest holds, each a number, a text or a boolean under its path (`optimizer.lr`), with its seed.
#[must_use]
pub fn flat(manifest: &Value, shown: Shown) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    flatten("", &manifest["params"], &mut flat);
    if manifest["seed"].is_u64() {
        flat.entry("seed".to_owned()).or_insert_with(|| manifest["seed"].clone());
    }
    if let Shown::Shared(schema) = shown {
        let mut words = BTreeSet::new();
        if let Some(schema) = schema {
            gather_words(&schema, &mut words);
        }
        flat.retain(|_, value| may_be_shared(value, &words));
    }
    flat
}

/// Lists stay whole, as JSON; what is absent is left out.
fn flatten(path: &str, value: &Value, flat: &mut BTreeMap<String, Value>) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, value) in fields {
                flatten(&if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, value, flat);
            }
        }
        Value::Array(_) => drop(flat.insert(path.to_owned(), Value::String(value.to_string()))),
        value => drop(flat.insert(path.to_owned(), value.clone())),
    }
}

/// The words that a schema itself names: choices such as `reflow`. Any other text is the user's.
fn gather_words(schema: &Value, words: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            for (name, inner) in fields {
                match (name.as_str(), inner) {
                    ("const", Value::String(word)) => drop(words.insert(word.clone())),
                    ("enum", Value::Array(all)) => {
                        words.extend(all.iter().filter_map(Value::as_str).map(ToOwned::to_owned));
                    }
                    _ => gather_words(inner, words),
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|inner| gather_words(inner, words)),
        _ => {}
    }
}

fn may_be_shared(value: &Value, words: &BTreeSet<String>) -> bool {
    match value {
        Value::String(text) => {
            words.contains(text)
                || serde_json::from_str::<Vec<Value>>(text).is_ok_and(|all| all.iter().all(|v| may_be_shared(v, words)))
        }
        Value::Object(_) | Value::Array(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parameters_are_flat() {
        let mut flat = BTreeMap::new();
        let params = json!({"lr": 0.1, "a": {"b": {"c": true}, "none": null}, "list": [1, "x"], "empty": {}});
        flatten("", &params, &mut flat);
        assert_eq!(json!(flat), json!({"lr": 0.1, "a.b.c": true, "list": "[1,\"x\"]"}));
    }

    #[test]
    fn only_the_schema_s_own_words_are_shared() {
        let mut words = BTreeSet::new();
        gather_words(
            &json!({"properties": {"a": {"enum": ["one", "two"]}}, "oneOf": [{"const": "three"}]}),
            &mut words,
        );
        for (value, shared) in [
            (json!("one"), true),
            (json!("three"), true),
            (json!("a dog"), false),
            (json!("/home/somebody/model"), false),
            (json!(3), true),
            (json!("[1,\"two\"]"), true),
            (json!("[\"a dog\"]"), false),
            (json!("[{\"prompt\":1}]"), false),
        ] {
            assert_eq!(may_be_shared(&value, &words), shared, "{value}");
        }
    }
}
