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
    let costs = costs(context, names)?;
    let count = costs.len() as f64;
    // A seed that does not say leaves the mean unknown. On a CPU there is nothing to add to a GPU's.
    let mean = |of: fn(&Timing) -> Option<f64>| Some(costs.iter().map(of).sum::<Option<f64>>()? / count);
    let on_gpus = costs.iter().filter_map(|t| t.gpu_seconds).reduce(|sum, own| sum + own);
    Ok((!costs.is_empty()).then(|| Timing {
        seconds: mean(|t| Some(t.seconds)).unwrap_or(0.0),
        cpu_seconds: mean(|t| t.cpu_seconds),
        gpu_seconds: on_gpus.map(|sum| sum / count),
        gradients: costs.iter().map(|t| t.gradients).sum::<u64>().div_ceil(costs.len() as u64),
        operations: mean(|t| t.operations),
        longest: mean(|t| t.longest),
    }))
}

/// The same for each seed. What has no seeds of its own is the same for all.
///
/// # Errors
/// As for [`cost()`].
pub fn costs(context: &StageContext, names: &[Vec<String>]) -> Result<Vec<Timing>> {
    let steps: Vec<Vec<Vec<Timing>>> = names
        .iter()
        .map(|side_by_side| side_by_side.iter().map(|name| read_timings(context, name)).collect())
        .collect::<Result<_>>()?;
    let runs = steps.iter().flatten().map(Vec::len).max().unwrap_or(0);
    let of_run = |run: usize| {
        let side = |step: &'_ Vec<Vec<Timing>>| -> Vec<Timing> {
            step.iter().filter_map(|timings| timings.get(run).or(timings.first())).copied().collect()
        };
        along(&steps.iter().map(side).collect::<Vec<_>>())
    };
    Ok((0..runs).map(of_run).collect())
}

/// What the trainings of one seed cost: those of an inner list side by side, the lists one after the other.
fn along(steps: &[Vec<Timing>]) -> Timing {
    let path = |of: fn(&Timing) -> Option<f64>| -> Option<f64> {
        let side = |side: &Vec<Timing>| side.iter().map(|t| Some(vec![of(t)?])).collect::<Option<Vec<_>>>();
        longest(&steps.iter().map(side).collect::<Option<Vec<_>>>()?)
    };
    let all = || steps.iter().flatten();
    Timing {
        seconds: path(|t| Some(t.seconds)).unwrap_or(0.0),
        cpu_seconds: all().map(|t| t.cpu_seconds).sum(),
        gpu_seconds: all().filter_map(|t| t.gpu_seconds).reduce(|sum, own| sum + own),
        gradients: all().map(|t| t.gradients).sum(),
        operations: all().map(|t| t.operations).sum(),
        longest: path(|t| t.operations),
    }
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

#[cfg(test)]
mod tests {
    use super::{Timing, along};

    #[test]
    fn the_cost_of_trainings_side_by_side_and_one_after_another_by_hand() {
        let of = |seconds: f64, operations| Timing {
            seconds,
            cpu_seconds: Some(2.0 * seconds),
            gpu_seconds: None,
            gradients: seconds as u64,
            operations,
            longest: None,
        };
        // Three teachers, then the student.
        let all =
            along(&[vec![of(5.0, Some(50.0)), of(7.0, Some(10.0)), of(6.0, Some(20.0))], vec![of(4.0, Some(40.0))]]);
        assert_eq!((all.seconds, all.cpu_seconds, all.gpu_seconds, all.gradients), (11.0, Some(44.0), None, 22));
        assert_eq!((all.operations, all.longest), (Some(120.0), Some(90.0)));
        // One that does not say leaves the sums unknown; a GPU's seconds are those of what ran on one.
        let on_gpu = Timing { gpu_seconds: Some(3.0), ..of(3.0, None) };
        let all = along(&[vec![of(5.0, Some(50.0)), on_gpu]]);
        assert_eq!((all.operations, all.longest, all.gpu_seconds, all.seconds), (None, None, Some(3.0), 5.0));
    }
}
