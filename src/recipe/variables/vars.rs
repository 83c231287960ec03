//! Variables: `"${iters}"` in any value. A value that is nothing else takes the variable's value, type and all; inside
//! other text the variable is written out. `$${` stands for `${` itself. Of a map `"${tasks.ocr}"` is what it has there, and
//! `"${tasks.ocr?}"` that or nothing. A variable may use others.

use crate::recipe::text::bound::{Bound, Extent};
use crate::recipe::text::near::{Hints, hint};
use crate::recipe::text::tree::{self, Data, Entry, Node, Origin, SetAt, scalar, shown};
use crate::recipe::variables::outside::Outside;
use crate::recipe::variables::set::Assignment;
use crate::recipe::variables::varfile::Layer;
use crate::recipe::{Diagnostic, Span};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The variables of a recipe.
#[derive(Default)]
pub(crate) struct Vars {
    pub(super) values: BTreeMap<String, Variable>,
    places: BTreeMap<String, Span>,
    used: BTreeSet<String>,
    hints: Hints,
    /// How much more may be put in.
    pub bound: Bound,
}

/// The value of a variable, and what a copy of it comes to.
pub(super) struct Variable {
    pub node: Node,
    pub extent: Extent,
}

impl Variable {
    pub(super) fn new(mut node: Node, name: &str, set: SetAt) -> Self {
        node.var = Some(Arc::new(Origin { name: name.to_owned(), set }));
        Self { extent: Extent::of(&node), node }
    }
}

impl Vars {
    /// Takes the variables, and what is set in their place from outside. `start` is where to show a fault of that, `own`
    /// the text of the recipe itself: of its variables each must be used. What is set of stages comes back.
    pub fn read(
        entries: Vec<Entry>,
        outside: &Outside<'_>,
        bound: Bound,
        (start, own): (&Span, &Span),
        faults: &mut Vec<Diagnostic>,
    ) -> (Self, Vec<Assignment>) {
        let mut vars = Self { bound, ..Self::default() };
        let any = !entries.is_empty();
        // What a variable uses is used, also where its own value comes from outside.
        let mut used = Vec::new();
        entries.iter().for_each(|e| names(&e.value, &mut used));
        for Entry { key, key_span, value } in entries {
            if own.contains(&key_span.start) {
                vars.places.insert(key.clone(), key_span);
            }
            let set = SetAt::Recipe(value.span.clone());
            vars.values.insert(key.clone(), Variable::new(value, &key, set));
        }
        vars.used = used.iter().filter_map(|name| vars.path(name)).map(|(root, _)| root).collect();
        let mut stages = Vec::new();
        for (name, value, place) in outside.layers.iter().flat_map(Layer::values) {
            stages.extend(vars.set(name, place, value.data.clone(), (any, start), faults));
        }
        for (name, text) in &outside.overrides.vars {
            // The text of a stage's parameter may be any value; that of a variable is a list where the recipe has one.
            let structure = match vars.get(name) {
                Some(value) => !matches!(value.data, Data::Scalar(_)),
                None => Assignment::of(name).is_some(),
            };
            let data = structure.then(|| flow(text, &mut vars.bound)).flatten();
            let data = data.unwrap_or_else(|| Data::Scalar(scalar(text)));
            stages.extend(vars.set(name, format!("--set {name}={text}"), data, (any, start), faults));
        }
        vars.resolve(faults);
        (vars, stages)
    }

