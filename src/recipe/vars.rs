//! Variables: `"${iters}"` in any value. A value that is nothing else takes the variable's value, type and all; inside
//! other text the variable is written out. `$${` stands for `${` itself.

use super::bound::{Bound, Extent};
use super::near::Hints;
use super::tree::{self, Data, Node, Origin, SetAt, scalar, shown};
use super::varfile::Layer;
use super::{Diagnostic, Overrides, Span};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What sets variables from outside of the recipe.
pub(super) struct Outside<'a> {
    /// Files of variables, the last one uppermost.
    pub layers: Vec<Layer>,
    /// The command line, above them.
    pub overrides: &'a Overrides,
}

/// The variables of a recipe.
#[derive(Default)]
pub(super) struct Vars {
    values: BTreeMap<String, Variable>,
    places: BTreeMap<String, Span>,
    used: BTreeSet<String>,
    hints: Hints,
    /// How much more may be put in.
    pub bound: Bound,
}

/// The value of a variable, and what a copy of it comes to.
struct Variable {
    node: Node,
    extent: Extent,
}

impl Variable {
    fn new(mut node: Node, name: &str, set: SetAt) -> Self {
        node.var = Some(Arc::new(Origin { name: name.to_owned(), set }));
        Self { extent: Extent::of(&node), node }
    }
}

impl Vars {
    /// Takes the variables under `vars`, and what is set in their place from outside. `start` is where to show a fault
    /// of that.
    pub fn read(
        node: Option<&Node>,
        outside: &Outside<'_>,
        bound: Bound,
        start: &Span,
        faults: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut vars = Self { bound, ..Self::default() };
        for entry in node.map(Node::entries).unwrap_or_default() {
            let mut value = entry.value.clone();
            if holds_variable(&value) {
                let label = "its value uses a variable";
                let title = format!("the variable {} uses another variable", shown(&entry.key));
                faults.push(Diagnostic::error("E024", title, value.span.clone(), label).help("write the value out"));
                value.data = Data::Unknown;
            }
            vars.places.insert(entry.key.clone(), entry.key_span.clone());
            let set = SetAt::Recipe(entry.value.span.clone());
            vars.values.insert(entry.key.clone(), Variable::new(value, &entry.key, set));
        }
        for (name, value, place) in outside.layers.iter().flat_map(Layer::values) {
            vars.set(name, place, value.data.clone(), node.is_some(), start, faults);
        }
        for (name, text) in &outside.overrides.vars {
            let listed = vars.values.get(name).is_some_and(|v| matches!(v.node.data, Data::List(_)));
            let data =
                listed.then(|| list(text, &mut vars.bound)).flatten().unwrap_or_else(|| Data::Scalar(scalar(text)));
            vars.set(name, format!("--set {name}={text}"), data, node.is_some(), start, faults);
        }
        vars
    }

    /// Sets a variable that the recipe has. `from` says in words where the value came from.
    fn set(&mut self, name: &str, from: String, data: Data, any: bool, start: &Span, faults: &mut Vec<Diagnostic>) {
        if let Some(value) = self.values.get_mut(name) {
            let mut node = Node::new(value.node.span.clone(), data);
            node.stand_at(value.node.span.clone());
            *value = Variable::new(node, name, SetAt::Outside(from));
        } else {
            let title = format!("`{from}` sets a variable that the recipe does not have");
            let label = if any { "its variables are here" } else { "it has no `vars`" };
            let found = Diagnostic::error("E020", title, start.clone(), label);
            let names = self.values.keys().map(String::as_str);
            faults.push(found.maybe_help(self.hints.hint(name, self.values.len(), names)));
        }
    }

