//! Ranges of numbers and sizes of lists, held against a value. They are stated once, where a parameter's field is
//! declared, as words of JSON Schema; the check of a recipe, the reference and the schema that editors use all read them
//! from there.

use crate::choice::{self, fitting};
use crate::param::{ParamFault, below};
use serde_json::{Number, Value};
use std::cmp::Ordering;
use std::fmt;

/// One end of a range.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// The number.
    pub at: Number,
    /// Whether the number itself lies outside.
    pub open: bool,
}

/// The numbers that a parameter takes. Its words go into messages and the reference: `whole number from 1 to 9`,
/// `number above 0, at most 10`.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    /// Whether only whole numbers are meant.
    pub whole: bool,
    /// The lower end, if there is one.
    pub low: Option<End>,
    /// The upper end, if there is one.
    pub high: Option<End>,
}

impl Range {
    /// The range that a schema states, if it is that of a number.
    #[must_use]
    pub fn of(schema: &Value) -> Option<Self> {
        let is = |wanted: &str| match &schema["type"] {
            Value::String(one) => one == wanted,
            Value::Array(several) => several.iter().any(|t| t == wanted),
            _ => false,
        };
        let whole = is("integer");
        if !whole && !is("number") {
            return None;
        }
        let end = |closed: &str, open: &str| {
            let of = |word: &str, open| Some(End { at: schema[word].as_number()?.clone(), open });
            of(open, true).or_else(|| of(closed, false))
        };
        Some(Self { whole, low: end("minimum", "exclusiveMinimum"), high: end("maximum", "exclusiveMaximum") })
    }

    /// Whether the number lies in it. Whole numbers are compared exactly.
    #[must_use]
    pub fn holds(&self, number: &Number) -> bool {
        let above = self.low.as_ref().is_none_or(|end| match compare(number, &end.at) {
            Ordering::Greater => true,
            Ordering::Equal => !end.open,
            Ordering::Less => false,
        });
        let below = self.high.as_ref().is_none_or(|end| match compare(number, &end.at) {
            Ordering::Less => true,
            Ordering::Equal => !end.open,
            Ordering::Greater => false,
        });
        above && below
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.whole { "whole number" } else { "number" })?;
        match (&self.low, &self.high) {
            (None, None) => Ok(()),
            (Some(low), None) => write!(f, " {} {}", if low.open { "above" } else { "from" }, shown(&low.at)),
            (None, Some(high)) => write!(f, " {} {}", if high.open { "below" } else { "up to" }, shown(&high.at)),
            (Some(low), Some(high)) => {
                let (from, to) = (shown(&low.at), shown(&high.at));
                match (low.open, high.open) {
                    (false, false) => write!(f, " from {from} to {to}"),
                    (false, true) => write!(f, " from {from}, below {to}"),
                    (true, false) => write!(f, " above {from}, at most {to}"),
                    (true, true) => write!(f, " above {from} and below {to}"),
                }
            }
        }
    }
}

fn compare(a: &Number, b: &Number) -> Ordering {
    let whole = |n: &Number| n.as_i64().map(i128::from).or_else(|| n.as_u64().map(i128::from));
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        // JSON has no number that is not finite.
        _ => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
    }
}

/// A number as people write it: `10`, `0.5`, `1e-8`.
#[must_use]
pub fn shown(number: &Number) -> String {
    match number.as_f64() {
        Some(x) if number.is_f64() && x.fract() == 0.0 && x.abs() < 1e9 => format!("{x:.0}"),
        Some(x) if number.is_f64() && x != 0.0 && !(1e-4..1e9).contains(&x.abs()) => format!("{x:e}"),
        Some(x) if number.is_f64() => x.to_string(),
        _ => number.to_string(),
    }
}

/// Every number of `value` outside its range, every list that is too short or too long, every empty text where one is
/// called for, and every choice that is named without what it needs. Values of another type than the schema's are passed
/// over: the types themselves refuse them.
#[must_use]
pub fn faults(schema: &Value, value: &Value) -> Vec<ParamFault> {
    let mut found = Vec::new();
    walk(schema, value, "", &mut found);
    found
}

