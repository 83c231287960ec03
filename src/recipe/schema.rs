//! JSON Schema of recipes (draft 2020-12), from the stage kinds and the types of their parameters. Editors complete and
//! check with it; `opdflow check` knows more.

use super::FORMAT;
use opdflow_api::{Arity, Description, Input, Kind, Registry, bare_names};
use serde_json::{Map, Value, json};

/// A value that is a variable, or of an axis of the stage's matrix, and nothing else.
const VARIABLE: &str = r"^\$\{[a-z0-9_.]+\??\}$";
/// `stage.port`, with or without a cell in brackets, or a variable that holds it, or a part of it.
const OUTPUT: &str = r"^(([a-z0-9_]|\$\{[a-z0-9_.]+\})+(\[.+\])?\.[a-z0-9_]+|\$\{[a-z0-9_.]+\??\})$";
/// Names of stages.
const NAME: &str = "^[a-z0-9_]{1,64}$";
/// Names of what a map port collects.
const COLLECTED: &str = r"^([a-z0-9_]|\$\{[a-z0-9_.]+\})+$";

/// The schema of recipes that use these kinds.
#[must_use]
pub fn schema(registry: &Registry) -> Value {
    let mut parts = Map::new();
    let mut defaults = Map::new();
    let mut choices = Vec::new();
    let mut cases = Vec::new();
    for kind in registry.kinds() {
        let about = kind.describe();
        let part = json!({"$ref": format!("#/$defs/{}", about.kind)});
        parts.insert(about.kind.to_owned(), with(kind.as_ref()));
        defaults.insert(about.kind.to_owned(), part.clone());
        choices.push(json!({"const": about.kind, "description": about.about}));
        cases.push(case(&about, &part));
    }
    parts.insert("stage".to_owned(), stage(&choices, &cases));
    let list = json!({"type": ["array", "object", "string"], "pattern": VARIABLE, "minItems": 1, "minProperties": 1});
    let cells = json!({"type": ["array", "string"], "pattern": VARIABLE, "items": {"type": "object"}});
    parts.insert(
        "matrix".to_owned(),
        json!({
            "description": "Axes and their values, a list or the names of a map: what holds it is written once and stands for one per cell.",
            "type": "object",
            "properties": {"include": cells, "exclude": cells},
            "additionalProperties": list,
        }),
    );
    parts.insert(
        "repeated".to_owned(),
        json!({
            "description": "An item for each cell; `value` if it is no map.",
            "type": "object",
            "required": ["matrix"],
            "properties": {"matrix": {"$ref": "#/$defs/matrix"}},
        }),
    );
    parts.insert("include".to_owned(), include());
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A recipe of opdflow",
        "type": "object",
        "required": ["opdflow"],
        "properties": {
            "opdflow": {"const": FORMAT, "description": "The format of recipes."},
            "name": {"type": ["string", "integer"], "description": "The recipe's name, in names of runs and pins. A file without one is a part, for others to include."},
            "seed": whole("The seed of every stage that does not set its own.", 0),
            "numerics": {
                "default": "portable",
                "description": "Whether device class, number type and libtorch's version belong to the keys of stages.",
                "anyOf": [{"const": "portable"}, {"type": "string", "pattern": VARIABLE}, numerics()],
            },
            "include": {
                "description": "Recipes whose stages stand in this one too, a path or several.",
                "anyOf": [{"$ref": "#/$defs/include"}, {"type": "array", "items": {"$ref": "#/$defs/include"}}],
            },
            "vars": {"type": ["object", "null"], "description": "Values for `\"${name}\"`, which `--set name=value` replaces."},
            "defaults": {
                "type": ["object", "null"],
                "description": "Parameters by kind of stage; `with` is laid over them, name by name.",
                "properties": defaults,
                "additionalProperties": false,
            },
            "stages": {
                "description": "The stages by name.",
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"pattern": NAME},
                "additionalProperties": {"$ref": "#/$defs/stage"},
            },
        },
        "additionalProperties": false,
        "$defs": parts,
    })
}

/// A recipe that is included, as a path or with its stages.
fn include() -> Value {
    json!({
        "anyOf": [
            {"type": "string", "minLength": 1},
            {
                "type": "object",
                "required": ["recipe"],
                "properties": {
                    "recipe": {"type": "string", "description": "Its path from the folder of this file."},
                    "stages": {"type": "array", "items": {"type": "string"}, "description": "The stages that are taken, with all that they need; all of them if absent."},
                },
                "additionalProperties": false,
            },
        ],
    })
}

/// `numerics` as a map.
fn numerics() -> Value {
    let word = |words: &[&str], about: &str| json!({"anyOf": [{"enum": words}, {"type": "string", "pattern": VARIABLE}], "description": about});
    json!({
        "type": "object",
        "required": ["profile"],
        "properties": {
            "profile": word(&["strict", "portable"], "Whether keys hold device class, number type and libtorch's version."),
            "device": word(&["cpu", "cuda"], "What stages that can use a GPU run on."),
            "libtorch": {"type": ["string", "number"], "description": "libtorch's version; the program's if absent."},
        },
        "additionalProperties": false,
    })
}

fn whole(about: &str, least: u64) -> Value {
    json!({"type": ["integer", "string"], "minimum": least, "pattern": VARIABLE, "description": about})
}

