//! Names of earlier versions: what a parameter, a choice, a port or a kind of stage was called before. A recipe that uses one
//! gets an error that says the new name, and is checked further as if it had used that.
//!
//! A field or a choice says it in its schema: `#[schemars(extend("x-formerly" = ["optimiser"]))]`. A name without a slash
//! stood where the new one stands; one that begins with a slash is the whole path below `with`, for a parameter that moved:
//! `"/sampling/guidance"`. An input or output says it with `formerly` (see [`crate::port`]), a kind with
//! [`crate::Stage::formerly`].

use crate::choice::{choices, fitting};
use serde_json::{Map, Value};

/// The word of a schema that holds former names.
const FORMERLY: &str = "x-formerly";

/// A name of an earlier version that a recipe uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Former {
    /// Its path below `with`, an index for an item of a list. The last step of a choice that stands as a text, and not as a
    /// map of one name, is that text.
    pub path: Vec<String>,
    /// The path of the parameter that it is now.
    pub now: Vec<String>,
}

/// The former names in the parameters `with` of a kind with this schema: first those that moved, as long as what they stand
/// under has its former name too.
#[must_use]
pub fn former_names(schema: &Value, with: &Value) -> Vec<Former> {
    let mut found: Vec<Former> = Vec::new();
    every_former(schema, &mut Vec::new(), &mut |name, now| {
        let Some(path) = name.strip_prefix('/') else { return };
        let path: Vec<String> = path.split('/').map(ToOwned::to_owned).collect();
        if is_set(with, &path) && !is_known(schema, &path) {
            found.push(Former { path, now: now.to_vec() });
        }
    });
    in_place(schema, with, &mut Vec::new(), &mut found);
    found
}

/// `with` with the value at a former name under its new one. A value that stands under the new name already stays, and the
/// former one is left out.
#[must_use]
pub fn under_new_name(with: &Value, former: &Former) -> Value {
    let mut with = with.clone();
    let (Some((old, before)), Some((new, target))) = (former.path.split_last(), former.now.split_last()) else {
        return with;
    };
    let Some(parent) = at_mut(&mut with, before, false) else { return with };
    let taken = match parent {
        // A choice without parameters is a text.
        Value::String(text) if text == old => {
            *text = new.clone();
            return with;
        }
        Value::Object(map) => map.remove(old),
        _ => None,
    };
    // Maps of former names are empty once all has moved out of them.
    for depth in (1..=before.len()).rev() {
        let Some((name, above)) = before[..depth].split_last() else { break };
        match at_mut(&mut with, above, false) {
            Some(Value::Object(map)) if map.get(name).is_some_and(|v| v.as_object().is_some_and(Map::is_empty)) => {
                map.remove(name);
            }
            _ => break,
        }
    }
    if let (Some(taken), Some(Value::Object(map))) = (taken, at_mut(&mut with, target, true)) {
        map.entry(new.clone()).or_insert(taken);
    }
    with
}

/// Every former name of a schema (as its `x-formerly` says it) with the path of what it is now. Names in maps of the user's
/// own names, and items of lists, have no path of their own: their step is `*`.
pub fn every_former(schema: &Value, path: &mut Vec<String>, found: &mut impl FnMut(&str, &[String])) {
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        path.push(name.clone());
        for old in said(inner) {
            found(old, path);
        }
        every_former(inner, path, found);
        path.pop();
    }
    for (inner, step) in [(&schema["items"], "*"), (&schema["additionalProperties"], "*")] {
        if inner.is_object() {
            path.push(step.to_owned());
            every_former(inner, path, found);
            path.pop();
        }
    }
    for choice in choices(schema) {
        if let Some(name) = name_of(choice) {
            path.push(name.to_owned());
            for old in said(choice) {
                found(old, path);
            }
            path.pop();
        }
        every_former(choice, path, found);
    }
}

