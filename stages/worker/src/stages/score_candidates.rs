//! `score_candidates` at work: scores of all candidates of a training, as a curve.

use crate::artefacts::curve::{Curve, Point};
use crate::artefacts::{adapter, candidates};
use crate::judging::asking::Asking;
use crate::judging::held_out::HeldOut;
use crate::judging::reward_set::RewardSet;
use crate::judging::score;
use crate::judging::score::Scores;
use crate::judging::set::Set;
use crate::runtime::fitting::fitting;
use crate::runtime::pipeline::Pipeline;
use crate::runtime::unfit;
use anyhow::Result;
use opdflow_api::StageContext;
use opdflow_kinds::model::sampling::ImageSampling;
use opdflow_kinds::stages::score_candidates::Params;
use std::path::Path;

/// Scores every candidate of a training on the same prompts, from the same noise.
///
/// # Errors
/// A fault says whose it is; anything else is a bug.
pub fn run(params: Params, context: &mut StageContext) -> Result<()> {
    let asking = Asking::new(context, &params.requests);
    fitting(params.micro_batch, context, |micro_batch, context| {
        asking.resumable(context, |context| attempt(Params { micro_batch, ..params.clone() }, &asking, context))
    })
}

/// The scores of one candidate.
fn scores(
    folder: &Path,
    pipeline: &Pipeline,
    (sets, held_out): (&[Set], &HeldOut),
    sampling: &ImageSampling,
    context: &StageContext,
) -> Result<Scores> {
    let lora = adapter::load(folder, pipeline, "candidates")?;
    let mut scores = Scores::default();
    for set in sets {
        let by = (pipeline, Some(&lora), sampling);
        let (images, mut columns) = set.judged(by, Some(held_out), |_| context.go_on(0))?;
        columns.extend(held_out.diversity(&images, 1)?);
        scores.sets.insert(set.name.clone(), score::means(&columns, &score::tasks(&set.records), 1));
    }
    Ok(scores)
}

/// One attempt, with batches of `params.micro_batch`.
fn attempt(params: Params, asking: &Asking, context: &mut StageContext) -> Result<()> {
    let pipeline =
        Pipeline::open(context, "base", params.micro_batch, params.size, params.precision, params.max_sequence_length)?;
    let reward_set = RewardSet::connected(context, pipeline.canvas, asking)?;
    let held_out = HeldOut::connected(context, pipeline.canvas, asking)?;
    let found = candidates::listed(&context.input("candidates")?)?;
    let sets = Set::connected(&params.rewards, &reward_set, context)?;
    pipeline.encode_prompts(sets.iter().flat_map(|s| &s.records), context)?;
    let mut curve = Curve::default();
    for (i, (step, folder)) in found.iter().enumerate() {
        context.progress(i as u64, found.len() as u64, &format!("step {step}"));
        // A curve with a hole in it would not show that a course broke: what is not finite ends it, by name.
        let scores = scores(folder, &pipeline, (&sets, &held_out), &params.sampling, context)
            .map_err(|e| unfit::broken(&e, &format!("candidate step-{step:06}: ")).map_or(e, Into::into))?;
        curve.points.push(Point { step: *step, scores });
        asking.keep(context)?;
    }
    context.progress(found.len() as u64, found.len() as u64, "");
    curve.write(&context.output("curve"))
}
