//! `select_checkpoint`: the best candidate of a run, by a stated rule.

use crate::fitting::fitting;
use crate::judge::{Set, Wanted};
use crate::jury::{self, CRITICS, Jury};
use crate::memory::judging;
use crate::operations::shots;
use crate::param::{self, EMBEDDINGS};
use crate::precision::Precision;
use crate::reward::{self, whole_of};
use crate::score::{self, Mean};
use crate::studio::{Shot, Studio};
use crate::train_teacher::{micro, one};
use crate::{adapter, candidates, code, folder, model_fit, prompt_set, provenance, unfit};
use anyhow::{Context as _, Result};
use opdflow_io::markdown::{Cell, Side, Table, code};
use opdflow_models::lora::Lora;
use opdflow_stage::cache::Memo;
use opdflow_stage::port::{Input, Output};
use opdflow_stage::warning::{BROKEN_CANDIDATE, NO_CHANGE};
use opdflow_stage::{
    Asset, Code, Description, Doubt, Environment, Fault, Foreseen, Memory, ParamFault, Ports, Resources, Stage,
    StageContext, Work,
};
use opdflow_training::idle::changes_nothing;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// The stage kind.
pub struct SelectCheckpoint;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Column to be highest: a reward's name, or one of its parts such as `geneval.strict`.
    maximise: String,
    /// Columns that must not fall below the base's by more than this: `{looks: 0.05}`.
    #[schemars(with = "BTreeMap<String, param::Fall>")]
    #[serde(default)]
    guard: BTreeMap<String, f64>,
    /// Only this many of the last candidates are scored; all if absent.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[serde(default)]
    last: Option<usize>,
    #[serde(default = "twenty_steps")]
    shot: Shot,
    #[serde(default)]
    #[schemars(with = "param::Size")]
    size: Option<i64>,
    #[serde(default, skip_serializing_if = "Precision::is_default")]
    precision: Precision,
    #[serde(default = "micro")]
    #[schemars(with = "param::MicroBatch")]
    micro_batch: usize,
    #[serde(default = "one")]
    #[schemars(with = "param::Threads")]
    threads: usize,
}

fn twenty_steps() -> Shot {
    Shot { steps: 20, ..Shot::default() }
}

impl Params {
    fn columns(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.maximise).chain(self.guard.keys())
    }
}

/// A candidate with its scores.
#[derive(Clone, Debug, Serialize)]
struct Candidate {
    step: String,
    scores: BTreeMap<String, Mean>,
    /// The first guard that it breaks, if it breaks one.
    breaks: Option<String>,
    /// What of it is not finite, if something is: it has no scores then.
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<String>,
}

impl Candidate {
    fn may_be_chosen(&self) -> bool {
        self.breaks.is_none() && self.broken.is_none()
    }
}

