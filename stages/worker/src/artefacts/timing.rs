//! What training costs: the side output `timing` of the stages that train, and sums of it.

use crate::artefacts::cost;
use crate::report::seeds;
use anyhow::{Context as _, Result};
use opdflow_api::{Cost, StageContext};
use opdflow_kinds::report::timing::longest;
use serde::Deserialize;

/// Writes the side output `timing`: the seconds, and what the training took otherwise. `share`: of the seconds that were worked, those
/// that count, 1 unless the training was taken from a longer one.
///
/// # Errors
/// The disk is full.
pub fn write(context: &StageContext, took: &cost::Cost, share: f64) -> Result<()> {
    let Cost { seconds, cpu_seconds, gpu_seconds } = context.cost();
    let (threads, device) = (context.job().threads, &context.job().device);
    let text = serde_json::json!({
        "seconds": seconds * share, "cpu_seconds": cpu_seconds.map(|s| s * share),
        "gpu_seconds": gpu_seconds.map(|s| s * share),
        "rounds": took.rounds, "gradients": took.gradients,
        "operations": took.operations, "validation_operations": took.validation_operations,
        "threads": threads, "device": device,
    });
    std::fs::write(context.output("timing"), format!("{text}\n")).context("writing the timing")
}

/// What training stages say of their cost.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Timing {
    /// Wall seconds of training.
    pub seconds: f64,
    /// CPU seconds, over all threads. Nothing where a timing of before does not say.
    #[serde(default)]
    pub cpu_seconds: Option<f64>,
    /// Wall seconds in which a GPU was held; nothing on a CPU.
    #[serde(default)]
    pub gpu_seconds: Option<f64>,
    /// Gradients, each of one image at one noise level.
    #[serde(default)]
    pub gradients: u64,
    /// Floating-point operations. Nothing where a timing of before does not say.
    #[serde(default)]
    pub operations: Option<f64>,
    /// Those on the longest path of several trainings; of a single one all of them.
    #[serde(skip)]
    pub longest: Option<f64>,
}

/// The cost of what the names on `timings` stand for: the inner lists run side by side, the outer one after the other. Wall
/// seconds of what runs side by side are its slowest's, all else adds up; operations are told both ways. With several seeds, their mean. `None` if nothing
/// is named.
///
/// # Errors
/// A name that nothing is connected under; a damaged file.
pub fn cost(context: &StageContext, names: &[Vec<String>]) -> Result<Option<Timing>> {
    let steps: Vec<Vec<Vec<Timing>>> = names
        .iter()
        .map(|side_by_side| side_by_side.iter().map(|name| read_timings(context, name)).collect())
        .collect::<Result<_>>()?;
    let runs = steps.iter().flatten().map(Vec::len).max().unwrap_or(0);
    let mut total = Timing { cpu_seconds: Some(0.0), operations: Some(0.0), ..Timing::default() };
    for run in 0..runs {
        for side_by_side in &steps {
            // What has no seeds of its own is the same for all.
            let of_run = side_by_side.iter().filter_map(|timings| timings.get(run).or(timings.first()));
            for timing in of_run {
                total.gradients += timing.gradients;
                // A part that does not say leaves the sum unknown. On a CPU there is nothing to add to a GPU's.
                total.operations = total.operations.zip(timing.operations).map(|(sum, own)| sum + own);
                total.cpu_seconds = total.cpu_seconds.zip(timing.cpu_seconds).map(|(sum, own)| sum + own);
                if let Some(own) = timing.gpu_seconds {
                    total.gpu_seconds = Some(total.gpu_seconds.unwrap_or(0.0) + own);
                }
            }
        }
    }
    let along = |of: fn(&Timing) -> Option<f64>| -> Option<f64> {
        let seeds = |timings: &Vec<Timing>| timings.iter().map(of).collect::<Option<Vec<f64>>>();
        let by_step: Option<Vec<Vec<Vec<f64>>>> = steps.iter().map(|side| side.iter().map(seeds).collect()).collect();
        longest(&by_step?)
    };
    let (count, gradients) = (runs as f64, total.gradients);
    Ok((runs > 0).then(|| Timing {
        seconds: along(|t| Some(t.seconds)).unwrap_or(0.0),
        cpu_seconds: total.cpu_seconds.map(|s| s / count),
        gpu_seconds: total.gpu_seconds.map(|s| s / count),
        gradients: gradients.div_ceil(runs as u64),
        operations: total.operations.map(|n| n / count),
        longest: along(|t| t.operations),
    }))
}

/// The timings that a name stands for, one for each seed.
fn read_timings(context: &StageContext, name: &str) -> Result<Vec<Timing>> {
    let read = |input: String| {
        let path = context.input(&input)?;
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| format!("`{input}` is not a timing"))
    };
    seeds::connected(context, "timings", name, "the parameters name the time of")?.into_iter().map(read).collect()
}