    /// Sets a variable that the recipe has, or what one has at `name`. `from` says in words where the value came from. What
    /// is of a stage comes back.
    fn set(
        &mut self,
        name: &str,
        from: String,
        data: Data,
        (any, start): (bool, &Span),
        faults: &mut Vec<Diagnostic>,
    ) -> Option<Assignment> {
        if let Some((root, path)) = self.path(name)
            && let Some(value) = self.values.get_mut(&root)
            && let Some(place) = value.node.at_mut(&path)
        {
            let mut node = Node::new(place.span.clone(), data);
            node.stand_at(place.span.clone());
            node.var = Some(Arc::new(Origin { name: name.to_owned(), set: SetAt::Outside(from.clone()) }));
            *place = node;
            if path.is_empty() {
                let node = value.node.clone();
                *value = Variable::new(node, name, SetAt::Outside(from));
            } else {
                value.extent = Extent::of(&value.node);
            }
            return None;
        }
        if let Some(assignment) = Assignment::of(name) {
            return Some(assignment.with(from, data));
        }
        let title = format!("`{from}` sets a variable that the recipe does not have");
        let label = if any { "its variables are here" } else { "it has no `vars`" };
        let found = Diagnostic::error("E020", title, start.clone(), label);
        let help = self.missing(name, start).help;
        faults.push(found.maybe_help(help.filter(|_| any)));
        None
    }

    /// The variable that a name begins with, and the rest of the name as a path into it.
    pub(super) fn path(&self, name: &str) -> Option<(String, Vec<String>)> {
        if self.values.contains_key(name) {
            return Some((name.to_owned(), Vec::new()));
        }
        let points = name.match_indices('.').map(|(at, _)| at).rev();
        for at in points {
            // What the axes of a matrix have at their value stands beside them under a name of its own.
            for root in [&name[..=at], &name[..at]] {
                if self.values.contains_key(root) {
                    return Some((root.to_owned(), name[at + 1..].split('.').map(ToOwned::to_owned).collect()));
                }
            }
        }
        None
    }

    /// The value of a name, if there is one.
    fn get(&self, name: &str) -> Option<&Node> {
        let (root, path) = self.path(name)?;
        self.values.get(&root)?.node.at(&path)
    }

    /// Does something while `more` are variables too; those of them that it used. What they hide comes back after it.
    pub fn with(&mut self, more: Vec<(String, Node)>, work: impl FnOnce(&mut Self)) -> BTreeSet<String> {
        let mut hidden = Vec::with_capacity(more.len());
        for (name, value) in more {
            let set = SetAt::Recipe(value.span.clone());
            let before = self.values.insert(name.clone(), Variable::new(value, &name, set));
            let used = self.used.remove(&name);
            hidden.push((name, before, used));
        }
        work(self);
        let mut found = BTreeSet::new();
        for (name, before, used) in hidden {
            self.values.remove(&name);
            if let Some(before) = before {
                self.values.insert(name.clone(), before);
            }
            if self.used.remove(&name) {
                found.insert(name.clone());
            }
            if used {
                self.used.insert(name);
            }
        }
        found
    }

    /// The name of an entry with the variables put in; nothing if it cannot be one.
    pub fn name(&mut self, text: &str, span: &Span, faults: &mut Vec<Diagnostic>) -> Option<String> {
        match self.text(text, span) {
            Ok(Put::Text(text)) => Some(text),
            Ok(Put::Whole(node)) => match &node.data {
                Data::Scalar(Value::String(text)) => Some(text.clone()),
                Data::Scalar(Value::Number(number)) => Some(number.to_string()),
                Data::Unknown => None,
                _ => {
                    faults.push(crate::recipe::text::shape::wrong(
                        &Node { span: span.clone(), ..node },
                        "a name",
                        "a text",
                    ));
                    None
                }
            },
            Err(found) => {
                faults.extend(found.map(|d| *d));
                None
            }
        }
    }