impl Stage for SelectCheckpoint {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "select_checkpoint",
            semantics: 2,
            about: "Scores every candidate on validation prompts and takes the one with the highest `maximise` among those that keep every guard; of equals, the earliest. If none keeps the guards, it fails and shows the table.",
            inputs: const {
                &[
                    Input::one("base", &["model"], "the base model; guards are measured against it"),
                    Input::one("candidates", &["candidates"], "a teacher's candidates"),
                    Input::many(
                        "prompts",
                        &["prompts"],
                        "validation prompts, under the name of the reward that they are for",
                    ),
                    Input::optional("embeddings", &["embeddings"], EMBEDDINGS),
                    CRITICS,
                ]
            },
            outputs: const {
                &[
                    Output::new("lora", "lora", "the chosen adapter"),
                    Output::new("candidates", "markdown", "the table of candidates with the choice"),
                    Output::new("choice", "json", "the same as data"),
                ]
            },
            outside_key: &["micro_batch", "threads"],
            seeded: false,
            numeric: true,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        let help = reward::offered;
        if !reward::known(&params.maximise) {
            faults.push(ParamFault::new("maximise", format!("no reward is named `{}`", params.maximise)).help(help()));
        }
        for name in params.guard.keys().filter(|n| !reward::known(n)) {
            faults.push(ParamFault::new(format!("guard.{name}"), format!("no reward is named `{name}`")).help(help()));
        }
        faults
    }

    fn wired(&self, params: &Params, ports: &Ports) -> Vec<ParamFault> {
        let maximised = std::iter::once(("maximise".to_owned(), params.maximise.as_str()));
        let guarded = params.guard.keys().map(|column| (format!("guard.{column}"), column.as_str()));
        let mut faults = Vec::new();
        for (path, column) in maximised.chain(guarded) {
            let name = whole_of(column);
            faults.extend(reward::unwired(path.clone(), name, ports));
            if !ports.contains(&format!("prompts.{name}")) {
                let what = format!("no validation prompts are connected as `prompts.{name}`");
                faults.push(ParamFault::new(path, what).help(format!("add `{name}` below `needs.prompts`")));
            }
        }
        faults
    }

    fn unfit(&self, params: &Params, _folder: &Path, _ports: &Ports, inputs: &Foreseen) -> Vec<ParamFault> {
        let mut faults = model_fit::faults(inputs, params.size, None);
        faults.extend(jury::misnamed(inputs));
        let maximised = std::iter::once(("maximise".to_owned(), &params.maximise));
        let mut seen = BTreeSet::new();
        for (path, column) in maximised.chain(params.guard.keys().map(|c| (format!("guard.{c}"), c))) {
            let name = whole_of(column);
            if seen.insert(name) {
                faults.extend(prompt_set::unfit(inputs, &format!("prompts.{name}"), &[name], Some(&path)));
            }
        }
        faults
    }

    fn lacks(&self, params: &Params, _ports: &Ports) -> Vec<ParamFault> {
        let maximised = reward::lacks("maximise", &params.maximise);
        maximised
            .or_else(|| params.guard.keys().find_map(|column| reward::lacks("guard", column)))
            .into_iter()
            .collect()
    }

    fn assets(&self, params: &Params, _folder: &Path, _memo: &Memo) -> Result<Vec<Asset>, Vec<ParamFault>> {
        let names: Vec<String> = params.columns().map(|c| whole_of(c).to_owned()).collect();
        Ok(reward::assets(names.iter()))
    }

    fn resources(&self, params: &Params) -> Resources {
        Resources { cpus: params.threads, gpu: true }
    }

    fn environment(&self, params: &Params) -> Environment {
        params.precision.environment()
    }

    fn code(&self, params: &Params, ports: &Ports) -> Code {
        let rewards = code::judging(params.columns().map(String::as_str), ports);
        let training = ["flow.training", "stages.files", "stages.training"];
        code::of("select_checkpoint", &[code::MODEL, &rewards, &training])
    }

    fn work(&self, params: &Params, _folder: &Path, inputs: &Foreseen) -> Option<Work> {
        let (model, shots) = shots(inputs, params.size, params.shot.steps, params.shot.guidance)?;
        let (count, bytes) = candidates::foreseen(inputs)?;
        let judged = params.last.map_or(count, |last| count.min(last as u64)) + u64::from(!params.guard.is_empty());
        Some(Work { operations: shots * judged as f64 + model.encoding(inputs), bytes: Some(bytes) })
    }

    fn memory(&self, params: &Params, inputs: &Foreseen) -> Vec<Memory> {
        judging(inputs, params.size, params.micro_batch, params.shot.guidance, params.precision)
    }

    fn foresee(&self, _params: &Params, _folder: &Path, inputs: &Foreseen) -> Foreseen {
        provenance::trained(inputs, &["candidates"], &["lora"])
    }

    fn doubts(&self, _params: &Params, _folder: &Path, inputs: &Foreseen) -> Vec<Doubt> {
        provenance::leaks(inputs, "candidates")
    }

    fn run(&self, params: Params, context: &mut StageContext) -> Result<()> {
        fitting(params.micro_batch, context, |micro_batch, context| {
            Self::attempt(Params { micro_batch, ..params.clone() }, context)
        })
    }
}