/// The former names that a schema says of itself.
fn said(schema: &Value) -> impl Iterator<Item = &str> {
    schema[FORMERLY].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The name of a choice: the only one in its map, or the text that it is.
fn name_of(choice: &Value) -> Option<&str> {
    let only = choice["properties"].as_object().filter(|p| p.len() == 1).and_then(|p| p.keys().next());
    only.map(String::as_str).or_else(|| choice["const"].as_str())
}

/// The current name of what was called `old` in a place of this schema.
fn current<'s>(schema: &'s Value, old: &str) -> Option<&'s str> {
    let field = schema["properties"].as_object().into_iter().flatten();
    let field = field.filter(|(_, inner)| said(inner).any(|name| name == old)).map(|(name, _)| name.as_str()).next();
    field.or_else(|| {
        let of = |choice: &'s Value| match said(choice).any(|name| name == old) {
            true => name_of(choice),
            false => current(choice, old),
        };
        choices(schema).find_map(of)
    })
}

/// Whether a place of this schema takes `name` as it is.
fn takes(schema: &Value, name: &str) -> bool {
    !schema["properties"][name].is_null()
        || schema["additionalProperties"].is_object()
        || schema["const"] == *name
        || schema["enum"].as_array().is_some_and(|all| all.iter().any(|one| one == name))
        || choices(schema).any(|choice| takes(choice, name))
}

