//! Puts variables into values: those of a recipe, and those of other variables.

use super::repeat;
use super::vars::{Put, Vars, names};
use crate::recipe::Diagnostic;
use crate::recipe::text::bound::Extent;
use crate::recipe::text::shape::with_origin;
use crate::recipe::text::tree::{Data, Node, shown};
use serde_json::Value;
use std::collections::BTreeSet;

/// As many variables may each use the next.
const DEEP: usize = 64;

impl Vars {
    /// Puts variables into the values of others.
    pub(super) fn resolve(&mut self, faults: &mut Vec<Diagnostic>) {
        let open: Vec<String> =
            self.values.iter().filter(|(_, v)| holds_variable(&v.node)).map(|(name, _)| name.clone()).collect();
        let mut open: BTreeSet<String> = open.into_iter().collect();
        while let Some(name) = open.first().cloned() {
            self.resolve_one(&name, &mut Vec::new(), &mut open, faults);
        }
    }

    fn resolve_one(
        &mut self,
        name: &str,
        above: &mut Vec<String>,
        open: &mut BTreeSet<String>,
        faults: &mut Vec<Diagnostic>,
    ) {
        let Some(mut node) = self.values.get(name).map(|v| v.node.clone()) else { return };
        above.push(name.to_owned());
        let mut used = Vec::new();
        names(&node, &mut used);
        for other in used.iter().filter_map(|n| self.path(n)).map(|(root, _)| root).collect::<BTreeSet<_>>() {
            if above.contains(&other) {
                let title = format!("the variable {} uses itself", shown(name));
                let label = format!("it needs {}", shown(&other));
                faults.push(Diagnostic::error("E024", title, node.span.clone(), label).help("write one of them out"));
                node.data = Data::Unknown;
            } else if open.contains(&other) && above.len() >= DEEP {
                let title = format!("the variable {} is one of more than {DEEP} that each use the next", shown(name));
                let found = Diagnostic::error("E024", title, node.span.clone(), "too far from a value");
                faults.push(found.help("write one of them out"));
                node.data = Data::Unknown;
            } else if open.contains(&other) {
                self.resolve_one(&other, above, open, faults);
            }
        }
        above.pop();
        let (before, origin) = (faults.len(), Node { data: Data::Unknown, ..node.clone() });
        self.expand(&mut node, faults);
        for found in faults.split_off(before) {
            faults.push(with_origin(found, &origin));
        }
        open.remove(name);
        if let Some(value) = self.values.get_mut(name) {
            // A variable that is another as a whole is reported as that one.
            value.extent = Extent::of(&node);
            value.node = node;
        }
    }

    /// Puts the variables into all values below `node`, until the bound is reached.
    pub fn expand(&mut self, node: &mut Node, faults: &mut Vec<Diagnostic>) {
        if repeat::is_repeated(node) {
            return repeat::map(node, self, faults);
        }
        match &mut node.data {
            Data::List(items) if items.iter().any(repeat::is_repeated) => repeat::list(items, self, faults),
            Data::List(items) => items.iter_mut().for_each(|n| self.expand(n, faults)),
            Data::Map(entries) if entries.iter().any(|e| e.key.contains("${")) => repeat::names(entries, self, faults),
            Data::Map(entries) => entries.retain_mut(|e| self.expand_entry(&mut e.value, faults)),
            Data::Scalar(Value::String(text)) if text.contains("${") => match self.text(text, &node.span) {
                Ok(Put::Whole(value)) => {
                    let span = std::mem::replace(&mut node.span, 0..0);
                    *node = value;
                    node.span = span;
                }
                Ok(Put::Text(text)) => node.data = Data::Scalar(Value::String(text)),
                Err(found) => {
                    faults.extend(found.map(|d| *d));
                    node.data = Data::Unknown;
                }
            },
            _ => {}
        }
    }

    /// Puts the variables into the value of a map's entry; whether the entry stays. One that is nothing but a variable that may be
    /// lacking is left out where it is.
    pub fn expand_entry(&mut self, value: &mut Node, faults: &mut Vec<Diagnostic>) -> bool {
        let may_lack = is_optional(value);
        self.expand(value, faults);
        !(may_lack && value.is_null())
    }

    /// Puts the variables and `more` of them into all values below `node`. Those of `more` that were used.
    pub fn expand_with(
        &mut self,
        node: &mut Node,
        more: Vec<(String, Node)>,
        faults: &mut Vec<Diagnostic>,
    ) -> BTreeSet<String> {
        self.with(more, |vars| vars.expand(node, faults))
    }
}

/// Whether a value is nothing but a variable that may be lacking.
fn is_optional(node: &Node) -> bool {
    matches!(&node.data, Data::Scalar(Value::String(text)) if text.starts_with("${") && text.ends_with("?}"))
}

fn holds_variable(node: &Node) -> bool {
    match &node.data {
        Data::Scalar(Value::String(text)) => text.replace("$${", "").contains("${"),
        Data::List(items) => items.iter().any(holds_variable),
        // A matrix inside of a value is put in as variables are.
        Data::Map(entries) => {
            repeat::is_repeated(node) || entries.iter().any(|e| e.key.contains("${") || holds_variable(&e.value))
        }
        _ => false,
    }
}
