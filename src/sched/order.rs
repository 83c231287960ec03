//! What a run is asked to do, and how it ends.

use super::slots::{Need, Slots};
use crate::exec::Executor;
use crate::plan::{Plan, Planned};
use opdflow_api::Warning;
use opdflow_api::cache::{ActionRecord, Store};

/// What a stage asks of the machine.
pub(super) fn need_of(planned: &Planned) -> Need {
    let (own, spec) = (&planned.resources, &planned.spec);
    Need {
        cpus: own.cpus,
        ranks: spec.ranks.unwrap_or(1),
        // `ranks` alone means so many GPUs too, where the stage uses them.
        gpus: if own.gpu { spec.gpus.or(spec.ranks).unwrap_or(1) } else { 0 },
        gpu_memory: spec.gpu_memory,
        memory: planned.memory_needed(),
    }
}

/// What is to be run, where, and how.
pub struct Order<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Which of its stages are asked for; closed under needs.
    pub wanted: Vec<bool>,
    /// Which of them are computed even if their result is there.
    pub forced: Vec<bool>,
    /// How long the path from each stage to the end is: the longest goes first. Asked once, when something must run.
    pub urgency: &'a dyn Fn() -> Vec<f64>,
    /// Whether independent stages go on when one fails.
    pub keep_going: bool,
    /// Whether a warning is an error: the stage that gives one stops at a checkpoint and fails.
    pub strict: bool,
    /// What each stage was warned of before the run, for its log.
    pub doubts: Vec<Vec<Warning>>,
    /// Seconds between the checkpoints that stages make without being asked.
    pub checkpoint_seconds: f64,
    /// The store.
    pub store: &'a Store,
    /// Where processes run.
    pub executor: &'a dyn Executor,
    /// What there is of the machine.
    pub slots: Slots,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All that was asked for is there.
    Complete,
    /// At least one stage failed.
    Failed,
    /// It was asked to stop; the same command goes on.
    Stopped,
    /// It was told to stop at once.
    Killed,
}

/// What a run leaves.
pub struct Ended {
    /// How it ended.
    pub ending: Ending,
    /// The results, in the order of the plan.
    pub records: Vec<Option<ActionRecord>>,
}
