//! What is generated from the stage kinds is current, and the schema says of recipes what `check` says, as far as a
//! schema can. `OPDFLOW_GOLDEN=write cargo test --test schema` writes both files anew.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

use opdflow::recipe::reference::params;
use opdflow::recipe::schema::schema;
use opdflow::report::kinds::markdown;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn current(file: &str, text: &str) {
    let path = root().join(file);
    if std::env::var_os("OPDFLOW_GOLDEN").is_some_and(|v| v == "write") {
        std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "{file} is not current: OPDFLOW_GOLDEN=write cargo test --test schema");
}

#[test]
fn the_schema_is_current() {
    current("recipes/schema/recipe.schema.json", &format!("{:#}\n", schema(&opdflow_kinds::registry())));
}

#[test]
fn the_reference_is_current() {
    let registry = opdflow_kinds::registry();
    current("docs/reference/recipe.md", &markdown(registry.kinds().map(AsRef::as_ref)));
}

#[test]
fn every_parameter_is_documented_and_nothing_else() {
    for kind in opdflow_kinds::registry().kinds() {
        let about = kind.describe();
        let schema = kind.schema();
        let mut typed: Vec<&String> = schema["properties"].as_object().into_iter().flat_map(|p| p.keys()).collect();
        let mut listed = kind.fields().to_vec();
        typed.sort();
        listed.sort_unstable();
        assert_eq!(typed, listed, "{}", about.kind);
        assert_eq!(schema["additionalProperties"], false, "{}", about.kind);
        for param in params(kind.as_ref()) {
            assert!(!param.takes.contains("value"), "{}: nothing is known of {}", about.kind, param.name);
            assert!(!param.about.is_empty(), "{}: nothing is said of {}", about.kind, param.name);
        }
    }
}

/// The defaults of the reference are those that a recipe gets.
#[test]
fn defaults_are_true() {
    for kind in opdflow_kinds::registry().kinds() {
        let Ok(filled) = kind.normalise(&Value::Null) else { continue };
        let listed = params(kind.as_ref()).into_iter().filter(|p| !p.name.contains(['.', '[', ':']));
        for param in listed {
            let filled = &filled[&param.name];
            let default = param.default.unwrap_or(Value::Null);
            assert_eq!(&default, filled, "{} of {}", param.name, kind.describe().kind);
        }
    }
}

fn recipes(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(recipes(&path));
        } else if path.to_string_lossy().ends_with(".yaml") && !path.to_string_lossy().ends_with(".vars.yaml") {
            found.push(path);
        }
    }
    found
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

#[test]
fn shipped_recipes_fit_and_name_the_schema() {
    let schema = schema(&opdflow_kinds::registry());
    let all = recipes(&root().join("recipes"));
    assert!(all.len() > 2);
    for path in all {
        let text = std::fs::read_to_string(&path).unwrap();
        let faults = faults(&schema, &schema, &yaml(&text), "");
        assert!(faults.is_empty(), "{}: {faults:#?}", path.display());
        let first = text.lines().next().unwrap();
        let named = first.strip_prefix("# yaml-language-server: $schema=").expect("the line that editors look for");
        assert!(path.parent().unwrap().join(named).exists(), "{}: {first}", path.display());
    }
}

