//! The parameters of a stage kind, one line each, nested ones under their paths.

use opdflow_api::Kind;
use opdflow_api::range::Range;
use serde::Serialize;
use serde_json::{Map, Value};

/// A parameter for the reference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Param {
    /// Its path below `with`: `algorithm.diffusion_nft.beta`.
    pub name: String,
    /// What it takes, such as `whole number from 0`.
    pub takes: String,
    /// Its value where none is written; nothing if one must be written, or if none is as good as a value.
    pub default: Option<Value>,
    /// Whether one must be written.
    pub required: bool,
    /// Whether its value is in the key of the stage.
    pub in_key: bool,
    /// What it means.
    pub about: String,
}

/// All parameters of a kind, in the order of their type; what is inside one comes right after it.
#[must_use]
pub fn params(kind: &dyn Kind) -> Vec<Param> {
    let about = kind.describe();
    let schema = kind.schema();
    let mut found = Vec::new();
    let none = Map::new();
    let top = schema["properties"].as_object().unwrap_or(&none);
    for name in kind.fields() {
        if let Some(param) = top.get(*name) {
            add(name, param, required(&schema, name), &mut found);
        }
    }
    for param in &mut found {
        let inside =
            |outer: &str| param.name.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        param.in_key = !about.outside_key.iter().any(|outer| inside(outer));
    }
    found
}

fn required(schema: &Value, name: &str) -> bool {
    schema["required"].as_array().is_some_and(|all| all.iter().any(|n| n == name))
}

fn add(name: &str, schema: &Value, required: bool, found: &mut Vec<Param>) {
    let about = schema["description"].as_str().unwrap_or_default().replace('\n', " ");
    let default = schema.get("default").filter(|v| !v.is_null()).cloned();
    found.push(Param { name: name.to_owned(), takes: takes(schema), default, required, in_key: true, about });
    inside(name, schema, found);
}

/// The parameters below one: fields of a map, of the maps in a list, of each choice.
fn inside(name: &str, schema: &Value, found: &mut Vec<Param>) {
    // A default of the whole says what it gives each of its parts; those need not repeat it.
    for (field, inner) in schema["properties"].as_object().into_iter().flatten() {
        add(&format!("{name}.{field}"), inner, required_inside(schema, field), found);
    }
    if let Some(items) = schema.get("items") {
        inside(&format!("{name}[]"), items, found);
    }
    if let Some(each) = schema.get("additionalProperties").filter(|each| each.is_object()) {
        inside(&format!("{name}.*"), each, found);
    }
    for choice in choices(schema) {
        if choice["const"].is_null() && choice["enum"].is_null() {
            let from = found.len();
            inside(name, choice, found);
            // What is said of a choice is said of the name that stands for it; of one that may be left out, of the field itself.
            let named = choice["properties"].is_object();
            let about = choice["description"].as_str().filter(|_| named);
            if let (Some(first), Some(about)) = (found.get_mut(from), about) {
                first.about = about.replace('\n', " ");
            }
        } else if let (Some(word), Some(about)) = (choice["const"].as_str(), choice["description"].as_str()) {
            let about = about.replace('\n', " ");
            let name = format!("{name}: {word}");
            let takes = "a choice".to_owned();
            found.push(Param { name, takes, default: None, required: false, in_key: true, about });
        }
    }
}

/// Of a choice that is a map with one name, that name is no more required than the other choices are.
fn required_inside(schema: &Value, field: &str) -> bool {
    let single = schema["properties"].as_object().is_some_and(|p| p.len() == 1) && schema["title"].is_null();
    required(schema, field) && !(single && schema["properties"][field]["type"] == "object")
}

fn choices(schema: &Value) -> impl Iterator<Item = &Value> {
    ["oneOf", "anyOf"].into_iter().filter_map(|n| schema[n].as_array()).flatten()
}

/// What a value may be, in words.
fn takes(schema: &Value) -> String {
    let names: Vec<String> = choices(schema).flat_map(offers).collect();
    if !names.is_empty() {
        return format!("one of {}", names.join(", "));
    }
    // What may be left out is written as a choice between it and nothing.
    if let Some(only) = choices(schema).find(|c| c["type"] != "null") {
        return takes(only);
    }
    if schema["const"].is_string() || schema["enum"].is_array() {
        return format!("one of {}", words(schema).join(", "));
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).filter(|t| *t != "null").collect(),
        _ => Vec::new(),
    };
    match types.first() {
        Some(&("integer" | "number")) => Range::of(schema).map_or_else(String::new, |range| range.to_string()),
        Some(&"boolean") => "`true` or `false`".to_owned(),
        Some(&"string") => "text".to_owned(),
        Some(&"array") => format!("list of: {}", takes(&schema["items"])),
        Some(&"object") if schema["additionalProperties"].is_object() => {
            format!("map of names to: {}", takes(&schema["additionalProperties"]))
        }
        Some(&"object") => "map".to_owned(),
        _ => "value".to_owned(),
    }
}

/// The names that a choice offers, by itself or by the choices in it.
fn offers(schema: &Value) -> Vec<String> {
    let inner: Vec<String> = choices(schema).flat_map(offers).collect();
    if inner.is_empty() { words(schema) } else { inner }
}

fn words(schema: &Value) -> Vec<String> {
    if let Some(word) = schema["const"].as_str() {
        return vec![format!("`{word}`")];
    }
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().filter_map(Value::as_str).map(|w| format!("`{w}`")).collect();
    }
    let single = schema["properties"].as_object().filter(|p| p.len() == 1 && required_name(schema).is_some());
    single.into_iter().flat_map(Map::keys).map(|name| format!("`{name}: {{...}}`")).collect()
}

fn required_name(schema: &Value) -> Option<&str> {
    schema["required"].as_array().filter(|r| r.len() == 1)?.first()?.as_str()
}
