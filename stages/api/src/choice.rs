//! Choices: values that are one of several, each under its name (`algorithm: {grpo_guard: {clip_range: 1e-4}}`). A
//! choice all of whose parameters have defaults may be written as its bare name.

use crate::param::{ParamFault, below};
use serde_json::{Map, Value};

/// The choices that a schema offers.
pub(crate) fn choices(schema: &Value) -> impl Iterator<Item = &Value> {
    ["oneOf", "anyOf"].into_iter().filter_map(|n| schema[n].as_array()).flatten()
}

/// The choices whose form is that of `value`, whatever its numbers are.
pub(crate) fn fitting<'s>(schema: &'s Value, value: &'s Value) -> impl Iterator<Item = &'s Value> {
    choices(schema).filter(move |choice| {
        let is = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let typed = match &choice["type"] {
            Value::String(one) => one == is || is == "number" && one == "integer",
            Value::Array(several) => several.iter().any(|t| t == is || is == "number" && t == "integer"),
            // A choice that is itself one of several.
            _ => choice.is_object(),
        };
        // Of maps with one name each, that name tells which is meant.
        let named = value.as_object().is_none_or(|map| single(choice).is_none_or(|(name, _)| map.contains_key(name)));
        typed && named
    })
}

/// Of a choice that is a map with one name: the name, and the schema of what is below it.
fn single(choice: &Value) -> Option<(&String, &Value)> {
    let properties = choice["properties"].as_object().filter(|p| p.len() == 1)?;
    let only = properties.iter().next()?;
    let required = choice["required"].as_array()?;
    (required.len() == 1 && required[0] == *only.0.as_str()).then_some(only)
}

/// The names among `schema`'s choices that may be written bare.
#[must_use]
pub fn bare_names(schema: &Value) -> Vec<&str> {
    let free = |(_, inner): &(&String, &Value)| needed(inner).is_some_and(|n| n.is_empty());
    choices(schema).filter_map(single).filter(free).map(|(name, _)| name.as_str()).collect()
}

/// What must be written in a map of this schema; nothing if it is no map.
fn needed(schema: &Value) -> Option<Vec<&str>> {
    if schema["type"] != "object" {
        return None;
    }
    Some(schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect())
}

/// `value` with each bare name, and each name with nothing below it, written out as a map.
#[must_use]
pub fn written_out(schema: &Value, value: &Value) -> Value {
    match value {
        Value::String(name) if bare_names(schema).contains(&name.as_str()) => {
            Value::Object(Map::from_iter([(name.clone(), Value::Object(Map::new()))]))
        }
        Value::Object(map) => {
            let bare = bare_names(schema);
            let inner = |(name, inner): (&String, &Value)| {
                if inner.is_null() && bare.contains(&name.as_str()) {
                    return (name.clone(), Value::Object(Map::new()));
                }
                let own = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
                let own = own.or_else(|| choices(schema).find_map(|c| c["properties"].get(name)));
                (name.clone(), own.map_or_else(|| inner.clone(), |own| written_out(own, inner)))
            };
            Value::Object(map.iter().map(inner).collect())
        }
        Value::Array(items) => items.iter().map(|i| written_out(&schema["items"], i)).collect(),
        _ => value.clone(),
    }
}

/// The fault of a choice that is named bare although it needs parameters.
pub(crate) fn bare_fault(schema: &Value, text: &str, at: &str) -> Option<ParamFault> {
    let (name, inner) = choices(schema).filter_map(single).find(|(name, _)| *name == text)?;
    let needed = needed(inner).filter(|n| !n.is_empty())?;
    let each: Vec<String> = needed.iter().map(|n| format!("`{}`", below(name, n))).collect();
    let fault = ParamFault::new(at, format!("`{name}` is named without {}", each.join(" and ")));
    let inside: Vec<String> = needed.iter().map(|n| format!("{n}: ...")).collect();
    Some(fault.help(format!("write `{{{name}: {{{}}}}}`", inside.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        let number = json!({"type": "number"});
        let map = |required: &[&str]| json!({"type": "object", "properties": {"n": number}, "required": required});
        let choice = |name: &str, inner: Value| json!({"type": "object", "properties": {name: inner}, "required": [name], "additionalProperties": false});
        let one = json!({"oneOf": [choice("free", map(&[])), choice("bound", map(&["n"])), {"const": "word", "type": "string"}]});
        json!({"type": "object", "properties": {"one": one, "several": {"type": "array", "items": one}}})
    }

    #[test]
    fn bare_names_are_written_out() {
        let out = |value: Value| written_out(&schema(), &value);
        let free = json!({"free": {}});
        assert_eq!(out(json!({"one": "free"})), json!({"one": free}));
        assert_eq!(
            out(json!({"one": {"free": null}, "several": ["free", "word"]})),
            json!({"one": free, "several": [free, "word"]})
        );
        for kept in [
            json!({"one": "bound"}),
            json!({"one": "word"}),
            json!({"one": {"bound": {"n": 1}}}),
            json!({"two": "free"}),
        ] {
            assert_eq!(out(kept.clone()), kept);
        }
        assert_eq!(bare_names(&schema()["properties"]["one"]), ["free"]);
    }

    #[test]
    fn a_bare_name_that_needs_more_is_told() {
        let one = &schema()["properties"]["one"];
        let fault = bare_fault(one, "bound", "one").unwrap();
        assert_eq!((fault.path.as_str(), fault.help.as_deref()), ("one", Some("write `{bound: {n: ...}}`")));
        assert!(bare_fault(one, "free", "one").is_none() && bare_fault(one, "nosuch", "one").is_none());
    }
}