impl SelectCheckpoint {
    /// One attempt, with batches of `params.micro_batch`.
    fn attempt(params: Params, context: &mut StageContext) -> Result<()> {
        let studio = Studio::open(context, "base", params.micro_batch, params.size, params.precision)?;
        let folder = context.input("candidates")?;
        let listed = candidates::listed(&folder)?;
        let mut steps: Vec<String> = listed.iter().map(|(step, _)| format!("step-{step:06}")).collect();
        if let Some(last) = params.last {
            steps.drain(..steps.len().saturating_sub(last));
        }
        let sets = read_sets(&params, &Jury::connected(context, studio.canvas.device)?, context)?;
        studio.recite(sets.iter().flat_map(|s| &s.records), context)?;
        let judge = Judge { params: &params, studio: &studio, sets };
        let total = (steps.len() + usize::from(!params.guard.is_empty())) as u64;
        let base = if params.guard.is_empty() { BTreeMap::new() } else { judge.score(None, context)? };
        let (mut candidates, mut idle_steps) = (Vec::new(), Vec::new());
        for (i, step) in steps.iter().enumerate() {
            context.go_on(0)?;
            context.progress(i as u64, total, step);
            let scored = adapter::load(&folder.join(step), &studio, "candidates")
                .and_then(|lora| Ok((judge.score(Some(&lora), context)?, changes_nothing(&lora))));
            match scored {
                Ok((scores, idle)) => {
                    let breaks = broken(&params.guard, &base, &scores);
                    candidates.push(Candidate { step: step.clone(), scores, breaks, broken: None });
                    idle_steps.extend(idle.then(|| step.clone()));
                }
                Err(error) => candidates.push(left_out(step, error, context)?),
            }
        }
        all_broken(&candidates)?;
        let best = choose(&candidates, &params.maximise);
        let text = table(&params, &base, &candidates, best);
        let Some(best) = best else {
            let fault = Fault::user(format!("no candidate keeps the guards\n{text}"));
            return Err(fault.help("widen the guard, or train with a smaller learning rate or a larger `kl`").into());
        };
        if idle_steps.contains(&candidates[best].step) {
            context.warn(NO_CHANGE, "the chosen candidate changes nothing: it is of zeros", 1);
        }
        context.progress(total, total, &format!("chose {}", candidates[best].step));
        folder::copy(&folder.join(&candidates[best].step), &context.output("lora"), |_| true)?;
        std::fs::write(context.output("candidates"), text).context("writing the table")?;
        let choice = serde_json::json!({"chosen": candidates[best].step, "base": base, "candidates": candidates});
        std::fs::write(context.output("choice"), serde_json::to_string_pretty(&choice)? + "\n")
            .context("writing the choice")
    }
}

/// A candidate that is not finite: it is named, and cannot be chosen.
///
/// # Errors
/// The error itself, if it is of another kind.
fn left_out(step: &str, error: anyhow::Error, context: &StageContext) -> Result<Candidate> {
    let Some(fault) = unfit::broken(&error, "") else { return Err(error) };
    context.warn(BROKEN_CANDIDATE, format!("the candidate {step} is left out: {}", fault.message), 1);
    Ok(Candidate { step: step.to_owned(), scores: BTreeMap::new(), breaks: None, broken: Some(fault.message) })
}

/// Fails if no candidate is finite.
fn all_broken(candidates: &[Candidate]) -> Result<()> {
    let Some(first) = candidates.first().and_then(|c| c.broken.as_ref()) else { return Ok(()) };
    if candidates.iter().any(|c| c.broken.is_none()) {
        return Ok(());
    }
    let steps: Vec<&str> = candidates.iter().map(|c| c.step.as_str()).collect();
    let fault = Fault::not_finite(format!("no candidate is finite ({}); the first: {first}", steps.join(", ")));
    Err(fault.help("train with a lower learning rate, and keep candidates earlier").into())
}

/// The validation prompts of each reward that the rule names.
fn read_sets(params: &Params, jury: &Jury, context: &StageContext) -> Result<Vec<Set>> {
    let names: BTreeSet<&str> = params.columns().map(|c| whole_of(c)).collect();
    names.into_iter().map(|name| Set::named(name.to_owned(), &Wanted::new(), jury, context)).collect()
}

/// Scores adapters on the validation prompts.
struct Judge<'a> {
    params: &'a Params,
    studio: &'a Studio,
    sets: Vec<Set>,
}

impl Judge<'_> {
    fn score(&self, lora: Option<&Lora>, context: &StageContext) -> Result<BTreeMap<String, Mean>> {
        let mut all = BTreeMap::new();
        for set in &self.sets {
            let shot = self.studio.shoot(&set.records, lora, &self.params.shot, |_| context.go_on(0))?;
            all.extend(score::means(&set.columns(&shot)?));
        }
        let wanted: Vec<&String> = self.params.columns().collect();
        all.retain(|name, _| wanted.contains(&name));
        for column in wanted {
            if !all.contains_key(column) {
                return Err(Fault::user(format!("`{column}` is no column of its reward")).into());
            }
        }
        Ok(all)
    }
}

fn broken(
    guard: &BTreeMap<String, f64>,
    base: &BTreeMap<String, Mean>,
    scores: &BTreeMap<String, Mean>,
) -> Option<String> {
    let falls = |(column, by): (&String, &f64)| {
        let (before, now) = (base.get(column)?.mean, scores.get(column)?.mean);
        (now < before - by).then(|| column.clone())
    };
    guard.iter().find_map(falls)
}

