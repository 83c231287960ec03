//! `score_candidates`: scores of all candidates of a training, as a curve.

use crate::curve::{Curve, Point};
use crate::fitting::fitting;
use crate::judge::{self, Set, Wanted};
use crate::jury::{CRITICS, Jury};
use crate::memory::judging;
use crate::operations::shots;
use crate::param::{self, EMBEDDINGS};
use crate::precision::Precision;
use crate::score::{self, Scores};
use crate::studio::{Shot, Studio};
use crate::train_teacher::{micro, one};
use crate::{adapter, candidates, code, model_fit, provenance, unfit};
use anyhow::Result;
use opdflow_stage::cache::Memo;
use opdflow_stage::port::{Input, Output};
use opdflow_stage::{
    Asset, Code, Description, Doubt, Environment, Foreseen, Memory, ParamFault, Ports, Resources, Stage, StageContext,
    Work,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The stage kind.
pub struct ScoreCandidates;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// By set of prompts the rewards that judge it; the reward of the set's own name if absent.
    rewards: Wanted,
    shot: Shot,
    #[schemars(with = "param::Size")]
    size: Option<i64>,
    precision: Precision,
    #[schemars(with = "param::MicroBatch")]
    micro_batch: usize,
    #[schemars(with = "param::Threads")]
    threads: usize,
}

impl Default for Params {
    fn default() -> Self {
        let shot = Shot { steps: 20, ..Shot::default() };
        let precision = Precision::default();
        Self { rewards: Wanted::new(), shot, size: None, precision, micro_batch: micro(), threads: one() }
    }
}

impl Stage for ScoreCandidates {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "score_candidates",
            semantics: 2,
            about: "Scores every candidate of a training on the same prompts, from the same noise: how its scores went with its steps.",
            inputs: const {
                &[
                    Input::one("base", &["model"], "the base model"),
                    Input::one("candidates", &["candidates"], "candidates of a teacher or a student"),
                    Input::many("prompts", &["prompts"], "sets of prompts by name, such as the validation prompts"),
                    Input::optional("embeddings", &["embeddings"], EMBEDDINGS),
                    CRITICS,
                ]
            },
            outputs: const { &[Output::new("curve", "curve", "the scores of each candidate, by its step (JSON)")] },
            outside_key: &["micro_batch", "threads"],
            seeded: false,
            numeric: true,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        judge::check(&params.rewards)
    }

    fn wired(&self, params: &Params, ports: &Ports) -> Vec<ParamFault> {
        judge::wired(&params.rewards, ports)
    }

    fn foresee(&self, params: &Params, _folder: &Path, inputs: &Foreseen) -> Foreseen {
        judge::foresee("curve", &params.rewards, inputs)
    }

    fn unfit(&self, params: &Params, _folder: &Path, _ports: &Ports, inputs: &Foreseen) -> Vec<ParamFault> {
        let of_model = model_fit::faults(inputs, params.size, None);
        of_model.into_iter().chain(judge::unfit(&params.rewards, inputs)).collect()
    }

    fn lacks(&self, params: &Params, ports: &Ports) -> Vec<ParamFault> {
        judge::lacks(&params.rewards, ports)
    }

    fn assets(&self, _params: &Params, _folder: &Path, _memo: &Memo) -> Result<Vec<Asset>, Vec<ParamFault>> {
        Ok(judge::assets())
    }

    fn resources(&self, params: &Params) -> Resources {
        Resources { cpus: params.threads, gpu: true }
    }

    fn environment(&self, params: &Params) -> Environment {
        params.precision.environment()
    }

    fn code(&self, params: &Params, ports: &Ports) -> Code {
        let rewards = code::judging(code::wanted(&params.rewards, ports), ports);
        let training = ["flow.training", "stages.files", "stages.training"];
        code::of("score_candidates", &[code::MODEL, &rewards, &training])
    }

    fn work(&self, params: &Params, _folder: &Path, inputs: &Foreseen) -> Option<Work> {
        let (model, shots) = shots(inputs, params.size, params.shot.steps, params.shot.guidance)?;
        let (candidates, _) = candidates::foreseen(inputs)?;
        Some(Work { operations: shots * candidates as f64 + model.encoding(inputs), bytes: None })
    }

    fn memory(&self, params: &Params, inputs: &Foreseen) -> Vec<Memory> {
        judging(inputs, params.size, params.micro_batch, params.shot.guidance, params.precision)
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

/// The scores of one candidate.
fn scores(folder: &Path, studio: &Studio, sets: &[Set], shot: &Shot, context: &StageContext) -> Result<Scores> {
    let lora = adapter::load(folder, studio, "candidates")?;
    let mut scores = Scores::default();
    for set in sets {
        let pictures = studio.shoot(&set.records, Some(&lora), shot, |_| context.go_on(0))?;
        scores.sets.insert(set.name.clone(), score::means(&set.columns(&pictures)?));
    }
    Ok(scores)
}

impl ScoreCandidates {
    /// One attempt, with batches of `params.micro_batch`.
    fn attempt(params: Params, context: &mut StageContext) -> Result<()> {
        let studio = Studio::open(context, "base", params.micro_batch, params.size, params.precision)?;
        let jury = Jury::connected(context, studio.canvas.device)?;
        let found = candidates::listed(&context.input("candidates")?)?;
        let sets = Set::connected(&params.rewards, &jury, context)?;
        studio.recite(sets.iter().flat_map(|s| &s.records), context)?;
        let mut curve = Curve::default();
        for (i, (step, folder)) in found.iter().enumerate() {
            context.progress(i as u64, found.len() as u64, &format!("step {step}"));
            // A curve with a hole in it would not show that a course broke: what is not finite ends it, by name.
            let scores = scores(folder, &studio, &sets, &params.shot, context)
                .map_err(|e| unfit::broken(&e, &format!("candidate step-{step:06}: ")).map_or(e, Into::into))?;
            curve.points.push(Point { step: *step, scores });
        }
        context.progress(found.len() as u64, found.len() as u64, "");
        curve.write(&context.output("curve"))
    }
}
