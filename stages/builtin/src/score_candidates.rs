//! `score_candidates`: scores of all candidates of a training, as a curve.

use crate::curve::{Curve, Point};
use crate::fitting::fitting;
use crate::judge::{self, Set, Wanted};
use crate::jury::{CRITICS, Jury};
use crate::memory::judging;
use crate::param::{self, EMBEDDINGS};
use crate::precision::Precision;
use crate::score::{self, Scores};
use crate::studio::{Shot, Studio};
use crate::train_teacher::{micro, one};
use crate::{adapter, candidates, model_fit};
use anyhow::Result;
use opdflow_stage::cache::Memo;
use opdflow_stage::port::{Input, Output};
use opdflow_stage::{
    Asset, Description, Environment, Foreseen, Memory, ParamFault, Ports, Resources, Stage, StageContext,
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
            semantics: 1,
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
        Resources { cpus: params.threads, memory: 1 << 30, gpu: true }
    }

    fn environment(&self, params: &Params) -> Environment {
        params.precision.environment()
    }

    fn memory(&self, params: &Params, inputs: &Foreseen) -> Vec<Memory> {
        judging(inputs, params.size, params.micro_batch, params.shot.guidance, params.precision)
    }

    fn run(&self, params: Params, context: &mut StageContext) -> Result<()> {
        fitting(params.micro_batch, context, |micro_batch, context| {
            Self::attempt(Params { micro_batch, ..params.clone() }, context)
        })
    }
}

impl ScoreCandidates {
    /// One attempt, with batches of `params.micro_batch`.
    fn attempt(params: Params, context: &mut StageContext) -> Result<()> {
        let studio = Studio::open(context, "base", params.micro_batch, params.size, params.precision)?;
        let jury = Jury::connected(context, studio.canvas.device)?;
        let found = candidates::listed(&context.input("candidates")?)?;
        let sets = Set::connected(&params.rewards, &jury, context)?;
        studio.recite(sets.iter().flat_map(|s| &s.records))?;
        let mut curve = Curve::default();
        for (i, (step, folder)) in found.iter().enumerate() {
            context.progress(i as u64, found.len() as u64, &format!("step {step}"));
            let lora = adapter::load(folder, &studio, "candidates")?;
            let mut scores = Scores::default();
            for set in &sets {
                let shot = studio.shoot(&set.records, Some(&lora), &params.shot, |_| context.go_on(0))?;
                scores.sets.insert(set.name.clone(), score::means(&set.columns(&shot)?));
            }
            curve.points.push(Point { step: *step, scores });
        }
        context.progress(found.len() as u64, found.len() as u64, "");
        curve.write(&context.output("curve"))
    }
}
