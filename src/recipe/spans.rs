//! Where things stand in a recipe.

use super::Span;
use crate::recipe::text::tree::{Entry, Node, SetAt};
use std::collections::BTreeMap;

/// Where the stages of a recipe stand, by name.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    pub(super) stages: BTreeMap<String, StageSpans>,
    /// The recipe's seed, if it sets one.
    pub seed: Option<Span>,
    /// Its `numerics`, if it has them.
    pub numerics: Option<Span>,
}

/// Where the parts of one stage stand.
#[derive(Clone, Debug)]
pub struct StageSpans {
    /// Its name.
    pub name: Span,
    /// The name of its kind.
    pub uses: Span,
    /// The word `with`, if it is there.
    pub with: Option<Span>,
    /// Its own seed.
    pub seed: Option<Span>,
    /// The values of its `needs`, by port or `port.name`.
    pub needs: BTreeMap<String, Span>,
    /// Its parameters as written, those of `defaults` among them.
    pub(super) params: Option<Node>,
}

impl Spans {
    /// The parts of the stage of this name.
    #[must_use]
    pub fn stage(&self, name: &str) -> Option<&StageSpans> {
        self.stages.get(name)
    }
    /// The value of a parameter (`algorithm.plain.rate`) of a stage, if the recipe sets it: in the stage, in
    /// `defaults`, or as a variable.
    #[must_use]
    pub fn param(&self, stage: &str, path: &str) -> Option<Span> {
        let spot = find(self.stage(stage)?.params.as_ref()?, &steps(path));
        spot.rest.is_empty().then(|| spot.node.span.clone())
    }
    /// The variable that a parameter gets its value from, and what set it.
    #[must_use]
    pub fn variable(&self, stage: &str, path: &str) -> Option<(&str, &SetAt)> {
        let spot = find(self.stage(stage)?.params.as_ref()?, &steps(path));
        let var = spot.node.var.as_ref()?;
        Some((&var.name, &var.set))
    }
}

/// How far a path leads into a value.
pub(super) struct Spot<'n> {
    /// The last value that is there.
    pub node: &'n Node,
    /// The entry that names it, if it is in a map.
    pub entry: Option<&'n Entry>,
    /// The rest of the path.
    pub rest: Vec<String>,
}

/// The steps of `a.b[0].c`.
pub(super) fn steps(path: &str) -> Vec<String> {
    path.split(['.', '[']).map(|s| s.trim_end_matches(']').to_owned()).filter(|s| !s.is_empty()).collect()
}

/// Follows a path as far as it leads.
pub(super) fn find<'n>(root: &'n Node, path: &[String]) -> Spot<'n> {
    use crate::recipe::text::tree::Data;
    let mut spot = Spot { node: root, entry: None, rest: Vec::new() };
    for (at, step) in path.iter().enumerate() {
        let next = match &spot.node.data {
            Data::Map(_) => spot.node.get(step).map(|e| (&e.value, Some(e))),
            Data::List(items) => step.parse::<usize>().ok().and_then(|i| items.get(i)).map(|n| (n, None)),
            _ => None,
        };
        let Some((node, entry)) = next else {
            spot.rest = path[at..].to_vec();
            break;
        };
        (spot.node, spot.entry) = (node, entry.or(spot.entry));
    }
    spot
}
