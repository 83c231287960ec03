//! Every number that a recipe can hold has a range, stated in the schema of its kind, and `check` holds it to that range.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

use opdflow_api::Kind;
use opdflow_api::range::{Range, faults};
use serde_json::{Map, Value, json};

/// A number somewhere in a schema: the way to it as messages have it, its range, and a value of the whole with `number` in
/// its place.
struct Place {
    path: String,
    range: Range,
    with: Box<dyn Fn(Value) -> Value>,
}

/// All numbers of a schema.
fn numbers(schema: &Value) -> Vec<Place> {
    let mut found = Vec::new();
    if let Some(range) = Range::of(schema) {
        found.push(Place { path: String::new(), range, with: Box::new(|number| number) });
    }
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let needed = |but: &str| -> Map<String, Value> {
        let names = required.iter().filter_map(Value::as_str).filter(|name| *name != but);
        names.map(|name| (name.to_owned(), some(&schema["properties"][name]))).collect()
    };
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        found.extend(numbers(inner).into_iter().map(|place| {
            let (rest, own) = (needed(name), name.clone());
            below(name, place, move |value| {
                let mut map = rest.clone();
                map.insert(own.clone(), value);
                Value::Object(map)
            })
        }));
    }
    if let Some(inner) = schema.get("additionalProperties").filter(|inner| inner.is_object()) {
        found.extend(numbers(inner).into_iter().map(|place| below("any", place, |value| json!({"any": value}))));
    }
    if let Some(inner) = schema.get("items") {
        let least = schema["minItems"].as_u64().unwrap_or(1) as usize;
        found.extend(numbers(inner).into_iter().map(|place| {
            let rest = vec![some(inner); least.saturating_sub(1)];
            below("[0]", place, move |value| [vec![value], rest.clone()].concat().into())
        }));
    }
    for word in ["oneOf", "anyOf"] {
        for choice in schema[word].as_array().into_iter().flatten() {
            found.extend(numbers(choice));
        }
    }
    found
}

fn below(step: &str, place: Place, wrap: impl Fn(Value) -> Value + 'static) -> Place {
    let path = match (step, place.path.as_str()) {
        (step, "") => step.to_owned(),
        (step, rest) if rest.starts_with('[') => format!("{step}{rest}"),
        (step, rest) => format!("{step}.{rest}"),
    };
    let inner = place.with;
    Place { path, range: place.range, with: Box::new(move |number| wrap(inner(number))) }
}

/// A value that fits a schema.
fn some(schema: &Value) -> Value {
    if let Some(range) = Range::of(schema) {
        return inside(&range).remove(0);
    }
    for word in ["oneOf", "anyOf"] {
        if let Some(first) = schema[word].as_array().and_then(|all| all.first()) {
            return some(first);
        }
    }
    if let Some(word) = schema.get("const").or_else(|| schema["enum"].get(0)) {
        return word.clone();
    }
    match schema["type"].as_str() {
        Some("object") => {
            let names = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let mut map: Map<String, Value> =
                names.map(|name| (name.to_owned(), some(&schema["properties"][name]))).collect();
            if schema["minProperties"].as_u64().is_some() {
                map.insert("any".to_owned(), some(&schema["additionalProperties"]));
            }
            map.into()
        }
        Some("array") => vec![some(&schema["items"]); schema["minItems"].as_u64().unwrap_or(0) as usize].into(),
        Some("string") => "x".into(),
        Some("boolean") => true.into(),
        _ => Value::Null,
    }
}

fn step(at: &Value, whole: bool, up: bool) -> Option<Value> {
    if whole {
        let n = at.as_i64().map(i128::from).or_else(|| at.as_u64().map(i128::from)).expect("a whole bound");
        let next = n + if up { 1 } else { -1 };
        return u64::try_from(next).map(Value::from).or_else(|_| i64::try_from(next).map(Value::from)).ok();
    }
    let x = at.as_f64().expect("a bound");
    Some(json!(if up { x.next_up() } else { x.next_down() }))
}

