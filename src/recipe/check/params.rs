//! Parameters: `defaults` under `with`, held against the stage kind, each fault at the value that causes it.

use crate::recipe::Diagnostic;
use crate::recipe::spans::{StageSpans, find, steps};
use crate::recipe::text::near::hint;
use crate::recipe::text::shape::with_origin;
use crate::recipe::text::tree::{Data, Entry, Node, shown};
use opdflow_api::{Cause, Former, Kind, Mismatch, ParamFault, Ports, Unreadable, former_names, under_new_name};
use serde_json::Value;

/// `over` laid over `base`: maps name by name, everything else as a whole.
pub(crate) fn merge(base: &Node, over: &Node) -> Node {
    let (Data::Map(below), Data::Map(above)) = (&base.data, &over.data) else { return over.clone() };
    let mut entries: Vec<Entry> = above.clone();
    for entry in below {
        match entries.iter_mut().find(|e| e.key == entry.key) {
            Some(own) => own.value = merge(&entry.value, &own.value),
            None => entries.push(entry.clone()),
        }
    }
    Node { span: over.span.clone(), data: Data::Map(entries), var: over.var.clone() }
}

/// The parameters with defaults filled in, or `None` after everything that is wrong with them went to `faults`.
pub(crate) fn normalise(
    kind: &dyn Kind,
    stage: &str,
    spans: &StageSpans,
    faults: &mut Vec<Diagnostic>,
) -> Option<Value> {
    let mut value = spans.params.as_ref().map_or(Value::Null, Node::json);
    let whole = spans.params.as_ref().is_none_or(sound);
    let mut taken: Vec<Vec<String>> = Vec::new();
    let renamed = new_names(kind, stage, spans, &mut value, faults);
    let ranges = kind.out_of_range(&value);
    faults.extend(ranges.iter().map(|f| diagnostic("E043", stage, spans, f)));
    for _ in 0..64 {
        let found = match kind.normalise(&value) {
            Ok(params) => return (whole && taken.is_empty() && !renamed).then_some(params),
            Err(found) => found,
        };
        match found.as_slice() {
            // Taking out a value that its type refuses shows whether more is wrong.
            [fault @ ParamFault { cause: Cause::Type(mismatch), .. }] => {
                let missing = matches!(mismatch, Mismatch::MissingField { .. });
                let path = place(fault, &value);
                // What we took out ourselves is missing through no fault of the user's.
                let ours = taken.contains(&path) || !whole && missing;
                // Of a number that its type has no room for, the range says more.
                if !ours && !ranges.iter().any(|r| r.path == fault.path) {
                    faults.push(diagnostic("E042", stage, spans, fault));
                }
                if path.is_empty() || missing || !take_out(&mut value, &path) {
                    return None;
                }
                taken.push(path);
            }
            // A default in the place of what was taken out may not fit in ways that nobody wrote.
            _ if taken.is_empty() => {
                let more = found.iter().filter(|f| !ranges.contains(f));
                faults.extend(more.map(|f| diagnostic("E043", stage, spans, f)));
                return None;
            }
            _ => return None,
        }
    }
    None
}

/// Puts what stands under names of earlier versions under the names of now, so that the rest can be checked. Whether there
/// was any; each is a fault.
fn new_names(
    kind: &dyn Kind,
    stage: &str,
    spans: &StageSpans,
    value: &mut Value,
    faults: &mut Vec<Diagnostic>,
) -> bool {
    let schema = kind.schema();
    let mut found = former_names(&schema, value);
    let any = !found.is_empty();
    faults.extend(found.iter().map(|f| renamed(stage, spans, f)));
    // A name below a former one stands elsewhere as soon as that one has its new name.
    for _ in 0..64 {
        let Some(first) = found.first() else { break };
        *value = under_new_name(value, first);
        found = former_names(&schema, value);
    }
    any
}

/// The fault of a name of an earlier version, at that name.
fn renamed(stage: &str, spans: &StageSpans, former: &Former) -> Diagnostic {
    let top = spans.with.clone().unwrap_or_else(|| spans.name.clone());
    let (old, now) = (former.path.join("."), former.now.join("."));
    let title = format!("{} of stage `{stage}` is called `{now}` now", shown(&old));
    let last = former.now.last().map_or("", String::as_str);
    let help = if former.path.split_last().map(|(_, p)| p) == former.now.split_last().map(|(_, p)| p) {
        format!("write `{last}`")
    } else {
        let parent = former.now.split_last().map_or(String::new(), |(_, parent)| parent.join("."));
        format!("write `{last}` under `{}`", if parent.is_empty() { "with" } else { &parent })
    };
    let Some(root) = &spans.params else { return Diagnostic::error("E046", title, top, "a former name").help(help) };
    let spot = find(root, &former.path);
    // A choice that is a text stands as a value.
    let span = match (spot.rest.len(), spot.entry) {
        (0, Some(entry)) => entry.key_span.clone(),
        (0, None) => top,
        _ => spot.node.span.clone(),
    };
    with_origin(Diagnostic::error("E046", title, span, "a former name").help(help), spot.node)
}

/// What is wrong with the connections, as the parameters want them.
pub(crate) fn wired(
    kind: &dyn Kind,
    stage: &str,
    spans: &StageSpans,
    params: &Value,
    ports: &Ports,
) -> Vec<Diagnostic> {
    match kind.wired(params, ports) {
        Ok(found) => found.iter().map(|f| diagnostic("E044", stage, spans, f)).collect(),
        Err(bug) => vec![unreadable(spans, &bug)],
    }
}

