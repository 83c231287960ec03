//! Taking maps and plain values apart, with a word for everything that does not fit.

use crate::recipe::text::near::hint;
use crate::recipe::text::size::size;
use crate::recipe::text::tree::{Data, Entry, Node, SetAt, shown};
use crate::recipe::{Diagnostic, Span};
use serde_json::Value;

/// What recipes of other tools have and ours do not, with the way out.
const ELSEWHERE: [(&str, &str); 9] = [
    ("matrix", "a matrix belongs to one stage: write it beside `uses`"),
    ("extends", "take the stages of another recipe with `include`, and set its `vars` here"),
    ("include", "`include` stands at the top of a recipe, beside `stages`"),
    ("params", "parameters stand under `with`"),
    ("inputs", "inputs stand under `needs`"),
    (
        "gpu",
        "leave it out: a kind that can use a GPU takes one when the machine has one; `resources: {gpus: N}` gives it several",
    ),
    ("gpus", "it stands below `resources`; a kind that can use a GPU takes one without being told"),
    ("memory", "leave it out: a kind says itself what it needs"),
    ("kind", "the kind of a stage stands after `uses`"),
];

/// Checks that `node` is a map with no names but `known`. `what` says whose map it is.
pub(crate) fn map<'n>(node: &'n Node, what: &str, known: &[&str], faults: &mut Vec<Diagnostic>) -> Option<&'n Node> {
    map_with(node, what, known, &ELSEWHERE, faults)
}

/// The same where other names than those of a recipe are known to be written by mistake, each with the way out.
pub(crate) fn map_with<'n>(
    node: &'n Node,
    what: &str,
    known: &[&str],
    elsewhere: &[(&str, &str)],
    faults: &mut Vec<Diagnostic>,
) -> Option<&'n Node> {
    any_map(node, what, faults)?;
    for entry in node.entries().iter().filter(|e| !known.contains(&e.key.as_str()) && e.key != "<<") {
        let elsewhere = elsewhere.iter().find(|(name, _)| *name == entry.key);
        let (code, title) = match entry.key.as_str() {
            name @ "extends" => ("E015", format!("`{name}` is not supported")),
            name => ("E010", format!("{what} has no {}", shown(name))),
        };
        let help = elsewhere.map(|(_, help)| (*help).to_owned()).or_else(|| hint(&entry.key, known.iter().copied()));
        faults.push(Diagnostic::error(code, title, entry.key_span.clone(), "not known here").maybe_help(help));
    }
    Some(node)
}

/// Checks that `node` is a map, of whatever names.
pub(crate) fn any_map<'n>(node: &'n Node, what: &str, faults: &mut Vec<Diagnostic>) -> Option<&'n Node> {
    match &node.data {
        Data::Map(_) => Some(node),
        Data::Unknown => None,
        _ => {
            faults.push(wrong(node, what, "a map"));
            None
        }
    }
}

/// The value as text.
pub(crate) fn text(entry: &Entry, faults: &mut Vec<Diagnostic>) -> Option<String> {
    match &entry.value.data {
        Data::Scalar(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        // A name such as 2026 is meant as text.
        Data::Scalar(value @ Value::Number(_)) => Some(value.to_string()),
        Data::Unknown => None,
        _ => {
            faults.push(wrong(&entry.value, &shown(&entry.key), "a text"));
            None
        }
    }
}

/// The value as a whole number from `least`.
pub(crate) fn whole(entry: &Entry, least: u64, faults: &mut Vec<Diagnostic>) -> Option<u64> {
    match &entry.value.data {
        Data::Scalar(value) if value.as_u64().is_some_and(|n| n >= least) => value.as_u64(),
        Data::Unknown => None,
        _ => {
            faults.push(wrong(&entry.value, &shown(&entry.key), &format!("a whole number from {least}")));
            None
        }
    }
}

/// The value as a size in bytes, such as `16G`.
pub(crate) fn bytes(entry: &Entry, faults: &mut Vec<Diagnostic>) -> Option<u64> {
    let found = match &entry.value.data {
        Data::Scalar(Value::String(text)) => size(text),
        Data::Scalar(value) => value.as_u64(),
        Data::Unknown => return None,
        _ => None,
    };
    let found = found.filter(|bytes| *bytes > 0);
    if found.is_none() {
        faults.push(wrong(&entry.value, &shown(&entry.key), "a size, such as `16G`"));
    }
    found
}

/// The fault of a value that is of another type.
pub(crate) fn wrong(node: &Node, what: &str, expected: &str) -> Diagnostic {
    let label = format!("found {}, expected {expected}", node.found());
    with_origin(Diagnostic::error("E012", format!("{what} must be {expected}"), node.span.clone(), label), node)
}

/// Says where a value came from, if it came from a variable.
pub(crate) fn with_origin(found: Diagnostic, node: &Node) -> Diagnostic {
    match &node.var {
        Some(var) => match &var.set {
            SetAt::Recipe(span) if *span != node.span => {
                found.also(span.clone(), format!("`{}` gets its value here", var.name))
            }
            SetAt::Recipe(_) => found,
            SetAt::Outside(from) => {
                let said = format!("the value comes from `{from}`");
                let help = found.help.as_ref().map_or(said.clone(), |help| format!("{help}; {said}"));
                found.help(help)
            }
        },
        None => found,
    }
}

/// The fault of a name that is missing from a map.
pub(crate) fn missing(what: &str, name: &str, span: Span, help: impl Into<String>) -> Diagnostic {
    Diagnostic::error("E011", format!("{what} lacks `{name}`"), span, format!("`{name}` is missing")).help(help)
}