    /// Those that nothing uses.
    pub fn unused(&self) -> impl Iterator<Item = Diagnostic> + '_ {
        self.places.iter().filter(|(name, _)| !self.used.contains(*name)).map(|(name, span)| {
            let title = format!("the variable {} is never used", shown(name));
            let help = format!("use it as \"${{{name}}}\" in a value, or take it out");
            Diagnostic::error("E022", title, span.clone(), "no value uses it").help(help)
        })
    }

    /// The fault of a name that is no variable, or of what a variable does not have.
    fn missing(&mut self, name: &str, span: &Span) -> Diagnostic {
        if let Some((root, path)) = self.path(name)
            && let Some(value) = self.values.get(&root)
        {
            let there = (0..path.len()).rev().find_map(|n| Some((n, value.node.at(&path[..n])?)));
            let (n, node) = there.unwrap_or((0, &value.node));
            let whole = [&[root.trim_end_matches('.').to_owned()], &path[..n]].concat().join(".");
            let title = format!("{} has no {}", shown(&whole), shown(&path[n]));
            let found = Diagnostic::error("E020", title, span.clone(), "used here");
            let help = hint(&path[n], node.entries().iter().map(|e| e.key.as_str()).collect::<Vec<_>>());
            let none = format!("it is {}", node.found());
            return found.help(help.unwrap_or(none));
        }
        let title = format!("there is no variable {}", shown(name));
        let found = Diagnostic::error("E020", title, span.clone(), "used here");
        let none = "give it a value under `vars:` at the top of the recipe".to_owned();
        let names = self.values.keys().map(String::as_str);
        found.help(self.hints.hint(name, self.values.len(), names).unwrap_or(none))
    }

    /// A text with the variables put in. Nothing is said where a variable was reported before.
    pub(super) fn text(&mut self, text: &str, span: &Span) -> Result<Put, Option<Box<Diagnostic>>> {
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
            let (name, optional) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
            let path = self.path(name);
            let root = path.as_ref().and_then(|(root, _)| self.values.get(root));
            let value = root.zip(path.as_ref()).and_then(|(root, (_, path))| root.node.at(path));
            let unknown = root.is_some_and(|r| matches!(r.node.data, Data::Unknown));
            if let Some((root, _)) = &path {
                self.used.insert(root.clone());
            }
            let Some(value) = value else {
                if unknown {
                    return Err(None);
                }
                // What a variable may lack is nothing; the variable itself must be there.
                if optional && root.is_some() {
                    if at == 0 && after.is_empty() && rest.len() == text.len() {
                        return Ok(Put::Whole(Node::new(span.clone(), Data::Scalar(Value::Null))));
                    }
                    rest = after;
                    continue;
                }
                return fail(self.missing(name, span));
            };
            if matches!(value.data, Data::Unknown) {
                return Err(None);
            }
            if at == 0 && after.is_empty() && rest.len() == text.len() {
                if !self.bound.take(
                    if path.as_ref().is_some_and(|(_, path)| path.is_empty()) {
                        root.map_or(Extent::VALUE, |r| r.extent)
                    } else {
                        Extent::of(value)
                    },
                    span,
                ) {
                    return Err(None);
                }
                let mut node = value.clone();
                if node.var.is_none() {
                    // A part of a variable has its place there.
                    let set = SetAt::Recipe(node.span.clone());
                    node.var = Some(Arc::new(Origin { name: name.to_owned(), set }));
                }
                return Ok(Put::Whole(node));
            }
            match &value.data {
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
                    let label = format!("it is {}", value.found());
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

/// What the command line writes in the place of a list or a map: `[1, 2]`.
fn flow(text: &str, bound: &mut Bound) -> Option<Data> {
    let mut faults = Vec::new();
    let node = tree::parse(text, bound, &mut faults)?;
    (faults.is_empty() && matches!(node.data, Data::List(_) | Data::Map(_))).then_some(node.data)
}

/// What comes of a text with variables in it.
pub(super) enum Put {
    /// It was one variable and nothing else: that one's value.
    Whole(Node),
    Text(String),
}

/// The names of the variables below a node.
pub(super) fn names(node: &Node, found: &mut Vec<String>) {
    match &node.data {
        Data::Scalar(Value::String(text)) => {
            let text = text.replace("$${", "");
            let names = text.split("${").skip(1).filter_map(|t| Some(t.split_once('}')?.0));
            found.extend(names.map(|name| name.trim_end_matches('?').to_owned()));
        }
        Data::List(items) => items.iter().for_each(|n| names(n, found)),
        Data::Map(entries) => entries.iter().for_each(|e| names(&e.value, found)),
        _ => {}
    }
}
