//! `matrix`: a stage that is written once and stands for one stage per cell, each with values of its own for
//! `"${matrix.axis}"`. After this step only cells are left, which are stages like all others. The values of an axis are a list,
//! or the names of a map: what stands there under a name is the cell's too, as `"${matrix.axis.part}"`.

use crate::recipe::cell::{self, plain_name};
use crate::recipe::text::bound::Extent;
use crate::recipe::text::shape::{any_map, wrong};
use crate::recipe::text::tree::{self, Data, Entry, Node, shown};
use crate::recipe::variables::vars::Vars;
use crate::recipe::{Diagnostic, Span};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// More cells than anybody means.
const MOST: usize = 1000;

/// More axes than anybody means. Of those with two values and more, ten are too many already.
const MOST_AXES: usize = 32;

/// One value for each axis, in the order of the axes.
type Values = Vec<Node>;

/// A matrix as it is written, sound in itself.
pub(crate) struct Matrix {
    axes: Vec<(String, Span)>,
    cells: Vec<Values>,
    /// Of an axis whose values are the names of a map: the map.
    parts: BTreeMap<String, Node>,
}

impl Matrix {
    /// How many cells it has.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// The variables of a cell, with room made for them.
    pub fn pairs(&self, cell: usize, vars: &mut Vars) -> Option<Vec<(String, Node)>> {
        let mut pairs = Vec::new();
        for ((axis, span), value) in self.axes.iter().zip(&self.cells[cell]) {
            if let Some(part) = self.part(axis, value) {
                if !vars.bound.take(Extent::of_entry(part), span) {
                    return None;
                }
                pairs.push((format!("matrix.{axis}."), part.value.clone()));
            }
            pairs.push((format!("matrix.{axis}"), value.clone()));
        }
        Some(pairs)
    }

    /// What stands under a value of an axis, where the axis is a map.
    fn part(&self, axis: &str, value: &Node) -> Option<&Entry> {
        let wanted = word(value);
        self.parts.get(axis)?.entries().iter().find(|e| word(&name_of(e)) == wanted)
    }

    /// Reports the axes that `used` does not name.
    pub fn unused(&self, used: &BTreeSet<String>, what: &str, faults: &mut Vec<Diagnostic>) {
        let uses = |axis: &str| [format!("matrix.{axis}"), format!("matrix.{axis}.")].iter().any(|n| used.contains(n));
        for (axis, span) in self.axes.iter().filter(|(axis, _)| !uses(axis)) {
            let title = format!("the axis {} of {what} is never used", shown(axis));
            let help =
                format!("use it as \"${{matrix.{axis}}}\" in it, or take it out: all that it makes would be the same");
            faults.push(Diagnostic::error("E026", title, span.clone(), "no value uses it").help(help));
        }
    }
}

/// The axes of stages by name.
pub(crate) type Axes = BTreeMap<String, BTreeSet<String>>;

/// Puts the variables into all stages, and cells in the place of each stage with a matrix. `axes` has those of stages that are
/// there already, and gets those of these.
pub(crate) fn unfold(stages: &mut Node, axes: &mut Axes, vars: &mut Vars, faults: &mut Vec<Diagnostic>) {
    let Data::Map(entries) = &mut stages.data else { return vars.expand(stages, faults) };
    axes.extend(entries.iter().map(|stage| (stage.key.clone(), axes_of(&stage.value))));
    let mut unfolded = Vec::with_capacity(entries.len());
    for mut stage in std::mem::take(entries) {
        if stage.key.contains('[') {
            let help = "cells come from a `matrix` in the stage: write the name without brackets";
            faults.push(
                Diagnostic::error(
                    "E014",
                    format!("{} is no name for a stage", shown(&stage.key)),
                    stage.key_span.clone(),
                    "not a name",
                )
                .help(help),
            );
        }
        let Some(mut matrix) = take_out(&mut stage.value, "matrix") else {
            vars.expand(&mut stage.value, faults);
            unfolded.push(stage);
            continue;
        };
        vars.expand(&mut matrix.value, faults);
        match read(&matrix, vars, faults) {
            Some(matrix) => unfolded.extend(cells(&stage, &matrix, axes, vars, faults)),
            None => {
                // What it would say is not known; the variables in it are used all the same.
                vars.expand(&mut stage.value, &mut Vec::new());
                stage.value.data = Data::Unknown;
                unfolded.push(stage);
            }
        }
    }
    *entries = unfolded;
}

