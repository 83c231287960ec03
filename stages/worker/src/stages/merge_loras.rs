//! `merge_loras` at work: one adapter of several, without training. A baseline, and a start for distillation.

use crate::artefacts::adapter;
use crate::runtime::pipeline::Pipeline;
use anyhow::Result;
use opdflow_api::warning::NO_CHANGE;
use opdflow_api::{Fault, StageContext};
use opdflow_kinds::precision::Precision;
use opdflow_kinds::stages::merge_loras::Params;
use opdflow_models::lora::Lora;
use opdflow_training::merge::merge;

/// Averages adapters of one base.
///
/// # Errors
/// A fault says whose it is; anything else is a bug.
pub fn run(params: Params, context: &mut StageContext) -> Result<()> {
    let pipeline = Pipeline::open(context, "base", 1, None, Precision::default(), None)?;
    let names = context.names("loras");
    if let Some(unknown) = params.weights.keys().find(|n| !names.contains(n)) {
        return Err(Fault::user(format!("`weights.{unknown}` names no adapter"))
            .help(format!("adapters are {}", names.join(", ")))
            .into());
    }
    let loras = names
        .iter()
        .map(|n| adapter::input(context, &format!("loras.{n}"), &pipeline))
        .collect::<Result<Vec<Lora>>>()?;
    let share = 1.0 / names.len() as f64;
    let weighted: Vec<(f64, &Lora)> =
        names.iter().zip(&loras).map(|(n, l)| (params.weights.get(n).copied().unwrap_or(share), l)).collect();
    let merged = merge(params.how, &weighted).map_err(|e| Fault::user(format!("{e:#}")))?;
    adapter::warn_if_idle(context, &merged, NO_CHANGE, "the merged adapter");
    adapter::save(&merged, &merged.parameters(), &pipeline.origin(), &context.output("lora"))
}