/// Numbers just inside both ends.
fn inside(range: &Range) -> Vec<Value> {
    let ends = [(&range.low, true), (&range.high, false)].into_iter();
    ends.filter_map(|(end, up)| {
        let end = end.as_ref()?;
        let at = Value::Number(end.at.clone());
        if end.open { step(&at, range.whole, up) } else { Some(at) }
    })
    .collect()
}

/// Numbers just outside both ends, and far outside.
fn outside(range: &Range) -> Vec<Value> {
    let ends = [(&range.low, false), (&range.high, true)].into_iter();
    let near = ends.filter_map(|(end, up)| {
        let end = end.as_ref()?;
        let at = Value::Number(end.at.clone());
        if end.open { Some(at) } else { step(&at, range.whole, up) }
    });
    let far = if range.whole { [json!(-1_i64 << 62), json!(i64::MAX)] } else { [json!(-1e308), json!(1e308)] };
    near.chain(far.into_iter().filter(|n| n.as_number().is_some_and(|n| !range.holds(n)))).collect()
}

#[test]
fn every_number_has_both_bounds() {
    let mut count = 0;
    for kind in opdflow_kinds::registry().kinds() {
        for Place { path, range, .. } in numbers(&kind.schema()) {
            let name = format!("{path} of {}", kind.describe().kind);
            assert!(range.low.is_some() && range.high.is_some(), "{name} is any {range}");
            let ends = [&range.low, &range.high].map(|end| end.as_ref().unwrap().at.as_f64().unwrap());
            assert!(ends[0] < ends[1], "{name} is no {range}");
            count += 1;
        }
    }
    assert!(count > 150, "only {count} numbers were found");
}

/// What `normalise` says of the parameter at `path`.
fn said(kind: &dyn Kind, value: &Value, path: &str) -> Option<String> {
    let found = kind.normalise(value).err()?;
    found.into_iter().find(|f| f.path == path).map(|f| f.message)
}

#[test]
fn the_check_holds_numbers_to_their_ranges() {
    for kind in opdflow_kinds::registry().kinds() {
        let about = kind.describe();
        for place in numbers(&kind.schema()) {
            let name = format!("{} of {}", place.path, about.kind);
            for number in inside(&place.range) {
                let value = (place.with)(number.clone());
                let found = faults(&kind.schema(), &value);
                assert!(found.is_empty(), "{name}, {number}: {found:?}");
                let refused = said(kind.as_ref(), &value, &place.path);
                let expected = format!("expected a {}", place.range);
                assert!(refused.is_none_or(|why| !why.contains(&expected)), "{name}, {number}");
            }
            for number in outside(&place.range) {
                let value = (place.with)(number.clone());
                let why = said(kind.as_ref(), &value, &place.path).unwrap_or_else(|| panic!("{name} may be {number}"));
                // A type that has no room for the number says so itself.
                let fits = why.contains(&format!("expected a {}", place.range)) || why.starts_with("found `");
                assert!(fits, "{name}, {number}: {why}");
            }
        }
    }
}

/// What a stage has where nothing is written lies in the ranges too.
#[test]
fn defaults_are_in_range() {
    for kind in opdflow_kinds::registry().kinds() {
        let schema = kind.schema();
        let whole = kind.normalise(&some(&schema)).unwrap_or_else(|_| some(&schema));
        assert_eq!(faults(&schema, &whole), [], "{}", kind.describe().kind);
        fn defaults(schema: &Value, found: &mut Vec<(Value, Value)>) {
            if let Some(default) = schema.get("default") {
                found.push((schema.clone(), default.clone()));
            }
            match schema {
                Value::Object(map) => map.values().for_each(|v| defaults(v, found)),
                Value::Array(all) => all.iter().for_each(|v| defaults(v, found)),
                _ => {}
            }
        }
        let mut all = Vec::new();
        defaults(&schema, &mut all);
        for (schema, default) in all {
            assert_eq!(faults(&schema, &default), [], "{}: {default}", kind.describe().kind);
        }
    }
}
