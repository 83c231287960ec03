//! Inputs: every port known, of the right type and number, and no stage waiting for itself.

use crate::recipe::cell::{self, Cell, plain_name};
use crate::recipe::draft::{Draft, Drafts};
use crate::recipe::text::bound::{Bound, Extent};
use crate::recipe::text::near::hint;
use crate::recipe::text::shape::{any_map, wrong};
use crate::recipe::text::tree::{Data, Entry, Node, shown};
use crate::recipe::{Diagnostic, PortRef, Span};
use opdflow_api::{Arity, Connection, Input, Kind, OfSeed};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// One connection as written.
#[derive(Clone, Debug)]
pub(crate) struct Need {
    pub from: PortRef,
    pub of_seed: Option<OfSeed>,
    pub span: Span,
}

impl Need {
    /// The same, for the kind.
    pub fn connection(&self) -> Connection {
        Connection { source: self.from.to_string(), of_seed: self.of_seed.clone() }
    }
}

/// Reads `needs` of one stage and holds it against the kinds on both ends.
pub(crate) fn needs(
    draft: &Draft,
    node: Option<&Node>,
    all: &Drafts,
    bound: &mut Bound,
    faults: &mut Vec<Diagnostic>,
) -> BTreeMap<String, Need> {
    let mut found = Connections { needs: BTreeMap::new(), bound };
    let about = draft.kind.as_ref().map(|k| k.describe());
    let entries = node.and_then(|n| any_map(n, "`needs`", faults)).map(Node::entries).unwrap_or_default();
    for entry in entries.iter().filter(|e| e.key != "<<") {
        let mut port = about.and_then(|a| a.inputs.iter().find(|p| p.name == entry.key));
        let former = draft.kind.as_ref().and_then(|kind| kind.former_input(&entry.key));
        if let (None, Some(now)) = (port, former) {
            let title = format!("the input {} of `{}` is called `{}` now", shown(&entry.key), draft.name, now.name);
            faults.push(renamed(title, &entry.key_span, now.name));
            port = former;
        }
        if let (Some(about), None) = (about, port) {
            let title = format!("a stage of kind `{}` has no input {}", about.kind, shown(&entry.key));
            let names = about.inputs.iter().map(|p| p.name);
            let help = hint(&entry.key, names).unwrap_or_else(|| format!("`{}` takes no inputs", about.kind));
            faults.push(Diagnostic::error("E035", title, entry.key_span.clone(), "no such input").help(help));
            continue;
        }
        connect(draft, entry, port, all, &mut found, faults);
    }
    if let (Some(kind), true) = (&draft.kind, node.is_none_or(|n| !matches!(n.data, Data::Unknown))) {
        lacking(draft, kind.as_ref(), entries, node.is_some(), all, faults);
    }
    found.needs
}

/// The fault of a port under the name of an earlier version.
fn renamed(title: String, span: &Span, now: &str) -> Diagnostic {
    Diagnostic::error("E046", title, span.clone(), "a former name").help(format!("write `{now}`"))
}

/// The connections of a stage so far. One line connects all cells of a matrix, so they count too.
struct Connections<'b> {
    needs: BTreeMap<String, Need>,
    bound: &'b mut Bound,
}

