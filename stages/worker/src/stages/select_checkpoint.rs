//! `select_checkpoint` at work: the best candidate of a run, by a stated rule.

use crate::artefacts::{adapter, candidates};
use crate::judging::asking::Asking;
use crate::judging::reward_set::RewardSet;
use crate::judging::score;
use crate::judging::score::Mean;
use crate::judging::set::Set;
use crate::runtime::fitting::fitting;
use crate::runtime::pipeline::Pipeline;
use crate::runtime::unfit;
use anyhow::{Context as _, Result};
use opdflow_api::warning::{BROKEN_CANDIDATE, NO_CHANGE};
use opdflow_api::{Fault, StageContext};
use opdflow_io::markdown::{Cell, Side, Table, code};
use opdflow_kinds::judging::reward::whole_of;
use opdflow_kinds::judging::wanted::Wanted;
use opdflow_kinds::model::folder;
use opdflow_kinds::stages::select_checkpoint::Params;
use opdflow_models::lora::Lora;
use opdflow_training::idle::changes_nothing;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

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

/// Scores every candidate and takes the best of those that keep the guards.
///
/// # Errors
/// A fault says whose it is; anything else is a bug.
pub fn run(params: Params, context: &mut StageContext) -> Result<()> {
    let asking = Asking::new(context, &params.requests);
    fitting(params.micro_batch, context, |micro_batch, context| {
        asking.resumable(context, |context| attempt(Params { micro_batch, ..params.clone() }, &asking, context))
    })
}

/// One attempt, with batches of `params.micro_batch`.
fn attempt(params: Params, asking: &Asking, context: &mut StageContext) -> Result<()> {
    let pipeline =
        Pipeline::open(context, "base", params.micro_batch, params.size, params.precision, params.max_sequence_length)?;
    let folder = context.input("candidates")?;
    let listed = candidates::listed(&folder)?;
    let mut steps: Vec<String> = listed.iter().map(|(step, _)| format!("step-{step:06}")).collect();
    if let Some(last) = params.last {
        steps.drain(..steps.len().saturating_sub(last));
    }
    let sets = read_sets(&params, &RewardSet::connected(context, pipeline.canvas, asking)?, context)?;
    pipeline.encode_prompts(sets.iter().flat_map(|s| &s.records), context)?;
    let judge = Judge { params: &params, pipeline: &pipeline, sets };
    let total = (steps.len() + usize::from(!params.guard.is_empty())) as u64;
    let base = if params.guard.is_empty() { BTreeMap::new() } else { judge.score(None, context)? };
    let (mut candidates, mut idle_steps) = (Vec::new(), Vec::new());
    for (i, step) in steps.iter().enumerate() {
        context.go_on(0)?;
        context.progress(i as u64, total, step);
        let scored = adapter::load(&folder.join(step), &pipeline, "candidates")
            .and_then(|lora| Ok((judge.score(Some(&lora), context)?, changes_nothing(&lora))));
        match scored {
            Ok((scores, idle)) => {
                let breaks = broken(&params.guard, &base, &scores);
                candidates.push(Candidate { step: step.clone(), scores, breaks, broken: None });
                idle_steps.extend(idle.then(|| step.clone()));
            }
            Err(error) => candidates.push(left_out(step, error, context)?),
        }
        asking.keep(context)?;
    }
    all_broken(&candidates)?;
    let best = choose(&candidates, &params.maximize);
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
fn read_sets(params: &Params, reward_set: &RewardSet, context: &StageContext) -> Result<Vec<Set>> {
    let names: BTreeSet<&str> = params.columns().map(|c| whole_of(c)).collect();
    names.into_iter().map(|name| Set::named(name.to_owned(), &Wanted::new(), reward_set, context)).collect()
}

/// Scores adapters on the validation prompts.
struct Judge<'a> {
    params: &'a Params,
    pipeline: &'a Pipeline,
    sets: Vec<Set>,
}

impl Judge<'_> {
    fn score(&self, lora: Option<&Lora>, context: &StageContext) -> Result<BTreeMap<String, Mean>> {
        let mut all = BTreeMap::new();
        for set in &self.sets {
            let by = (self.pipeline, lora, &self.params.sampling);
            let (_, columns) = set.judged(by, None, |_| context.go_on(0))?;
            all.extend(score::means(&columns, &score::tasks(&set.records), 1));
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
fn choose(candidates: &[Candidate], maximize: &str) -> Option<usize> {
    let value = |c: &Candidate| c.scores.get(maximize).map_or(f64::NEG_INFINITY, |m| m.mean);
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
    let mut text = format!("Rule: highest {}", code(&params.maximize));
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
        pairs.iter().map(|(n, m)| ((*n).to_owned(), Mean { mean: *m, error: 0.0, n: 10, images: None })).collect()
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
            serde_json::from_value(serde_json::json!({"maximize": "ocr", "guard": {"looks": 0.05}})).unwrap();
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
        assert_eq!(Fault::class_of(&error), opdflow_api::FaultClass::NotFinite);
        assert!(error.to_string().contains("step-2"), "{error}");
    }
}