/// The index of the best candidate that breaks no guard; of equals, the first.
fn choose(candidates: &[Candidate], maximise: &str) -> Option<usize> {
    let value = |c: &Candidate| c.scores.get(maximise).map_or(f64::NEG_INFINITY, |m| m.mean);
    let mut best: Option<usize> = None;
    for (i, candidate) in candidates.iter().enumerate().filter(|(_, c)| c.may_be_chosen()) {
        if best.is_none_or(|b| value(candidate) > value(&candidates[b])) {
            best = Some(i);
        }
    }
    best
}

fn table(params: &Params, base: &BTreeMap<String, Mean>, candidates: &[Candidate], best: Option<usize>) -> String {
    let columns: Vec<&String> = params.columns().collect();
    let mut text = format!("Rule: highest {}", code(&params.maximise));
    for (column, by) in &params.guard {
        let _ = write!(text, ", {} at most {by} below the base's", code(column));
    }
    text += ".\n\n";
    let heads = std::iter::once((Cell::text("candidate"), Side::Left))
        .chain(columns.iter().map(|c| (Cell::text(c), Side::Right)))
        .chain([(Cell::default(), Side::Left)]);
    let mut table = Table::new(heads).compact();
    let mut row = |name: &str, scores: &BTreeMap<String, Mean>, remark: Cell| {
        let score = |column: &&String| {
            Cell::markup(match scores.get(*column) {
                // Of one prompt there is no standard error.
                Some(m) if m.n < 2 => format!("{:.3} ± n/a", m.mean),
                Some(m) => format!("{:.3} ± {:.3}", m.mean, m.error),
                None => "n/a".to_owned(),
            })
        };
        table.row(std::iter::once(Cell::text(name)).chain(columns.iter().map(score)).chain([remark]));
    };
    if !base.is_empty() {
        row("base", base, Cell::default());
    }
    for (i, c) in candidates.iter().enumerate() {
        let remark = match (&c.broken, &c.breaks) {
            (Some(_), _) => Cell::text("not finite"),
            (None, Some(column)) => Cell::text(&format!("breaks the guard on {column}")),
            (None, None) if Some(i) == best => Cell::markup("**chosen**"),
            (None, None) => Cell::default(),
        };
        row(&c.step, &c.scores, remark);
    }
    text + &table.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(pairs: &[(&str, f64)]) -> BTreeMap<String, Mean> {
        pairs.iter().map(|(n, m)| ((*n).to_owned(), Mean { mean: *m, error: 0.0, n: 10 })).collect()
    }

    #[test]
    fn the_rule_is_kept() {
        let base = scores(&[("ocr", 0.5), ("looks", 0.4)]);
        let guard = BTreeMap::from([("looks".to_owned(), 0.05)]);
        let candidates: Vec<Candidate> = [(0.6, 0.40), (0.9, 0.30), (0.8, 0.36), (0.8, 0.42)]
            .iter()
            .enumerate()
            .map(|(i, (ocr, looks))| {
                let own = scores(&[("ocr", *ocr), ("looks", *looks)]);
                let breaks = broken(&guard, &base, &own);
                Candidate { step: format!("step-{i}"), breaks, scores: own, broken: None }
            })
            .collect();
        assert_eq!(candidates[1].breaks.as_deref(), Some("looks"));
        assert_eq!(choose(&candidates, "ocr"), Some(2), "of equals the first");
        assert_eq!(choose(&candidates[1..2], "ocr"), None);
        let params: Params =
            serde_json::from_value(serde_json::json!({"maximise": "ocr", "guard": {"looks": 0.05}})).unwrap();
        let text = table(&params, &base, &candidates, Some(2));
        assert!(text.contains("| step-2 | 0.800 ± 0.000 | 0.360 ± 0.000 | **chosen** |"), "{text}");
        assert!(text.contains("| step-1 | 0.900 ± 0.000 | 0.300 ± 0.000 | breaks the guard on looks |"), "{text}");
        // The best by its numbers, were it whole.
        let mut with = candidates.clone();
        with[2] = Candidate { scores: BTreeMap::new(), broken: Some("NaN".to_owned()), ..with[2].clone() };
        assert_eq!(choose(&with, "ocr"), Some(3));
        let text = table(&params, &base, &with, Some(3));
        assert!(text.contains("| step-2 | n/a | n/a | not finite |") && !text.contains("NaN"), "{text}");
        assert!(all_broken(&with).is_ok());
        let error = all_broken(&with[2..3]).unwrap_err();
        assert_eq!(Fault::class_of(&error), opdflow_stage::FaultClass::NotFinite);
        assert!(error.to_string().contains("step-2"), "{error}");
    }
}