#[test]
fn mistakes_do_not_fit() {
    let schema = schema(&opdflow_kinds::registry());
    let recipe = |stage: &str| yaml(&format!("opdflow: 1\nname: x\nstages:\n  a: {stage}\n"));
    for (stage, fits) in [
        ("{uses: base_model, with: {source: x}}", true),
        ("{uses: base_model, with: {source: \"${x}\"}}", true),
        ("{uses: base_model, with: {source: x}, seed: \"${x}\"}", true),
        ("{uses: base_modle}", false),
        ("{with: {source: x}}", false),
        ("{uses: base_model, with: {sauce: x}}", false),
        ("{uses: base_model, with: {source: 3}}", false),
        ("{uses: base_model, needs: {base: b.model}}", false),
        ("{uses: distill}", false),
        ("{uses: distill, needs: {base: b.m, teachers: {a: t.l}, prompts: p.t}, with: {rounds: 3}}", true),
        ("{uses: distill, needs: {base: b, teachers: {a: t.l}, prompts: p.t}}", false),
        ("{uses: distill, needs: {base: b.m, teachers: {a: t.l}, prompts: p.t}, with: {rounds: -1}}", false),
        ("{uses: distill, needs: {base: b.m, teachers: {a: t.l}, prompts: p.t}, with: {rounds: \"${n}\"}}", true),
        ("{uses: distill, needs: {base: b.m, teachers: {a: t.l}, prompts: p.t}, with: {rounds: many}}", false),
        (
            "{uses: distill, needs: {base: b.m, teachers: {a: t.l}, prompts: p.t}, with: {rollout: {solver: {flow: {noise_level: 0.5}}}}}",
            true,
        ),
        (
            "{uses: distill, needs: {base: b.m, teachers: {a: t.l}, prompts: p.t}, with: {rollout: {solver: {flaw: {noise_level: 0.5}}}}}",
            false,
        ),
        ("{uses: distill, needs: {base: b.m, teachers: {a: t.l}, prompts: p.t}, matrix: {n: [1, 2]}}", true),
        ("{uses: distill, needs: {base: b.m, teachers: {a: t.l}, prompts: p.t}, matrix: {n: 1}}", false),
        ("{uses: train_teacher, needs: {base: b.m}, with: {algorithm: grpo_guard, iterations: 3}}", true),
        (
            "{uses: train_teacher, needs: {base: b.m}, with: {algorithm: {grpo_guard: {solver: cps}}, iterations: 3}}",
            false,
        ),
        ("{uses: train_teacher, needs: {base: b.m}, with: {algorithm: grpo_gard, iterations: 3}}", false),
        ("{uses: train_teacher, needs: {base: b.m}, with: {optimizer: {lr: 0}}}", false),
        ("{uses: train_teacher, needs: {base: b.m}, with: {optimizer: {beta2: 1}}}", false),
        (
            "{uses: train_teacher, needs: {base: b.m}, with: {optimizer: {lr: \"${lr}\", max_grad_norm: 1.0e308}}}",
            false,
        ),
        ("{uses: train_teacher, needs: {base: b.m}, with: {optimizer: {lr: \"${lr}\", max_grad_norm: 1.0}}}", true),
        ("{uses: distill, needs: {base: b.m, teachers: \"${t}\", prompts: p.t}, matrix: {n: {a: {x: 1}}}}", true),
        (
            "{uses: distill, needs: {base: \"${matrix.n}.m\", teachers: {matrix: {n: [a]}, \"${matrix.n}\": \"t[n=${matrix.n}].l\"}, prompts: p.t}, with: \"${w}\"}",
            true,
        ),
        ("{uses: table, needs: {scores: {a: b.c}}, with: {columns: [x, {matrix: {n: [1]}, value: y}]}}", true),
        ("{uses: table, needs: {scores: {a: b.c}}, with: {rows: [{matrix: {n: [1]}, scores: a, title: b}]}}", true),
        ("{uses: table, needs: {scores: {a: b.c}}, with: {rows: [{matrx: {n: [1]}, scores: a, title: b}]}}", false),
        ("{uses: prompts, with: {task: ocr}}", true),
        ("{uses: prompts, with: {task: orc}}", false),
        ("{uses: prompts, resources: {cpus: 0}}", false),
    ] {
        let found = faults(&schema, &schema, &recipe(stage), "");
        assert_eq!(found.is_empty(), fits, "{stage}: {found:#?}");
    }
    let top = |text: &str| faults(&schema, &schema, &yaml(text), "").is_empty();
    assert!(!top("{opdflow: 2, name: x, stages: {}}"));
    for (include, fits) in [
        ("a.yaml", true),
        ("[a.yaml, {recipe: b.yaml, stages: [c]}]", true),
        ("{stages: [c]}", false),
        ("{recipe: b.yaml, stage: [c]}", false),
    ] {
        assert_eq!(top(&format!("{{opdflow: 1, name: x, include: {include}}}")), fits, "{include}");
    }
}