/// Reads what one input is connected to: `stage.port`, or a map of such.
fn connect(
    draft: &Draft,
    entry: &Entry,
    port: Option<&Input>,
    all: &Drafts,
    found: &mut Connections<'_>,
    faults: &mut Vec<Diagnostic>,
) {
    let many = port.map(|p| matches!(p.arity, Arity::Many | Arity::Any));
    match &entry.value.data {
        Data::Unknown => {}
        Data::Map(_) if many == Some(false) => {
            let title = format!("input `{}` of `{}` takes one output, not a map of them", entry.key, draft.name);
            let help = format!("write `{}: stage.port`", entry.key);
            faults.push(Diagnostic::error("E038", title, entry.value.span.clone(), "a map").help(help));
        }
        Data::Map(entries) => {
            if entries.is_empty() && port.is_some_and(|p| p.arity == Arity::Many) {
                let title = format!("input `{}` of `{}` is empty", entry.key, draft.name);
                let help = "name at least one output, as `name: stage.port`";
                faults.push(Diagnostic::error("E036", title, entry.value.span.clone(), "nothing in it").help(help));
            }
            for one in entries {
                if !plain_name(&one.key) {
                    let title = format!("{} is no name for an input", shown(&one.key));
                    let help = "use lower-case letters, digits and `_`";
                    faults.push(Diagnostic::error("E014", title, one.key_span.clone(), "not a name").help(help));
                }
                single(draft, &one.value, &format!("{}.{}", entry.key, one.key), port, all, found, faults);
            }
        }
        Data::Scalar(Value::String(text)) if many == Some(true) && !collects(draft, text, all) => {
            let title = format!("input `{}` of `{}` takes a map of outputs", entry.key, draft.name);
            let name = text.split('.').next().unwrap_or("name");
            let help = format!("give it a name: `{}: {{{name}: {text}}}`", entry.key);
            faults.push(
                Diagnostic::error("E038", title, entry.value.span.clone(), "one output without a name").help(help),
            );
        }
        _ => single(draft, &entry.value, &entry.key, port, all, found, faults),
    }
}

/// The stages that a name means where `draft` reads them, and the name as it means it: a cell means those that have its
/// own values of the axes that both have.
fn meant<'a>(draft: &'a Draft, stage: &'a str, all: &'a Drafts) -> (Vec<(&'a Draft, Cell<'a>)>, Option<Cell<'a>>) {
    let mut found = all.select(stage);
    let wanted = match (Cell::parse(stage), Cell::parse(&draft.name)) {
        (Some(wanted), Some(reader)) => Some(wanted.read_by(&reader, found.iter().map(|(_, cell)| cell))),
        (wanted, _) => wanted,
    };
    found.retain(|(_, cell)| wanted.as_ref().is_some_and(|w| w.means(cell)));
    (found, wanted)
}

/// Whether `stage.port` names a matrix, or a part of one, rather than a single stage.
fn collects(draft: &Draft, text: &str, all: &Drafts) -> bool {
    let (meant, wanted) = meant(draft, cell::reference(text).0, all);
    meant.first().zip(wanted).is_some_and(|((_, cell), wanted)| !wanted.label(cell).is_empty())
}

/// Reads one `stage.port`.
fn single(
    draft: &Draft,
    node: &Node,
    at: &str,
    port: Option<&Input>,
    all: &Drafts,
    found: &mut Connections<'_>,
    faults: &mut Vec<Diagnostic>,
) {
    let span = node.span.clone();
    let text = match &node.data {
        Data::Scalar(Value::String(text)) => text,
        Data::Unknown => return,
        _ => return faults.push(wrong(node, &format!("what `{}` needs", draft.name), "an output, as `stage.port`")),
    };
    let (stage, output) = cell::reference(text);
    let (meant, wanted) = meant(draft, stage, all);
    let (Some(wanted), false) = (wanted, meant.is_empty()) else {
        let title = format!("`{}` needs an unknown stage", draft.name);
        let names = all.iter().map(|d| d.name.as_str()).filter(|n| *n != draft.name);
        let label = match all.select(stage).len() {
            0 => format!("no stage is named {}", shown(stage)),
            _ => format!("{} has no cell with the values of `{}`", shown(stage), draft.name),
        };
        let help = all.hints.borrow_mut().hint(stage, all.len(), names);
        return faults.push(Diagnostic::error("E032", title, span, label).maybe_help(help));
    };
    // A matrix, or a part of one, gives each of its cells a place of its own in a map.
    let labels: Vec<String> = meant.iter().map(|(_, cell)| wanted.label(cell)).collect();
    let in_map = at.contains('.');
    let one_only = !in_map && port.is_some_and(|p| matches!(p.arity, Arity::One | Arity::Optional));
    if one_only && labels.iter().any(|l| !l.is_empty()) {
        let title =
            format!("input `{at}` of `{}` takes one output, and `{stage}` has {} cells", draft.name, meant.len());
        let help = format!(
            "name the cell: `{at}: \"{}{}\"`",
            meant[0].0.name,
            output.map_or_else(String::new, |o| format!(".{o}"))
        );
        return faults.push(Diagnostic::error("E038", title, span, "more than one").help(help));
    }
    for ((upstream, cell), label) in meant.into_iter().zip(labels) {
        let place = match (label.is_empty(), in_map) {
            (true, _) => at.to_owned(),
            (false, true) => format!("{at}_{label}"),
            (false, false) => format!("{at}.{label}"),
        };
        let Some(from) = join(draft, upstream, output, (&place, &span), port, all, faults) else { return };
        let fits = label.is_empty() || place.rsplit('.').next().is_some_and(plain_name);
        if !fits || found.needs.contains_key(&place) {
            let title = format!("the cells of `{stage}` have no names of their own on input `{at}`");
            let help = "give each cell a name: `name: \"stage[axis=value].port\"`";
            return faults.push(
                Diagnostic::error("E014", title, span, format!("`{place}` is too long, or there twice")).help(help),
            );
        }
        let extent = Extent::VALUE.and(Extent::name(&place)).and(Extent::text(&from.stage));
        if !found.bound.take(extent, &span) {
            return;
        }
        // Of cells that differ in their seed, and maybe in more, the name less the seed is what they share.
        let (rest, seed) = wanted.less_seed(&cell);
        let parts = [at.split_once('.').map_or("", |(_, name)| name), &rest];
        let name = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_");
        let of_seed = seed.filter(|_| !name.is_empty()).map(|seed| OfSeed { name, seed });
        found.needs.insert(place, Need { from, of_seed, span: span.clone() });
    }
}