fn stage(choices: &[Value], cases: &[Value]) -> Value {
    json!({
        "type": "object",
        "required": ["uses"],
        "properties": {
            "uses": {"anyOf": choices, "description": "The kind of stage."},
            "needs": {"description": "What it reads, by input port: an output of another stage, as `stage.port`."},
            "with": {"description": "Its parameters."},
            "seed": whole("Its seed, in place of the recipe's.", 0),
            "resources": {
                "type": "object",
                "description": "What it takes of the machine. Never in the key.",
                "properties": {
                    "cpus": whole("Threads of a process, which are also the slots it takes.", 1),
                    "ranks": whole("Processes that share its work. The result is the same with any number.", 1),
                    "gpus": whole("GPUs that share its work, or as many as the machine has; each has a process of its own.", 1),
                    "deadline": whole("Seconds that one of several processes waits for the others before it gives them up; 1800 if absent.", 1),
                    "gpu_memory": {
                        "type": ["integer", "string"],
                        "description": "Bytes of a GPU's memory that it needs, such as `16G`: it may then share a GPU.",
                    },
                },
                "additionalProperties": false,
            },
            "matrix": {"$ref": "#/$defs/matrix"},
        },
        "additionalProperties": false,
        "allOf": cases,
    })
}

/// What follows from `uses` being this kind.
fn case(about: &Description, part: &Value) -> Value {
    let ports: Map<String, Value> = about.inputs.iter().map(|p| (p.name.to_owned(), port(p))).collect();
    let required: Vec<&str> =
        about.inputs.iter().filter(|p| matches!(p.arity, Arity::One | Arity::Many)).map(|p| p.name).collect();
    let mut then = json!({"properties": {
        "needs": {"type": ["object", "null"], "properties": ports, "required": required, "additionalProperties": false},
        "with": part,
    }});
    if !required.is_empty() {
        then["required"] = json!(["needs"]);
        then["properties"]["needs"]["type"] = json!("object");
    }
    json!({
        "if": {"properties": {"uses": {"const": about.kind}}, "required": ["uses"]},
        "then": then,
    })
}

fn port(port: &Input) -> Value {
    let types = if port.types.is_empty() { "anything".to_owned() } else { port.types.join(" or ") };
    let about = format!("{} ({types})", port.about);
    match port.arity {
        Arity::One | Arity::Optional => json!({"type": "string", "pattern": OUTPUT, "description": about}),
        Arity::Many | Arity::Any => json!({
            "description": about,
            "type": ["object", "string"],
            "pattern": OUTPUT,
            "propertyNames": {"pattern": COLLECTED},
            "properties": {"matrix": {"$ref": "#/$defs/matrix"}},
            "additionalProperties": {"type": "string", "pattern": OUTPUT},
        }),
    }
}

/// The parameters of a kind. None is required: `defaults` may have set it.
fn with(kind: &dyn Kind) -> Value {
    let mut schema = Value::clone(&kind.schema());
    if let Some(map) = schema.as_object_mut() {
        map.remove("title");
        map.insert("type".to_owned(), json!(["object", "null"]));
    }
    open(&mut schema, false);
    // All of them may be a variable.
    if let Some(map) = schema.as_object_mut() {
        map.insert("type".to_owned(), json!(["object", "null", "string"]));
        map.insert("pattern".to_owned(), VARIABLE.into());
    }
    schema
}

/// Makes room for variables, and for what `defaults` may set. `variant` says that the name in a map is what tells it
/// from the other choices, and must stay required.
fn open(schema: &mut Value, variant: bool) {
    let bare: Vec<String> = bare_names(schema).into_iter().map(ToOwned::to_owned).collect();
    let Some(map) = schema.as_object_mut() else { return };
    map.remove("format");
    // What these say is for us: which names are former ones, and what a key leaves out.
    map.retain(|word, _| !word.starts_with("x-"));
    if !variant {
        map.remove("required");
    }
    // Several choices may all be a variable.
    if let Some(choices) = map.remove("oneOf") {
        map.insert("anyOf".to_owned(), choices);
    }
    if let Some(Value::Array(choices)) = map.get_mut("anyOf") {
        choices.iter_mut().for_each(|c| open(c, true));
        choices.push(json!({"type": "string", "pattern": VARIABLE}));
        if !bare.is_empty() {
            choices.push(json!({"type": "string", "enum": bare}));
        }
    }
    for name in ["properties", "$defs"] {
        if let Some(Value::Object(inner)) = map.get_mut(name) {
            inner.values_mut().for_each(|v| open(v, false));
        }
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(name) {
            open(inner, false);
        }
    }
    // Items of a list, and names of a map, may be written once for several.
    if let Some(items) = map.get_mut("items") {
        *items = json!({"anyOf": [items.take(), {"$ref": "#/$defs/repeated"}]});
    }
    if map.get("additionalProperties").is_some_and(Value::is_object) {
        let own = map.entry("properties").or_insert_with(|| json!({}));
        own["matrix"] = json!({"$ref": "#/$defs/matrix"});
    }
    let choices = map.contains_key("enum") || map.contains_key("const");
    match map.get_mut("type") {
        // A name among others: the variable stands beside it.
        _ if choices => {}
        Some(Value::String(one)) if one != "string" && !variant => {
            let both = json!([one, "string"]);
            map.insert("type".to_owned(), both);
            map.insert("pattern".to_owned(), VARIABLE.into());
        }
        Some(Value::Array(several)) if !several.contains(&json!("string")) => {
            several.push("string".into());
            map.insert("pattern".to_owned(), VARIABLE.into());
        }
        _ => {}
    }
    if map.contains_key("enum") && !variant {
        let choice: Map<String, Value> =
            ["type", "enum"].iter().filter_map(|n| Some(((*n).to_owned(), map.remove(*n)?))).collect();
        map.insert("anyOf".to_owned(), json!([choice, {"type": "string", "pattern": VARIABLE}]));
    }
}