/// What is wrong with `value` by the words of JSON Schema that ours uses. Any other word is a failure of the test.
fn faults(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let Some(words) = schema.as_object() else {
        return if *schema == json!(false) { vec![format!("{at}: not known here")] } else { Vec::new() };
    };
    let mut found = Vec::new();
    let fits = |schema: &Value| faults(root, schema, value, at).is_empty();
    let mut need = |holds: bool, what: String| {
        if !holds {
            found.push(format!("{at}: {what}"));
        }
    };
    let no_names = serde_json::Map::new();
    let map = value.as_object().unwrap_or(&no_names);
    let mut inner = Vec::new();
    for (word, says) in words {
        match word.as_str() {
            "$schema" | "$defs" | "title" | "description" | "default" => {}
            "properties" | "additionalProperties" | "then" => {}
            "$ref" => {
                let way = says.as_str().unwrap().strip_prefix('#').unwrap();
                inner.extend(faults(root, root.pointer(way).unwrap(), value, at));
            }
            "type" => {
                let types: Vec<&str> = match says {
                    Value::Array(all) => all.iter().map(|t| t.as_str().unwrap()).collect(),
                    one => vec![one.as_str().unwrap()],
                };
                let is = |t: &&str| match *t {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    "number" => value.is_number(),
                    "integer" => value.is_i64() || value.is_u64(),
                    other => panic!("the type `{other}`"),
                };
                need(types.iter().any(is), format!("{value} is no {says}"));
            }
            "const" => need(value == says, format!("{value} is not {says}")),
            "enum" => need(says.as_array().unwrap().contains(value), format!("{value} is not among {says}")),
            "minimum" => need(value.as_f64() >= says.as_f64() || !value.is_number(), format!("{value} < {says}")),
            "maximum" => need(value.as_f64() <= says.as_f64() || !value.is_number(), format!("{value} > {says}")),
            "exclusiveMinimum" => {
                need(value.as_f64() > says.as_f64() || !value.is_number(), format!("{value} <= {says}"))
            }
            "exclusiveMaximum" => {
                need(value.as_f64() < says.as_f64() || !value.is_number(), format!("{value} >= {says}"))
            }
            "maxItems" => need(value.as_array().is_none_or(|v| v.len() as u64 <= says.as_u64().unwrap()), word.clone()),
            "minLength" => need(value.as_str().is_none_or(|t| t.len() as u64 >= says.as_u64().unwrap()), word.clone()),
            "minItems" => need(value.as_array().is_none_or(|v| v.len() as u64 >= says.as_u64().unwrap()), word.clone()),
            "minProperties" => {
                need(value.as_object().is_none_or(|v| v.len() as u64 >= says.as_u64().unwrap()), word.clone());
            }
            "pattern" => {
                let pattern = regex::Regex::new(says.as_str().unwrap()).unwrap();
                need(value.as_str().is_none_or(|t| pattern.is_match(t)), format!("{value} is not like {says}"));
            }
            "propertyNames" => {
                for name in map.keys() {
                    inner.extend(faults(root, says, &json!(name), &format!("{at}/{name}")));
                }
            }
            "required" => {
                for name in says.as_array().unwrap() {
                    need(map.contains_key(name.as_str().unwrap()) || !value.is_object(), format!("{name} is missing"));
                }
            }
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    inner.extend(faults(root, says, item, &format!("{at}/{i}")));
                }
            }
            "anyOf" => need(says.as_array().unwrap().iter().any(fits), format!("{value} fits no choice")),
            "allOf" => says.as_array().unwrap().iter().for_each(|s| inner.extend(faults(root, s, value, at))),
            "if" => {
                if fits(says) {
                    inner.extend(faults(root, &words["then"], value, at));
                }
            }
            other => panic!("the schema uses `{other}`, which this test does not know"),
        }
    }
    let known = words.get("properties").and_then(Value::as_object).unwrap_or(&no_names);
    for (name, value) in map {
        let at = format!("{at}/{name}");
        if let Some(says) = known.get(name).or_else(|| words.get("additionalProperties")) {
            inner.extend(faults(root, says, value, &at));
        }
    }
    found.extend(inner);
    found
}
