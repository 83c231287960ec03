//! `matrix` inside of a stage: in an item of a list, or among the names of a map, it stands for one item or name for each of
//! its cells.
//!
//! ```yaml
//! rows:
//!   - {matrix: {task: [ocr, looks]}, scores: "${matrix.task}", title: "${matrix.task} teacher"}
//! names: [{matrix: {task: [ocr, looks]}, value: "${matrix.task}"}]
//! teachers: {matrix: {task: [ocr, looks]}, "${matrix.task}": "best[task=${matrix.task}].lora"}
//! ```
//!
//! A name whose value is nothing in a cell is left out there: `"${matrix.task}": "${matrix.task.rewards?}"`.

use crate::recipe::Diagnostic;
use crate::recipe::text::bound::Extent;
use crate::recipe::text::tree::{Data, Entry, Node, shown};
use crate::recipe::variables::matrix::{self, Matrix};
use crate::recipe::variables::vars::Vars;
use std::collections::BTreeSet;

/// The word that makes it.
const MATRIX: &str = "matrix";
/// Of a list's item what stands in its place, if it is no map.
const VALUE: &str = "value";

/// Whether a map is written once for several.
pub(crate) fn is_repeated(node: &Node) -> bool {
    node.get(MATRIX).is_some()
}

/// Puts the items of all cells in the place of an item with a matrix, and the variables into all.
pub(crate) fn list(items: &mut Vec<Node>, vars: &mut Vars, faults: &mut Vec<Diagnostic>) {
    for mut item in std::mem::take(items) {
        let Some(matrix) = read(&mut item, vars, faults) else {
            vars.expand(&mut item, faults);
            items.push(item);
            continue;
        };
        let Some(matrix) = matrix else { continue };
        let value = match &item.data {
            Data::Map(entries) if entries.len() == 1 && entries[0].key == VALUE => entries[0].value.clone(),
            _ => item,
        };
        let mut used = BTreeSet::new();
        for cell in 0..matrix.len() {
            if !vars.bound.take(Extent::of(&value), &value.span) {
                return;
            }
            let mut one = value.clone();
            let Some(pairs) = matrix.pairs(cell, vars) else { return };
            used.extend(vars.expand_with(&mut one, pairs, faults));
            items.push(one);
        }
        matrix.unused(&used, "the list's item", faults);
    }
}

/// Puts the names of all cells in the place of a name that holds a variable of the matrix, and the variables into all.
pub(crate) fn map(node: &mut Node, vars: &mut Vars, faults: &mut Vec<Diagnostic>) {
    let Some(matrix) = read(node, vars, faults) else { return };
    let Data::Map(entries) = &mut node.data else { return };
    let written = std::mem::take(entries);
    let Some(matrix) = matrix else { return node.data = Data::Unknown };
    let mut made: Vec<Entry> = Vec::with_capacity(written.len());
    let mut used = BTreeSet::new();
    for mut entry in written {
        if !entry.key.contains("${") {
            if vars.expand_entry(&mut entry.value, faults) {
                put(entry, &mut made, faults);
            }
            continue;
        }
        for cell in 0..matrix.len() {
            if !vars.bound.take(Extent::of_entry(&entry), &entry.key_span) {
                return;
            }
            let mut one = entry.clone();
            let mut key = None;
            let Some(pairs) = matrix.pairs(cell, vars) else { return };
            used.extend(vars.with(pairs, |vars| {
                key = vars.name(&one.key, &one.key_span, faults);
                vars.expand(&mut one.value, faults);
            }));
            // A cell that has nothing for it has no such name.
            if let Some(key) = key.filter(|_| !one.value.is_null()) {
                put(Entry { key, ..one }, &mut made, faults);
            }
        }
    }
    matrix.unused(&used, "the map", faults);
    node.data = Data::Map(made);
}

/// Puts the variables into the names and the values of a map.
pub(crate) fn names(entries: &mut Vec<Entry>, vars: &mut Vars, faults: &mut Vec<Diagnostic>) {
    let written = std::mem::take(entries);
    for mut entry in written {
        let key = match entry.key.contains("${") {
            true => vars.name(&entry.key, &entry.key_span, faults),
            false => Some(entry.key.clone()),
        };
        let stays = vars.expand_entry(&mut entry.value, faults);
        if let Some(key) = key.filter(|_| stays) {
            put(Entry { key, ..entry }, entries, faults);
        }
    }
}

fn put(entry: Entry, made: &mut Vec<Entry>, faults: &mut Vec<Diagnostic>) {
    match made.iter().find(|e| e.key == entry.key) {
        Some(before) => {
            let title = format!("{} is given twice", shown(&entry.key));
            let found = Diagnostic::error("E004", title, entry.key_span, "given again here");
            faults.push(found.also(before.key_span.clone(), "first given here").help("keep one of the two"));
        }
        None => made.push(entry),
    }
}

/// Takes the matrix out of a map. Nothing where there is none; nothing inside where it is not sound.
#[expect(clippy::option_option, reason = "no matrix, and one that was refused")]
fn read(node: &mut Node, vars: &mut Vars, faults: &mut Vec<Diagnostic>) -> Option<Option<Matrix>> {
    let mut matrix = matrix::take_out(node, MATRIX)?;
    vars.expand(&mut matrix.value, faults);
    Some(matrix::read(&matrix, vars, faults))
}