fn walk(schema: &Value, value: &Value, at: &str, found: &mut Vec<ParamFault>) {
    match value {
        Value::Number(number) => {
            if let Some(range) = Range::of(schema).filter(|r| (!r.whole || !number.is_f64()) && !r.holds(number)) {
                found.push(ParamFault::new(at, format!("found {}, expected a {range}", shown(number))));
            }
        }
        Value::Array(items) => {
            size(schema, ("minItems", "maxItems"), items.len(), "in the list", at, found);
            for (i, item) in items.iter().enumerate() {
                walk(&schema["items"], item, &format!("{at}[{i}]"), found);
            }
        }
        Value::Object(map) => {
            size(schema, ("minProperties", "maxProperties"), map.len(), "in the map", at, found);
            for (name, inner) in map {
                let own = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
                walk(own, inner, &below(at, name), found);
            }
        }
        Value::String(text) => {
            if schema["minLength"].as_u64().is_some_and(|least| (text.chars().count() as u64) < least) {
                found.push(ParamFault::new(at, "found an empty text, expected one with letters"));
            }
            found.extend(choice::bare_fault(schema, text, at));
        }
        Value::Null | Value::Bool(_) => {}
    }
    let choices: Vec<&Value> = fitting(schema, value).collect();
    let tried: Vec<Vec<ParamFault>> = choices
        .into_iter()
        .map(|choice| {
            let mut own = Vec::new();
            walk(choice, value, at, &mut own);
            own
        })
        .collect();
    if tried.iter().all(|own| !own.is_empty()) {
        found.extend(tried.into_iter().next().unwrap_or_default());
    }
}

fn size(schema: &Value, words: (&str, &str), there: usize, what: &str, at: &str, found: &mut Vec<ParamFault>) {
    let bound = |word: &str| schema[word].as_u64().and_then(|n| usize::try_from(n).ok());
    let (least, most) = (bound(words.0).unwrap_or(0), bound(words.1).unwrap_or(usize::MAX));
    if !(least..=most).contains(&there) {
        let expected = match (least, most) {
            (least, most) if least == most => least.to_string(),
            (least, usize::MAX) => format!("at least {least}"),
            (least, most) => format!("{least} to {most}"),
        };
        let there = if there == 0 { "nothing".to_owned() } else { there.to_string() };
        found.push(ParamFault::new(at, format!("found {there} {what}, expected {expected}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn words(schema: Value) -> String {
        Range::of(&schema).unwrap().to_string()
    }

    #[test]
    fn ranges_have_words() {
        assert_eq!(words(json!({"type": "integer", "minimum": 1, "maximum": 1000})), "whole number from 1 to 1000");
        assert_eq!(
            words(json!({"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 10.0})),
            "number above 0, at most 10"
        );
        assert_eq!(words(json!({"type": "number", "minimum": 0.0, "exclusiveMaximum": 1})), "number from 0, below 1");
        assert_eq!(
            words(json!({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1e-8})),
            "number above 0 and below 1e-8"
        );
        assert_eq!(words(json!({"type": "integer"})), "whole number");
        assert_eq!(Range::of(&json!({"type": "string"})), None);
    }

    #[test]
    fn bounds_are_exact() {
        let range =
            Range::of(&json!({"type": "integer", "minimum": 0, "maximum": 9_223_372_036_854_775_806_u64})).unwrap();
        let holds = |n: u64| range.holds(&n.into());
        assert!(holds(0) && holds(9_223_372_036_854_775_806) && !holds(9_223_372_036_854_775_807) && !holds(u64::MAX));
        let open = Range::of(&json!({"type": "number", "exclusiveMinimum": 0, "maximum": 1})).unwrap();
        let holds = |x: f64| open.holds(&Number::from_f64(x).unwrap());
        assert!(
            !holds(0.0)
                && !holds(-0.0)
                && !holds(-1e-300)
                && holds(f64::MIN_POSITIVE)
                && holds(1.0)
                && !holds(1.000_001)
        );
    }

    #[test]
    fn every_place_is_walked() {
        let number = json!({"type": "number", "minimum": 0, "maximum": 1});
        let schema = json!({"type": "object", "properties": {
            "a": number,
            "list": {"type": "array", "items": number, "minItems": 1},
            "map": {"type": "object", "additionalProperties": number},
            "choice": {"oneOf": [
                {"type": "object", "properties": {"x": {"type": "object", "properties": {"n": number}}}, "required": ["x"], "additionalProperties": false},
                {"type": "string", "const": "word"},
            ]},
            "maybe": {"anyOf": [{"type": "object", "properties": {"n": number}}, {"type": "null"}]},
        }});
        let at = |value: Value| faults(&schema, &value).into_iter().map(|f| f.path).collect::<Vec<_>>();
        let sound = json!({"a": 1, "list": [0.5], "map": {"k": 0}, "choice": "word", "maybe": null});
        assert!(at(sound).is_empty());
        let wrong = json!({"a": 2, "list": [0, -1], "map": {"k": 3}, "choice": {"x": {"n": 9}}, "maybe": {"n": 1.5}});
        assert_eq!(at(wrong), ["a", "choice.x.n", "list[1]", "map.k", "maybe.n"]);
        assert_eq!(at(json!({"list": []})), ["list"]);
        assert!(at(json!({"a": "two", "choice": 3, "list": {}})).is_empty(), "types are refused elsewhere");
    }
}