/// Takes an entry out of a map.
pub(crate) fn take_out(node: &mut Node, key: &str) -> Option<Entry> {
    let Data::Map(entries) = &mut node.data else { return None };
    let at = entries.iter().position(|e| e.key == key)?;
    Some(entries.remove(at))
}

/// The names of a stage's axes, before its matrix is read.
fn axes_of(stage: &Node) -> BTreeSet<String> {
    let names = |node: &Node| node.entries().iter().map(|e| e.key.clone()).collect::<BTreeSet<_>>();
    let Some(matrix) = stage.get("matrix") else { return BTreeSet::new() };
    let own: BTreeSet<String> = names(&matrix.value).into_iter().filter(|n| n != "include" && n != "exclude").collect();
    match matrix.value.get("include").map(|e| &e.value.data) {
        Some(Data::List(cells)) if own.is_empty() => cells.first().map(names).unwrap_or_default(),
        _ => own,
    }
}

/// Whether an input below `node` is of a stage that has the axis, and so follows it.
fn follows(node: &Node, axis: &str, axes: &Axes) -> bool {
    match &node.data {
        Data::Scalar(Value::String(text)) => {
            let stage = cell::reference(text).0.split('[').next().unwrap_or_default();
            axes.get(stage).is_some_and(|a| a.contains(axis))
        }
        Data::Map(entries) => entries.iter().any(|e| follows(&e.value, axis, axes)),
        _ => false,
    }
}

/// A stage for each cell.
fn cells(stage: &Entry, matrix: &Matrix, axes: &Axes, vars: &mut Vars, faults: &mut Vec<Diagnostic>) -> Vec<Entry> {
    let mut made = Vec::with_capacity(matrix.cells.len());
    let mut used = BTreeSet::new();
    let whole = Extent::of_entry(stage);
    for (at, values) in matrix.cells.iter().enumerate() {
        let Some(pairs) = matrix.pairs(at, vars) else { return made };
        let words: Vec<String> =
            matrix.axes.iter().zip(values).map(|((axis, _), value)| format!("{axis}={}", word(value))).collect();
        let words = words.join(",");
        if !vars.bound.take(whole.and(Extent::text(&words)), &stage.key_span) {
            return made;
        }
        let mut cell = stage.clone();
        cell.key = format!("{}[{words}]", stage.key);
        used.extend(vars.expand_with(&mut cell.value, pairs, faults));
        made.push(cell);
    }
    // What the needs say is known once the variables are in them.
    let followed = |axis: &str| {
        made.iter().any(|c: &Entry| c.value.get("needs").is_some_and(|needs| follows(&needs.value, axis, axes)))
    };
    used.extend(matrix.axes.iter().filter(|(axis, _)| followed(axis)).map(|(axis, _)| format!("matrix.{axis}")));
    matrix.unused(&used, &format!("`{}`", stage.key), faults);
    made
}

