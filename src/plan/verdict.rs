//! What the store says of each stage before anything runs.

use super::{Keys, Plan};
use opdflow_cache::{ActionRecord, Digest, Store};
use std::collections::BTreeMap;

/// What would happen to a stage now.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Its result is in the store.
    Hit {
        /// The record of that result.
        record: Box<ActionRecord>,
    },
    /// It would run from the start.
    Run,
    /// It would run from a checkpoint.
    Resume {
        /// The step of the checkpoint.
        step: u64,
        /// Steps in all; 0 if the stage has no horizon, or one that is not known yet.
        total: u64,
    },
    /// A stage that it reads has no result yet, so that its key is not known.
    Maybe,
    /// The same, and no stage of its kind has left a result: it will run once they have theirs. Only [`super::Plan`]'s
    /// viewers tell it from `Maybe`, who have the whole history at hand.
    Later,
    /// A file that it names, or that it needs to run, is not there.
    Missing,
    /// A stage that it stands on lacks a file.
    Blocked,
}

impl Verdict {
    /// One word, or a few.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Hit { .. } => "hit".into(),
            Self::Run | Self::Later => "run".into(),
            Self::Resume { step, total: 0 } => format!("resume at {step}"),
            Self::Resume { step, total } => format!("resume {step} of {total}"),
            Self::Maybe => "maybe".into(),
            Self::Missing => "missing".into(),
            Self::Blocked => "blocked".into(),
        }
    }
}

/// The verdict on each stage of the plan, in its order, with the keys where they are known. A record whose outputs
/// are damaged or gone counts as none: the stage runs again.
#[must_use]
pub fn verdicts(plan: &Plan, store: &Store) -> Vec<(Verdict, Option<Keys>)> {
    let mut all: Vec<(Verdict, Option<Keys>)> = Vec::with_capacity(plan.stages.len());
    for i in 0..plan.stages.len() {
        let lacks = |up: usize| matches!(all.get(up), Some((Verdict::Missing | Verdict::Blocked, _)));
        let next = match inputs(plan, i, &all) {
            _ if !plan.stages[i].missing.is_empty() => (Verdict::Missing, None),
            None if !plan.stages[i].lacking.is_empty() => (Verdict::Missing, None),
            None if plan.stages[i].needs.values().any(|(up, _)| lacks(*up)) => (Verdict::Blocked, None),
            None => (Verdict::Maybe, None),
            Some(inputs) => {
                let keys = plan.keys(i, &inputs);
                match verdict(plan, i, &keys, store) {
                    Verdict::Run | Verdict::Resume { .. } if !plan.stages[i].lacking.is_empty() => {
                        (Verdict::Missing, Some(keys))
                    }
                    known => (known, Some(keys)),
                }
            }
        };
        all.push(next);
    }
    all
}

/// The verdict on stage `i`, whose keys are known.
#[must_use]
pub fn verdict(plan: &Plan, i: usize, keys: &Keys, store: &Store) -> Verdict {
    if let Some(record) = store.action(&keys.key).ok().flatten()
        && record.outputs.values().all(|o| store.present(&o.object))
    {
        return Verdict::Hit { record: Box::new(record) };
    }
    let horizon = plan.stages[i].horizon.as_ref().and_then(|h| h.steps);
    // A look, not a read: the stage itself verifies the checkpoint that it takes.
    let within = |step: u64| horizon.is_none_or(|h| step <= h);
    let checkpoint = store.checkpoints(&keys.lineage).list().into_iter().rev().find(|c| within(c.step));
    match checkpoint {
        Some(found) => Verdict::Resume { step: found.step, total: horizon.unwrap_or(0) },
        None => Verdict::Run,
    }
}

/// What stage `i` reads, if every stage upstream has a result with the ports that are asked for.
fn inputs(plan: &Plan, i: usize, so_far: &[(Verdict, Option<Keys>)]) -> Option<BTreeMap<String, Digest>> {
    plan.stages[i]
        .needs
        .iter()
        .map(|(port, (up, out))| match &so_far.get(*up)?.0 {
            Verdict::Hit { record } => Some((port.clone(), record.outputs.get(out)?.object.digest)),
            _ => None,
        })
        .collect()
}
