//! Stages that are expected to take more memory than there is, told before anything runs.

use crate::plan::Plan;
use crate::recipe::{Device, Diagnostic, Numerics};
use crate::render::bytes;
use crate::sched::Slots;
use opdflow_api::warning::TOO_LARGE;

/// What a run of this plan may use of this machine: its GPUs too, unless the recipe's results are a processor's.
pub(super) fn slots(plan: &Plan, cpus: Option<usize>) -> Slots {
    let slots = Slots::of_machine(cpus);
    let cpu = matches!(&plan.recipe.numerics, Numerics::Strict(strict) if strict.device == Device::Cpu);
    if cpu { slots.without_gpus() } else { slots.with_gpu_memory() }
}

/// A warning for each stage that is expected to take more than the machine has, or, on a GPU, than the largest GPU has; with the
/// stage's place in the plan. Such a stage is started all the same, alone: it is an estimate.
pub(super) fn too_large(plan: &Plan, slots: &Slots) -> Vec<(usize, Diagnostic)> {
    let found = |(i, stage)| {
        let stage: &crate::plan::Planned = stage;
        let (whose, has) = match plan.on_gpu(i) {
            true => ("the largest GPU", slots.gpu_memory()?),
            false => ("this machine", slots.memory()?),
        };
        let needed = stage.memory_needed();
        (needed > has).then(|| {
            let name = &stage.spec.name;
            let title = format!("stage `{name}` is expected to take {} of memory, {whose} has {}", bytes(needed), bytes(has));
            let span = plan.recipe.spans.stage(name).map_or(0..0, |s| s.uses.clone());
            let help = "a smaller `micro_batch`, `gradient_checkpointing: true` or `precision: bf16` take less, where the kind has them; `plan` shows what takes it";
            (i, Diagnostic::warning(TOO_LARGE, title, span, "").help(help))
        })
    };
    plan.stages.iter().enumerate().filter_map(found).collect()
}