/// Takes a matrix apart.
pub(crate) fn read(matrix: &Entry, vars: &mut Vars, faults: &mut Vec<Diagnostic>) -> Option<Matrix> {
    let before = faults.len();
    any_map(&matrix.value, "`matrix`", faults)?;
    let mut axes: Vec<(String, Span)> = Vec::new();
    let mut cells: Vec<Values> = vec![Vec::new()];
    let mut parts = BTreeMap::new();
    for axis in matrix.value.entries().iter().filter(|e| e.key != "include" && e.key != "exclude") {
        let values = values(axis, faults)?;
        if matches!(axis.value.data, Data::Map(_)) {
            parts.insert(axis.key.clone(), axis.value.clone());
        }
        axes.push((axis.key.clone(), axis.key_span.clone()));
        if cells.len().saturating_mul(values.len()) > MOST {
            faults.push(too_many(format!("{MOST} cells"), &axis.key_span, "too many with this axis"));
            return None;
        }
        if axes.len() > MOST_AXES {
            faults.push(too_many(format!("{MOST_AXES} axes"), &axis.key_span, "one too many"));
            return None;
        }
        // A long text as a value of one axis stands in the cells of all others.
        let each = values.iter().map(Extent::of).fold(Extent::default(), Extent::and);
        if !(0..cells.len()).all(|_| vars.bound.take(each, &axis.key_span)) {
            return None;
        }
        cells = cells
            .iter()
            .flat_map(|cell| values.iter().map(move |v| cell.iter().chain([v]).cloned().collect::<Values>()))
            .collect();
    }
    if axes.is_empty() {
        cells.clear();
    }
    let mut words: Vec<Vec<String>> = cells.iter().map(|cell| cell.iter().map(word).collect()).collect();
    exclude(matrix, &axes, &mut cells, &mut words, faults);
    include(matrix, &mut axes, &mut cells, words, faults)?;
    if faults.len() == before && cells.is_empty() {
        let help = "give an axis a list of values, as `matrix: {seed: [1, 2, 3]}`";
        faults.push(
            Diagnostic::error("E025", "the matrix has no cells", matrix.key_span.clone(), "nothing is left").help(help),
        );
    }
    (faults.len() == before).then_some(Matrix { axes, cells, parts })
}

/// Takes out the cells that `exclude` names. `words`: the values of each cell as texts, which two ways to write one share.
fn exclude(
    matrix: &Entry,
    axes: &[(String, Span)],
    cells: &mut Vec<Values>,
    words: &mut Vec<Vec<String>>,
    faults: &mut Vec<Diagnostic>,
) {
    for one in listed(matrix, "exclude", faults) {
        let Some(wanted) = chosen(one, axes, faults) else { continue };
        let wanted: Vec<(usize, String)> = wanted.into_iter().map(|(at, value)| (at, word(value))).collect();
        let kept: Vec<bool> = words.iter().map(|cell| !wanted.iter().all(|(at, word)| cell[*at] == *word)).collect();
        let (mut cell_kept, mut word_kept) = (kept.iter(), kept.iter());
        if kept.iter().all(|kept| *kept) && !wanted.is_empty() {
            faults.push(
                Diagnostic::error(
                    "E025",
                    "the matrix has no such cell to exclude",
                    one.span.clone(),
                    "it fits no cell",
                )
                .help("take it out"),
            );
        }
        cells.retain(|_| *cell_kept.next().unwrap_or(&true));
        words.retain(|_| *word_kept.next().unwrap_or(&true));
    }
}

/// Adds the cells that `include` names; nothing if there would be too many.
fn include(
    matrix: &Entry,
    axes: &mut Vec<(String, Span)>,
    cells: &mut Vec<Values>,
    words: Vec<Vec<String>>,
    faults: &mut Vec<Diagnostic>,
) -> Option<()> {
    let mut known: BTreeSet<Vec<String>> = words.into_iter().collect();
    for one in listed(matrix, "include", faults) {
        if axes.is_empty() {
            if let Some(extra) = one.entries().get(MOST_AXES) {
                faults.push(too_many(format!("{MOST_AXES} axes"), &extra.key_span, "one too many"));
                return None;
            }
            *axes = one.entries().iter().map(|e| (e.key.clone(), e.key_span.clone())).collect();
        }
        let Some(mut wanted) = chosen(one, axes, faults) else { continue };
        wanted.sort_by_key(|(at, _)| *at);
        let cell: Values = wanted.iter().map(|(_, value)| (*value).clone()).collect();
        if cell.len() < axes.len() {
            let names: Vec<String> = axes.iter().map(|(axis, _)| format!("`{axis}`")).collect();
            let help = format!("give each of {}", names.join(", "));
            faults.push(
                Diagnostic::error("E025", "an included cell lacks a value", one.span.clone(), "an axis is missing")
                    .help(help),
            );
        } else if cells.len() >= MOST {
            faults.push(too_many(format!("{MOST} cells"), &one.span, "one too many"));
            return None;
        } else if !known.insert(cell.iter().map(word).collect()) {
            faults.push(
                Diagnostic::error("E025", "the matrix has this cell already", one.span.clone(), "included again here")
                    .help("take it out"),
            );
        } else {
            cells.push(cell);
        }
    }
    Some(())
}

