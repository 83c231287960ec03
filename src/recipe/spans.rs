//! Where things stand in a recipe.

use super::{Diagnostic, Span};
use crate::recipe::check::params;
use crate::recipe::text::tree::{Entry, Node, SetAt};
use opdflow_stage::{Doubt, ParamFault, Unreadable};
use std::collections::BTreeMap;

/// Where the stages of a recipe stand, by name.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    pub(super) stages: BTreeMap<String, StageSpans>,
    /// The recipe's seed, if it sets one.
    pub seed: Option<Span>,
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
    /// A fault of a parameter that came to light after the recipe was read.
    #[must_use]
    pub fn asset_fault(&self, stage: &str, fault: &ParamFault) -> Diagnostic {
        self.fault("E050", stage, fault)
    }
    /// A bug of a stage's kind.
    pub(crate) fn bug(&self, stage: &str, bug: &Unreadable) -> Diagnostic {
        match self.stage(stage) {
            Some(spans) => params::unreadable(spans, bug),
            None => Diagnostic::error("E000", bug.to_string(), 0..0, ""),
        }
    }
    /// What a stage needs of the machine and does not find, at the parameter that calls for it.
    pub fn machine_fault(&self, stage: &str, fault: &ParamFault) -> Diagnostic {
        let title = format!("stage `{stage}` needs what this machine does not have");
        Diagnostic { title, ..self.fault("E051", stage, fault) }
    }
    /// What a stage is doubted for, at the parameter or the connection that it is about.
    #[must_use]
    pub fn doubt(&self, stage: &str, doubt: &Doubt) -> Diagnostic {
        let times = if doubt.count > 1 { format!(" ({} times)", doubt.count) } else { String::new() };
        let title = format!("stage `{stage}`: {}{times}", doubt.warning().message);
        let port = doubt.path.strip_prefix("needs.").and_then(|port| self.stage(stage)?.needs.get(port).cloned());
        let span = match port {
            Some(span) => span,
            None => self.fault(doubt.code, stage, &ParamFault::new(doubt.path.clone(), String::new())).span,
        };
        Diagnostic::warning(doubt.code, title, span, "").help(doubt.help)
    }
    /// What does not fit what is known of a stage's inputs, or of the files that it names.
    #[must_use]
    pub fn unfit(&self, stage: &str, fault: &ParamFault) -> Diagnostic {
        self.fault("E045", stage, fault)
    }
    fn fault(&self, code: &'static str, stage: &str, fault: &ParamFault) -> Diagnostic {
        match self.stage(stage) {
            Some(spans) => params::diagnostic(code, stage, spans, fault),
            None => Diagnostic::error(code, fault.message.clone(), 0..0, ""),
        }
    }
}

/// How far a way leads into a value.
pub(super) struct Spot<'n> {
    /// The last value that is there.
    pub node: &'n Node,
    /// The entry that names it, if it is in a map.
    pub entry: Option<&'n Entry>,
    /// What of the way is left.
    pub rest: Vec<String>,
}

/// The steps of `a.b[0].c`.
pub(super) fn steps(path: &str) -> Vec<String> {
    path.split(['.', '[']).map(|s| s.trim_end_matches(']').to_owned()).filter(|s| !s.is_empty()).collect()
}

/// Follows a way as far as it leads.
pub(super) fn find<'n>(root: &'n Node, way: &[String]) -> Spot<'n> {
    use crate::recipe::text::tree::Data;
    let mut spot = Spot { node: root, entry: None, rest: Vec::new() };
    for (at, step) in way.iter().enumerate() {
        let next = match &spot.node.data {
            Data::Map(_) => spot.node.get(step).map(|e| (&e.value, Some(e))),
            Data::List(items) => step.parse::<usize>().ok().and_then(|i| items.get(i)).map(|n| (n, None)),
            _ => None,
        };
        let Some((node, entry)) = next else {
            spot.rest = way[at..].to_vec();
            break;
        };
        (spot.node, spot.entry) = (node, entry.or(spot.entry));
    }
    spot
}