/// Holds an output of `upstream` against the input that is to read it. Nothing if it does not fit.
fn join(
    draft: &Draft,
    upstream: &Draft,
    output: Option<&str>,
    (at, span): (&str, &Span),
    port: Option<&Input>,
    all: &Drafts,
    faults: &mut Vec<Diagnostic>,
) -> Option<PortRef> {
    let stage = &upstream.name;
    let kind = upstream.kind.as_ref()?;
    let names: Vec<&str> = outputs(kind.as_ref());
    let Some(output) = output else {
        let title = format!("`{}` needs an output of `{stage}`, not the stage", draft.name);
        let choices: Vec<String> =
            names.iter().filter(|n| **n != "metrics").map(|n| format!("`{stage}.{n}`")).collect();
        let help = format!("name the output: {}", choices.join(", "));
        faults.push(Diagnostic::error("E037", title, span.clone(), "an output is missing").help(help));
        return None;
    };
    let former = kind.output(output).is_none().then(|| kind.former_output(output)).flatten();
    if let Some(now) = former {
        let title = format!("the output {} of `{stage}` is called `{}` now", shown(output), now.name);
        faults.push(renamed(title, span, &format!("{stage}.{}", now.name)));
    }
    let Some(output) = kind.output(output).or(former) else {
        let title = format!("`{stage}` has no output {}", shown(output));
        let label = format!("`{stage}` is of kind `{}`", kind.describe().kind);
        faults.push(Diagnostic::error("E033", title, span.clone(), label).maybe_help(hint(output, names)));
        return None;
    };
    if let Some(port) = port.filter(|p| !p.takes(output.port_type)) {
        let title = format!("input `{at}` of `{}` does not take `{stage}.{}`", draft.name, output.name);
        let label = format!("its type is `{}`, expected {}", output.port_type, either(port.types));
        faults.push(Diagnostic::error("E034", title, span.clone(), label).maybe_help(fitting(draft, port, all)));
    }
    Some(PortRef { stage: stage.clone(), port: output.name.to_owned() })
}

/// Reports the inputs that must be connected and are not.
fn lacking(draft: &Draft, kind: &dyn Kind, entries: &[Entry], there: bool, all: &Drafts, faults: &mut Vec<Diagnostic>) {
    for port in kind.required() {
        if entries.iter().any(|e| e.key == port.name || port.formerly.contains(&e.key.as_str())) {
            continue;
        }
        let title = format!("`{}` lacks the input `{}`", draft.name, port.name);
        let span = draft.needs_span.clone().filter(|_| there).unwrap_or_else(|| draft.name_span.clone());
        let label = format!("`{}` is missing: {}", port.name, port.about);
        let shape = if port.arity == Arity::Many { "{name: stage.port}" } else { "stage.port" };
        let help = fitting(draft, port, all)
            .unwrap_or_else(|| format!("add `{}: {shape}` under `needs`, of type {}", port.name, either(port.types)));
        faults.push(Diagnostic::error("E036", title, span, label).help(help));
    }
}