fn in_place(schema: &Value, value: &Value, path: &mut Vec<String>, found: &mut Vec<Former>) {
    let note = |name: &str, path: &[String], found: &mut Vec<Former>| -> Option<String> {
        let now = current(schema, name).filter(|_| !takes(schema, name))?;
        let at = |last: &str| path.iter().cloned().chain([last.to_owned()]).collect();
        let one = Former { path: at(name), now: at(now) };
        if !found.iter().any(|f| f.path == one.path) {
            found.push(one);
        }
        Some(now.to_owned())
    };
    match value {
        Value::String(text) => drop(note(text, path, found)),
        Value::Object(map) => {
            for (name, inner) in map {
                let now = note(name, path, found).unwrap_or_else(|| name.clone());
                path.push(name.clone());
                if let Some(own) = below(schema, &now) {
                    in_place(own, inner, path, found);
                }
                path.pop();
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                path.push(at.to_string());
                in_place(&schema["items"], item, path, found);
                path.pop();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    // `Option` of a type is a choice as well.
    for choice in fitting(schema, value).filter(|choice| name_of(choice).is_none()) {
        in_place(choice, value, path, found);
    }
}

/// The schema of what stands under `name`.
fn below<'s>(schema: &'s Value, name: &str) -> Option<&'s Value> {
    let own = [&schema["properties"][name], &schema["additionalProperties"]].into_iter().find(|s| s.is_object());
    own.or_else(|| choices(schema).find_map(|choice| Some(&choice["properties"][name]).filter(|s| s.is_object())))
}

fn is_known(schema: &Value, path: &[String]) -> bool {
    path.iter().try_fold(schema, |schema, step| below(schema, step)).is_some()
}

fn is_set(with: &Value, path: &[String]) -> bool {
    path.iter().try_fold(with, |value, step| value.get(step)).is_some()
}

/// The value at a path. Maps that are not there are made, if so wished.
fn at_mut<'v>(value: &'v mut Value, path: &[String], make: bool) -> Option<&'v mut Value> {
    let Some((step, rest)) = path.split_first() else { return Some(value) };
    let next = match value {
        Value::Object(map) => {
            if make && !map.contains_key(step) {
                map.insert(step.clone(), Value::Object(Map::new()));
            }
            map.get_mut(step)?
        }
        Value::Array(items) => items.get_mut(step.parse::<usize>().ok()?)?,
        _ => return None,
    };
    at_mut(next, rest, make)
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemars::JsonSchema;
    use schemars::generate::SchemaSettings;
    use serde_json::json;

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct Params {
        #[schemars(extend("x-formerly" = ["optimiser", "optim"]))]
        optimizer: Optimizer,
        #[schemars(extend("x-formerly" = ["/optimiser/pace", "/pace"]))]
        lr_schedule: Option<Schedule>,
        all: Vec<Optimizer>,
        by_name: std::collections::BTreeMap<String, Optimizer>,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct Optimizer {
        #[schemars(extend("x-formerly" = ["rate"]))]
        lr: f64,
    }

    #[derive(JsonSchema)]
    #[schemars(rename_all = "snake_case")]
    #[allow(dead_code)]
    enum Schedule {
        /// By a line.
        #[schemars(extend("x-formerly" = ["line"]))]
        Linear {
            #[schemars(extend("x-formerly" = ["end"]))]
            until: u32,
        },
        /// Not at all.
        #[schemars(extend("x-formerly" = ["flat"]))]
        Constant,
    }

    fn schema() -> Value {
        let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
        settings.into_generator().into_root_schema_for::<Params>().into()
    }

    fn found(with: Value) -> Vec<String> {
        let found = former_names(&schema(), &with);
        found.iter().map(|f| format!("{} -> {}", f.path.join("."), f.now.join("."))).collect()
    }

    #[test]
    fn former_names_are_found_where_they_stood() {
        assert_eq!(found(json!({"optimiser": {"lr": 1}})), ["optimiser -> optimizer"]);
        assert_eq!(
            found(json!({"optim": {"rate": 1}})),
            ["optim -> optimizer", "optim.rate -> optim.lr"],
            "below a former name the names count as well"
        );
        assert_eq!(found(json!({"all": [{"lr": 1}, {"rate": 1}]})), ["all.1.rate -> all.1.lr"]);
        assert_eq!(found(json!({"by_name": {"rate": {"rate": 1}}})), ["by_name.rate.rate -> by_name.rate.lr"]);
        assert_eq!(found(json!({"lr_schedule": "flat"})), ["lr_schedule.flat -> lr_schedule.constant"]);
        assert_eq!(
            found(json!({"lr_schedule": {"line": {"end": 3}}})),
            ["lr_schedule.line -> lr_schedule.linear", "lr_schedule.line.end -> lr_schedule.line.until"]
        );
        assert_eq!(found(json!({"pace": "constant"})), ["pace -> lr_schedule"]);
        assert_eq!(found(json!({"optimizer": {"pace": 1}})), Vec::<String>::new(), "nothing was ever called so there");
        assert_eq!(
            found(json!({"rate": 1, "lr_schedule": "linear", "optimizer": {"lr": "rate"}})),
            Vec::<String>::new()
        );
        assert_eq!(found(json!(null)), Vec::<String>::new());
    }

    #[test]
    fn values_go_under_their_new_names() {
        let renewed = |with: Value| {
            let mut with = with;
            for _ in 0..9 {
                let Some(first) = former_names(&schema(), &with).into_iter().next() else { break };
                with = under_new_name(&with, &first);
            }
            with
        };
        assert_eq!(renewed(json!({"optimiser": {"rate": 2}})), json!({"optimizer": {"lr": 2}}));
        assert_eq!(
            renewed(json!({"optimiser": {"pace": {"line": {"end": 3}}}})),
            json!({"lr_schedule": {"linear": {"until": 3}}})
        );
        assert_eq!(renewed(json!({"lr_schedule": "flat"})), json!({"lr_schedule": "constant"}));
        assert_eq!(renewed(json!({"optimiser": 1, "optimizer": 2})), json!({"optimizer": 2}), "the new one stays");
        let mine = json!({"optimizer": {"lr": 1}, "all": [], "other": 3});
        assert_eq!(renewed(mine.clone()), mine);
    }

    #[test]
    fn every_former_name_has_its_new_path() {
        let mut all = Vec::new();
        every_former(&schema(), &mut Vec::new(), &mut |old, now| all.push(format!("{old} -> {}", now.join("."))));
        all.sort();
        assert_eq!(
            all,
            [
                "/optimiser/pace -> lr_schedule",
                "/pace -> lr_schedule",
                "end -> lr_schedule.linear.until",
                "flat -> lr_schedule.constant",
                "line -> lr_schedule.linear",
                "optim -> optimizer",
                "optimiser -> optimizer",
                "rate -> all.*.lr",
                "rate -> by_name.*.lr",
                "rate -> optimizer.lr",
            ]
        );
    }
}
