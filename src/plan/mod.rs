//! From a recipe to a plan: the graph, the keys, and what the store already has.

mod asked;
mod graph;
pub mod history;
pub mod identity;
pub mod key;
pub mod lineage;
pub mod manifest;
mod pinned;
mod planned;
pub mod verdict;

pub use key::{Keys, NumericFacts, keys};
pub use planned::Planned;
pub use verdict::{Verdict, verdicts};

use crate::recipe::{Device, Diagnostic, Diagnostics, Numerics, Recipe, Strict};
use asked::{Asked, Omitted, Said};
use opdflow_api::{Asset, Doubt, Foreseen, ParamFault};
use opdflow_cache::{Digest, Memo, Store};
use petgraph::graph::DiGraph;
use std::collections::BTreeMap;

/// A recipe in the order of work, with all that its keys need apart from the outputs of its own stages.
pub struct Plan {
    /// The recipe.
    pub recipe: Recipe,
    /// Its stages: each after all that it needs, otherwise in the order of the file.
    pub stages: Vec<Planned>,
    /// What is known of the arithmetic here.
    pub facts: NumericFacts,
    /// A node for each of `stages`, in the same order; an edge from a stage to each that reads it.
    graph: DiGraph<(), ()>,
}

/// What the record of a stage's result notes beside its manifest, and what others find there later: what it had to do
/// ([`history::facts`]), and which inputs are one of several seeds ([`lineage::note`]).
#[must_use]
pub fn notes(planned: &Planned) -> BTreeMap<String, String> {
    history::facts(planned).into_iter().chain(lineage::note(&planned.spec)).collect()
}

impl Plan {
    /// Orders the stages and reads the assets that they name, without a memo of digests.
    ///
    /// # Errors
    /// Assets that are missing or unreadable, each at the parameter that names it.
    pub fn new(recipe: Recipe, facts: NumericFacts) -> Result<Self, Diagnostics> {
        let plan = Self::survey(recipe, facts, &Memo::none());
        let all: Vec<usize> = (0..plan.stages.len()).collect();
        plan.whole(&all)?;
        Ok(plan)
    }
    /// Orders the stages and looks at the assets that they name. What is missing is kept in [`Planned::missing`].
    #[must_use]
    pub fn survey(recipe: Recipe, facts: NumericFacts, memo: &Memo) -> Self {
        let order = graph::order(&recipe);
        let place: BTreeMap<&str, usize> =
            order.iter().enumerate().map(|(at, &i)| (recipe.stages[i].name.as_str(), at)).collect();
        let mut stages: Vec<Planned> = Vec::with_capacity(order.len());
        let mut foreseen: Vec<Foreseen> = Vec::with_capacity(order.len());
        let mut omitted: Vec<Vec<Omitted>> = Vec::with_capacity(order.len());
        let mut asked = Asked::default();
        for &i in &order {
            let spec = recipe.stages[i].clone();
            let needs: BTreeMap<String, (usize, String)> = spec
                .needs
                .iter()
                .filter_map(|(port, up)| Some((port.clone(), (*place.get(up.stage.as_str())?, up.port.clone()))))
                .collect();
            let known: Foreseen = needs
                .iter()
                .map(|(port, (up, out))| (port.clone(), foreseen[*up].get(out).cloned().unwrap_or_default()))
                .collect();
            let ports = spec.ports();
            let fault = |f: &ParamFault| recipe.spans.asset_fault(&spec.name, f);
            let (assets, mut missing) = match asked.assets(&spec, &spec.folder, memo) {
                Ok(assets) => (assets, Vec::new()),
                Err(faults) => (Vec::new(), faults.iter().map(fault).collect()),
            };
            let said = asked.said(&spec, &spec.folder, &ports, &known).unwrap_or_else(|bug| {
                missing.push(recipe.spans.bug(&spec.name, &bug));
                Said::default()
            });
            let Said { lacking, mut unfit, omits, mut resources, foreseen: leaves, memory, calls, horizon, code, work } =
                said;
            let here = !facts.elsewhere.contains(spec.kind.describe().kind);
            let lacking = lacking.iter().filter(|_| here).map(|f| recipe.spans.machine_fault(&spec.name, f)).collect();
            unfit.extend(
                needs.iter().filter_map(|(port, (up, out))| not_left(port, &stages[*up].spec.name, &omitted[*up], out)),
            );
            let unfit = unfit.iter().map(|f| recipe.spans.unfit(&spec.name, f)).collect();
            resources.cpus = spec.cpus.unwrap_or(resources.cpus).max(1);
            let content: BTreeMap<&String, Digest> = assets.iter().map(|a: &Asset| (&a.name, a.digest)).collect();
            let sizes = history::sizes(&spec, horizon.as_ref(), &serde_json::json!(content), [&known, &leaves]);
            foreseen.push(leaves);
            omitted.push(omits);
            stages.push(Planned {
                foreseen: known,
                needs,
                assets,
                code,
                missing,
                unfit,
                lacking,
                work,
                sizes,
                memory,
                calls,
                horizon,
                resources,
                spec,
            });
        }
        pinned::hold(&recipe, &mut stages, memo);
        let graph = graph::of(&stages);
        Self { recipe, stages, facts, graph }
    }