fn too_many(what: String, span: &Span, label: &str) -> Diagnostic {
    let title = format!("the matrix has more than {what}");
    Diagnostic::error("E025", title, span.clone(), label).help("leave values out")
}

/// The values of an axis.
fn values(axis: &Entry, faults: &mut Vec<Diagnostic>) -> Option<Vec<Node>> {
    if !plain_name(&axis.key) {
        let title = format!("{} is no name for an axis", shown(&axis.key));
        faults.push(
            Diagnostic::error("E014", title, axis.key_span.clone(), "not a name")
                .help("use lower-case letters, digits and `_`"),
        );
        return None;
    }
    let values: Vec<Node> = match &axis.value.data {
        Data::List(values) => values.clone(),
        // Each name is a value, of the kind that it looks like.
        Data::Map(entries) => entries.iter().map(name_of).collect(),
        Data::Unknown => return None,
        Data::Scalar(_) => {
            let expected = "a list of values, or a map with one under each name";
            faults.push(wrong(&axis.value, &format!("the axis `{}`", axis.key), expected));
            return None;
        }
    };
    let mut seen = BTreeSet::new();
    for value in &values {
        if !is_word(value, faults) {
            return None;
        }
        if !seen.insert(word(value)) {
            let title = format!("the axis `{}` has a value twice", axis.key);
            faults.push(
                Diagnostic::error("E025", title, value.span.clone(), "given again here").help("keep one of the two"),
            );
            return None;
        }
    }
    Some(values)
}

/// A name of a map as the value of an axis.
fn name_of(entry: &Entry) -> Node {
    Node::new(entry.key_span.clone(), Data::Scalar(tree::scalar(&entry.key)))
}

/// The maps under `include` or `exclude`.
fn listed<'n>(matrix: &'n Entry, key: &str, faults: &mut Vec<Diagnostic>) -> &'n [Node] {
    match matrix.value.get(key).map(|e| &e.value) {
        Some(Node { data: Data::List(maps), .. }) => maps,
        None | Some(Node { data: Data::Unknown, .. }) => &[],
        Some(other) => {
            faults.push(wrong(other, &shown(key), "a list of cells, as `[{seed: 1}]`"));
            &[]
        }
    }
}

/// The values that an included or excluded cell gives, each with the place of its axis.
fn chosen<'n>(cell: &'n Node, axes: &[(String, Span)], faults: &mut Vec<Diagnostic>) -> Option<Vec<(usize, &'n Node)>> {
    any_map(cell, "a cell", faults)?;
    let mut found = Vec::new();
    for entry in cell.entries() {
        let Some(at) = axes.iter().position(|(axis, _)| *axis == entry.key) else {
            let title = format!("the matrix has no axis {}", shown(&entry.key));
            let help = crate::recipe::text::near::hint(
                &entry.key,
                axes.iter().map(|(axis, _)| axis.as_str()).collect::<Vec<_>>(),
            );
            faults.push(Diagnostic::error("E025", title, entry.key_span.clone(), "not known here").maybe_help(help));
            return None;
        };
        if !is_word(&entry.value, faults) {
            return None;
        }
        found.push((at, &entry.value));
    }
    Some(found)
}

/// Whether a value can stand in the name of a cell.
fn is_word(value: &Node, faults: &mut Vec<Diagnostic>) -> bool {
    let fits = match &value.data {
        Data::Scalar(Value::String(text)) => {
            !text.trim().is_empty() && text.trim() == text && !text.contains(['[', ']', ',', '=', '\n'])
        }
        Data::Scalar(Value::Null) => false,
        Data::Scalar(_) => true,
        Data::Unknown => return false,
        _ => false,
    };
    if !fits {
        faults.push(wrong(
            value,
            "a value of a matrix",
            "a number, a truth value, or a text without `[`, `]`, `,` and `=`",
        ));
    }
    fits
}

/// A value as it stands in the name of its cell.
fn word(value: &Node) -> String {
    match &value.data {
        Data::Scalar(Value::String(text)) => text.clone(),
        Data::Scalar(value) => value.to_string(),
        _ => String::new(),
    }
}