    /// Puts the variables into all values below `node`, until the bound is reached.
    pub fn expand(&mut self, node: &mut Node, faults: &mut Vec<Diagnostic>) {
        match &mut node.data {
            Data::List(items) => items.iter_mut().for_each(|n| self.expand(n, faults)),
            Data::Map(entries) => entries.iter_mut().for_each(|e| self.expand(&mut e.value, faults)),
            Data::Scalar(Value::String(text)) if text.contains("${") => match self.text(text, &node.span) {
                Ok(Put::Whole(name)) => {
                    if let Some(value) = self.values.get(&name)
                        && self.bound.take(value.extent, &node.span)
                    {
                        let span = std::mem::replace(&mut node.span, 0..0);
                        *node = value.node.clone();
                        node.span = span;
                    }
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

    /// Puts the variables and `more` of them into all values below `node`. Those of `more` that were used.
    pub fn expand_with(
        &mut self,
        node: &mut Node,
        more: Vec<(String, Node)>,
        faults: &mut Vec<Diagnostic>,
    ) -> BTreeSet<String> {
        let names: Vec<String> = more.iter().map(|(name, _)| name.clone()).collect();
        for (name, value) in more {
            let set = SetAt::Recipe(value.span.clone());
            let value = Variable::new(value, &name, set);
            self.values.insert(name, value);
        }
        self.expand(node, faults);
        names.iter().for_each(|name| drop(self.values.remove(name)));
        names.into_iter().filter(|name| self.used.remove(name)).collect()
    }

    /// Those that nothing uses.
    pub fn unused(&self) -> impl Iterator<Item = Diagnostic> + '_ {
        self.places.iter().filter(|(name, _)| !self.used.contains(*name)).map(|(name, span)| {
            let title = format!("the variable {} is never used", shown(name));
            let help = format!("use it as \"${{{name}}}\" in a value, or take it out");
            Diagnostic::error("E022", title, span.clone(), "no value uses it").help(help)
        })
    }

    fn text(&mut self, text: &str, span: &Span) -> Result<Put, Option<Box<Diagnostic>>> {
        let fail = |d: Diagnostic| Err(Some(Box::new(d)));
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                out.push_str(&rest[..at - 1]);
                out.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            out.push_str(&rest[..at]);
            let Some((name, after)) = rest[at + 2..].split_once('}') else {
                let found = Diagnostic::error("E023", "a variable is not closed", span.clone(), "`${` without `}`");
                return fail(found.help("close it with `}`, or write `$${` for the text `${`"));
            };
            let Some(value) = self.values.get(name) else {
                let title = format!("there is no variable {}", shown(name));
                let found = Diagnostic::error("E020", title, span.clone(), "used here");
                let none = "give it a value under `vars:` at the top of the recipe".to_owned();
                let names = self.values.keys().map(String::as_str);
                return fail(found.help(self.hints.hint(name, self.values.len(), names).unwrap_or(none)));
            };
            self.used.insert(name.to_owned());
            if matches!(value.node.data, Data::Unknown) {
                return Err(None);
            }
            if at == 0 && after.is_empty() && rest.len() == text.len() {
                return Ok(Put::Whole(name.to_owned()));
            }
            match &value.node.data {
                Data::Scalar(Value::String(s)) => {
                    if !self.bound.take(Extent::text(s), span) {
                        return Err(None);
                    }
                    out.push_str(s);
                }
                Data::Scalar(Value::Null) => {}
                Data::Scalar(other) => out.push_str(&other.to_string()),
                _ => {
                    let title = format!("the variable {} cannot be put into text", shown(name));
                    let label = format!("it is {}", value.node.found());
                    let found = Diagnostic::error("E021", title, span.clone(), label);
                    return fail(found.help("use it alone, as the whole value"));
                }
            }
            rest = after;
        }
        out.push_str(rest);
        Ok(Put::Text(out))
    }
}

/// What the command line writes in the place of a list: `[1, 2]`.
fn list(text: &str, bound: &mut Bound) -> Option<Data> {
    let mut faults = Vec::new();
    let node = tree::parse(text, bound, &mut faults)?;
    (faults.is_empty() && matches!(node.data, Data::List(_))).then_some(node.data)
}

enum Put {
    Whole(String),
    Text(String),
}

pub(super) fn holds_variable(node: &Node) -> bool {
    match &node.data {
        Data::Scalar(Value::String(text)) => text.replace("$${", "").contains("${"),
        Data::List(items) => items.iter().any(holds_variable),
        Data::Map(entries) => entries.iter().any(|e| holds_variable(&e.value)),
        _ => false,
    }
}