/// Outputs of the recipe that a port would take, as help.
fn fitting(draft: &Draft, port: &Input, all: &Drafts) -> Option<String> {
    if port.types.is_empty() {
        return None;
    }
    let fits = all.fitting(&draft.name, port);
    (!fits.is_empty()).then(|| format!("`{}` would take {}", port.name, fits.join(", ")))
}

fn outputs(kind: &dyn Kind) -> Vec<&'static str> {
    kind.describe().outputs.iter().map(|o| o.name).chain(["metrics"]).collect()
}

fn either(types: &[&str]) -> String {
    types.iter().map(|t| format!("`{t}`")).collect::<Vec<_>>().join(" or ")
}

/// As many stages of a circle are shown.
const LINKS: usize = 16;

/// Reports each circle of stages that wait for each other, once, with all its stages.
pub(crate) fn cycles(all: &[Draft], needs: &[BTreeMap<String, Need>], faults: &mut Vec<Diagnostic>) {
    let number: BTreeMap<&str, usize> = all.iter().enumerate().map(|(i, d)| (d.name.as_str(), i)).collect();
    let mut graph = petgraph::graph::DiGraph::<(), Span>::new();
    let nodes: Vec<_> = all.iter().map(|_| graph.add_node(())).collect();
    for (reader, needs) in needs.iter().enumerate() {
        for need in needs.values() {
            if let Some(&up) = number.get(need.from.stage.as_str()) {
                graph.add_edge(nodes[up], nodes[reader], need.span.clone());
            }
        }
    }
    // Not by Tarjan's algorithm, which goes as deep into the stack as a recipe is long.
    for mut circle in petgraph::algo::kosaraju_scc(&graph) {
        circle.sort();
        let first = circle[0];
        let inside: BTreeSet<_> = circle.into_iter().collect();
        if inside.len() == 1 && graph.find_edge(first, first).is_none() {
            continue;
        }
        let path = around(&graph, first, &inside);
        let mut names: Vec<&str> = path.iter().take(LINKS).map(|n| all[n.index()].name.as_str()).collect();
        if path.len() > LINKS {
            names.push("...");
        }
        names.push(names[0]);
        let title = format!("stages wait for each other: {}", names.join(" -> "));
        let edge = |a, b| graph.find_edge(a, b).map_or(0..0, |e| graph[e].clone());
        let mut links: Vec<(Span, String)> = (0..path.len())
            .map(|i| {
                let (a, b) = (path[i], path[(i + 1) % path.len()]);
                (edge(a, b), format!("`{}` waits for `{}`", all[b.index()].name, all[a.index()].name))
            })
            .collect();
        links.sort_by_key(|(span, _)| span.start);
        let (span, label) = links.remove(0);
        let mut found = Diagnostic::error("E039", title, span, label).help("take one of these inputs out");
        links.truncate(LINKS);
        found.also = links;
        faults.push(found);
    }
}

/// A shortest path from `first` back to itself within `inside`.
fn around(
    graph: &petgraph::graph::DiGraph<(), Span>,
    first: petgraph::graph::NodeIndex,
    inside: &BTreeSet<petgraph::graph::NodeIndex>,
) -> Vec<petgraph::graph::NodeIndex> {
    let mut before = BTreeMap::new();
    let mut open = std::collections::VecDeque::from([first]);
    while let Some(node) = open.pop_front() {
        let mut next: Vec<_> = graph.neighbors(node).filter(|n| inside.contains(n)).collect();
        next.sort();
        for after in next {
            if after == first {
                let mut path = vec![node];
                while let Some(&previous) = path.last().filter(|n| **n != first).and_then(|n| before.get(n)) {
                    path.push(previous);
                }
                path.reverse();
                return path;
            }
            if before.insert(after, node).is_none() {
                open.push_back(after);
            }
        }
    }
    vec![first]
}