/// A bug of a stage kind.
pub(crate) fn unreadable(spans: &StageSpans, bug: &Unreadable) -> Diagnostic {
    Diagnostic::error("E000", bug.to_string(), spans.uses.clone(), "")
}

fn sound(node: &Node) -> bool {
    match &node.data {
        Data::Unknown => false,
        Data::Scalar(_) => true,
        Data::List(items) => items.iter().all(sound),
        Data::Map(entries) => entries.iter().all(|e| sound(&e.value)),
    }
}

/// The path of the value that a fault is about. Of an unknown field some types name the map, others the field.
fn place(fault: &ParamFault, value: &Value) -> Vec<String> {
    let mut path = steps(&fault.path);
    let name = match &fault.cause {
        Cause::Type(Mismatch::UnknownField { name, .. }) => {
            // The field itself is named, unless there is one of the same name in it.
            let inside: Vec<String> = path.iter().chain([name]).cloned().collect();
            if path.last().is_none_or(|last| last != name) || lookup(value, &inside).is_some() {
                return inside;
            }
            return path;
        }
        Cause::Type(Mismatch::MissingField { name }) => *name,
        _ => return path,
    };
    if path.last().is_none_or(|last| last != name) || lookup(value, &path).is_some_and(Value::is_object) {
        path.push(name.to_owned());
    }
    path
}

fn lookup<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |v, step| match v {
        Value::Object(map) => map.get(step),
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        _ => None,
    })
}

fn take_out(value: &mut Value, path: &[String]) -> bool {
    let Some((last, before)) = path.split_last() else { return false };
    let Some(parent) = before.iter().try_fold(value, |v, step| match v {
        Value::Object(map) => map.get_mut(step),
        Value::Array(items) => items.get_mut(step.parse::<usize>().ok()?),
        _ => None,
    }) else {
        return false;
    };
    match parent {
        Value::Object(map) => map.remove(last).is_some(),
        Value::Array(items) => match last.parse::<usize>() {
            Ok(i) if i < items.len() => {
                items.remove(i);
                true
            }
            _ => false,
        },
        _ => false,
    }
}

/// A fault of a stage's parameters at the value that causes it. `code` stands for faults that no type finds.
pub(crate) fn diagnostic(code: &'static str, stage: &str, spans: &StageSpans, fault: &ParamFault) -> Diagnostic {
    if let Some(port) = &fault.port {
        let span = spans.needs.get(port).unwrap_or(&spans.name).clone();
        let title = format!("what `{stage}` reads as `{port}` does not fit");
        return Diagnostic::error(code, title, span, &fault.message).maybe_help(fault.help.clone());
    }
    let value = spans.params.as_ref().map_or(Value::Null, Node::json);
    let path = place(fault, &value);
    let name = if path.is_empty() { "`with`".to_owned() } else { shown(&path.join(".")) };
    let code = if fault.cause == Cause::Bug { "E000" } else { code };
    let top = spans.with.clone().unwrap_or_else(|| spans.name.clone());
    let Some(root) = &spans.params else {
        if let Cause::Type(Mismatch::MissingField { name }) = &fault.cause {
            return lacking(stage, name, fault, top);
        }
        return finish(
            Diagnostic::error(code, format!("{name} of stage `{stage}` does not fit"), top, &fault.message),
            fault,
        );
    };
    let spot = find(root, &path);
    let key = spot.entry.map_or(top, |e| e.key_span.clone());
    if let Cause::Type(Mismatch::UnknownField { name: field, known }) = &fault.cause {
        let title = format!("stage `{stage}` has no parameter {name}");
        let none = "the kind takes no parameters there".to_owned();
        let help = hint(field, known.iter().copied()).unwrap_or(none);
        return Diagnostic::error("E040", title, key, "not known here").help(help);
    }
    if let Cause::Type(Mismatch::MissingField { name: field }) = &fault.cause {
        let parent = find(root, &path[..path.len() - 1]);
        let key = parent
            .entry
            .map_or_else(|| spans.with.clone().unwrap_or_else(|| spans.name.clone()), |e| e.key_span.clone());
        return lacking(stage, field, fault, key);
    }
    let title = format!("{name} of stage `{stage}` does not fit");
    if let Cause::Type(Mismatch::UnknownVariant { name: found, known }) = &fault.cause {
        // The variant is the value itself, or the one name in it.
        let span = spot.node.get(found).map_or_else(|| spot.node.span.clone(), |e| e.key_span.clone());
        let label = format!("{} is no choice here", shown(found));
        return with_origin(
            Diagnostic::error("E042", title, span, label).maybe_help(hint(found, known.iter().copied())),
            spot.node,
        );
    }
    let span = if spot.rest.is_empty() && spot.entry.is_some() { spot.node.span.clone() } else { key };
    let found = Diagnostic::error(code, title, span, &fault.message);
    with_origin(finish(found, fault), spot.node)
}

fn lacking(stage: &str, field: &str, fault: &ParamFault, span: crate::recipe::Span) -> Diagnostic {
    let title = format!("stage `{stage}` lacks the parameter {}", shown(field));
    let inside = if fault.path.is_empty() { "with".to_owned() } else { fault.path.clone() };
    Diagnostic::error("E041", title, span, format!("`{field}` is missing"))
        .help(format!("set `{field}` under `{inside}`"))
}

fn finish(found: Diagnostic, fault: &ParamFault) -> Diagnostic {
    if fault.cause == Cause::Type(Mismatch::NotOneName) {
        return found.help("name one choice only; `defaults` and `with` are laid over each other name by name");
    }
    found.maybe_help(fault.help.clone())
}