    /// The stages that the recipe is for: all, or those that a lock names and what they need.
    #[must_use]
    pub fn meant(&self) -> Vec<usize> {
        match &self.recipe.locked {
            None => (0..self.stages.len()).collect(),
            Some(locked) => self.needed(&locked.lock.stages.iter().filter_map(|s| self.index(s)).collect::<Vec<_>>()),
        }
    }

    /// Whether nothing is missing that one of these stages needs, and nothing known that it would refuse.
    ///
    /// # Errors
    /// Everything that is missing or does not fit, sorted by place.
    pub fn whole(&self, stages: &[usize]) -> Result<(), Diagnostics> {
        let of = |&i: &usize| self.stages[i].missing.iter().chain(&self.stages[i].unfit).cloned();
        let missing: Vec<Diagnostic> = stages.iter().flat_map(of).chain(self.other_libtorch()).collect();
        if missing.is_empty() { Ok(()) } else { Err(self.recipe.diagnostics(missing)) }
    }
    /// The fault of a recipe that is for another libtorch than the stages would run with.
    fn other_libtorch(&self) -> Option<Diagnostic> {
        let Numerics::Strict(Strict { libtorch: Some(wanted), .. }) = &self.recipe.numerics else { return None };
        let (span, own) = (self.recipe.spans.numerics.clone()?, &self.facts.libtorch);
        (wanted != own).then(|| {
            let title = format!("the recipe is for libtorch {wanted}, and this program has libtorch {own}");
            let help = format!(
                "use the program that it was written for, or write `libtorch: \"{own}\"`: results are then made anew"
            );
            Diagnostic::error("E045", title, span, "other results would pass for these").help(help)
        })
    }
    /// The fault of a recipe that is for GPUs on a machine with none, where one of these stages would need it.
    fn other_device(&self, mut stages: impl Iterator<Item = usize>) -> Option<Diagnostic> {
        let Numerics::Strict(Strict { device: Device::Cuda, .. }) = &self.recipe.numerics else { return None };
        let span = self.recipe.spans.numerics.clone().filter(|_| !self.facts.gpu)?;
        let here = |i: usize| !self.facts.elsewhere.contains(self.stages[i].spec.kind.describe().kind);
        let name = &self.stages[stages.find(|i| here(*i) && self.on_gpu(*i))?].spec.name;
        let title = format!("`{name}` is to run on a GPU, and this machine has none");
        let help = "run it where there is one, or write `device: cpu` or `numerics: portable`";
        Some(Diagnostic::error("E051", title, span, "the recipe says so here").help(help))
    }
    /// Whether this machine has what those of these stages need that have no result yet, or are `forced` to make it again.
    ///
    /// # Errors
    /// Everything that it lacks, sorted by place.
    pub fn equipped(&self, stages: &[usize], forced: &[bool], store: &Store) -> Result<(), Diagnostics> {
        let other_device = self.other_device(stages.iter().copied()).is_some();
        if !other_device && stages.iter().all(|&i| self.stages[i].lacking.is_empty()) {
            return Ok(());
        }
        let verdicts = verdicts(self, store);
        let runs = |i: usize| forced.get(i).copied().unwrap_or(false) || matches!(verdicts[i].0, Verdict::Missing);
        let lacking = |i: &&usize| runs(**i);
        let mut all: Vec<Diagnostic> =
            stages.iter().filter(lacking).flat_map(|&i| self.stages[i].lacking.clone()).collect();
        let made = |i: &usize| runs(*i) || !matches!(verdicts[*i].0, Verdict::Hit { .. });
        all.extend(self.other_device(stages.iter().copied().filter(made)));
        if all.is_empty() { Ok(()) } else { Err(self.recipe.diagnostics(all)) }
    }
    /// What recipe and files on the disk give reason to doubt, stage by stage. It reads prompts and headers again, so only
    /// commands that show it ask.
    #[must_use]
    pub fn doubts(&self) -> Vec<Vec<Doubt>> {
        let whole = |s: &Planned| s.missing.is_empty();
        // Parameters that cannot be read were told as missing.
        let of = |s: &Planned| {
            let own = s.spec.kind.doubts(&s.spec.params, &s.spec.folder, &s.foreseen).unwrap_or_default();
            own.into_iter().chain(s.idle()).collect()
        };
        self.stages.iter().map(|s| if whole(s) { of(s) } else { Vec::new() }).collect()
    }
    /// The warnings of the recipe, those doubts, and `more`, each at its place.
    #[must_use]
    pub fn warnings(&self, doubts: &[Vec<Doubt>], more: Vec<Diagnostic>) -> Diagnostics {
        let place = |(stage, of): (&Planned, &Vec<Doubt>)| -> Vec<Diagnostic> {
            of.iter().map(|doubt| self.recipe.spans.doubt(&stage.spec.name, doubt)).collect()
        };
        let all = self.stages.iter().zip(doubts).flat_map(place);
        self.recipe.diagnostics(self.recipe.warnings.iter().cloned().chain(all).chain(more).collect())
    }
    /// Where the stage of this name stands in [`Plan::stages`].
    #[must_use]
    pub fn index(&self, name: &str) -> Option<usize> {
        self.stages.iter().position(|s| s.spec.name == name)
    }
    /// The key of stage `i`, given the digests of what it reads, by port.
    #[must_use]
    pub fn keys(&self, i: usize, inputs: &BTreeMap<String, Digest>) -> Keys {
        keys(&self.stages[i], &self.recipe, &self.facts, inputs)
    }
    /// Whether stage `i` would run on a GPU: here, or where the recipe says.
    #[must_use]
    pub fn on_gpu(&self, i: usize) -> bool {
        let gpu = match &self.recipe.numerics {
            Numerics::Portable => self.facts.gpu,
            Numerics::Strict(strict) => strict.device == Device::Cuda,
        };
        gpu && self.stages[i].resources.gpu
    }
    /// The stages that read an output of stage `i`, each once, in order.
    #[must_use]
    pub fn dependents(&self, i: usize) -> Vec<usize> {
        graph::next(&self.graph, i, petgraph::Direction::Outgoing)
    }
    /// The stages whose outputs stage `i` reads, each once, in order.
    #[must_use]
    pub fn upstream(&self, i: usize) -> Vec<usize> {
        graph::next(&self.graph, i, petgraph::Direction::Incoming)
    }
    /// The given stages and all that they stand on, in order.
    #[must_use]
    pub fn needed(&self, targets: &[usize]) -> Vec<usize> {
        graph::needed(&self.graph, targets)
    }
    /// For each stage, the seconds from its start to the end of the longest path that begins with it. `seconds`
    /// says what one stage costs.
    #[must_use]
    pub fn critical(&self, seconds: impl Fn(usize) -> f64) -> Vec<f64> {
        graph::critical(&self.graph, seconds)
    }
}

/// The fault of reading an optional output that the stage `up` will not leave.
fn not_left(port: &str, up: &str, omitted: &[Omitted], output: &str) -> Option<ParamFault> {
    let (_, way) = omitted.iter().find(|(omitted, _)| *omitted == output)?;
    Some(ParamFault::of_port(port, format!("`{up}` will leave no `{output}`")).help(way))
}
