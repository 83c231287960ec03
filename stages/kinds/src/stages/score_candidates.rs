//! `score_candidates`: scores of all candidates of a training, as a curve.

use crate::cost::memory::{judging, most_images};
use crate::cost::operations::operations_of_sampling;
use crate::judging::held_out::HELD_OUT;
use crate::judging::reward_models::REWARD_MODELS;
use crate::judging::served::{ANSWERS, Counted};
use crate::judging::wanted::Wanted;
use crate::judging::{held_out, wanted};
use crate::model::sampling::ImageSampling;
use crate::model::{candidates, model_fit};
use crate::param::{EMBEDDINGS, micro, one};
use crate::precision::Precision;
use crate::prompt::leaks;
use crate::{code, param};
use anyhow::Result;
use opdflow_api::cache::Memo;
use opdflow_api::port::{Input, Output};
use opdflow_api::{
    Asset, Batches, Calls, Code, Description, Doubt, Environment, Foreseen, Memory, ParamFault, Ports, Resources,
    Stage, Work,
};
use opdflow_spec::served::Requests;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The stage kind.
pub struct ScoreCandidates;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the schema has the words of a parameter's own type")]
pub struct Params {
    /// Rewards by prompt set; the reward of the set's own name if absent.
    pub rewards: Wanted,
    #[schemars(extend("x-formerly" = ["shot"]))]
    pub sampling: ImageSampling,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "param::MaxSequenceLength")]
    pub max_sequence_length: Option<usize>,
    #[schemars(with = "param::Size")]
    pub size: Option<i64>,
    pub precision: Precision,
    /// How the servers of rewards are asked that are connected: changes no score.
    #[serde(skip_serializing_if = "Requests::is_default")]
    pub requests: Requests,
    #[schemars(with = "param::MicroBatch")]
    pub micro_batch: usize,
    #[schemars(with = "param::Threads")]
    pub threads: usize,
}

impl Default for Params {
    fn default() -> Self {
        let sampling = ImageSampling { num_inference_steps: 20, ..ImageSampling::default() };
        let precision = Precision::default();
        Self {
            rewards: Wanted::new(),
            sampling,
            max_sequence_length: None,
            size: None,
            precision,
            requests: Requests::default(),
            micro_batch: micro(),
            threads: one(),
        }
    }
}

impl Stage for ScoreCandidates {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "score_candidates",
            semantics: 2,
            about: "Scores every candidate of a training on the same prompts, from the same noise: its scores by training step.",
            inputs: const {
                &[
                    Input::one("base", &["model"], "the base model"),
                    Input::one("candidates", &["candidates"], "candidates of a teacher or a student"),
                    Input::many("prompts", &["prompts"], "sets of prompts by name, such as the validation prompts"),
                    Input::optional("embeddings", &["embeddings"], EMBEDDINGS),
                    REWARD_MODELS,
                    HELD_OUT,
                ]
            },
            outputs: const { &[Output::new("curve", "curve", "the scores of each candidate, by its step (JSON)"), ANSWERS] },
            outside_key: &["micro_batch", "requests", "threads"],
            seeded: false,
            numeric: true,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        wanted::check(&params.rewards)
    }

    fn wired(&self, params: &Params, ports: &Ports) -> Vec<ParamFault> {
        let length = param::length_of_embeddings(params.max_sequence_length, ports);
        wanted::wired(&params.rewards, ports).into_iter().chain(length).collect()
    }

    fn foresee(&self, params: &Params, _folder: &Path, inputs: &Foreseen) -> Foreseen {
        held_out::foresee("curve", wanted::foresee("curve", &params.rewards, inputs), inputs, |_| false)
    }

    fn unfit(&self, params: &Params, _folder: &Path, _ports: &Ports, inputs: &Foreseen) -> Vec<ParamFault> {
        let of_model = model_fit::faults(inputs, params.size, None);
        of_model.into_iter().chain(wanted::unfit(&params.rewards, inputs)).collect()
    }

    fn lacks(&self, params: &Params, ports: &Ports) -> Vec<ParamFault> {
        wanted::lacks(&params.rewards, ports)
    }

    fn assets(&self, _params: &Params, _folder: &Path, _memo: &Memo) -> Result<Vec<Asset>, Vec<ParamFault>> {
        Ok(wanted::assets())
    }

    fn resources(&self, params: &Params) -> Resources {
        Resources { cpus: params.threads, gpu: true, several: true }
    }

    fn environment(&self, params: &Params) -> Environment {
        params.precision.environment()
    }

    fn code(&self, params: &Params, ports: &Ports) -> Code {
        let rewards = code::judging(code::wanted(&params.rewards, ports), ports);
        let training = ["training.common", "stages.files", "stages.training"];
        code::of("score_candidates", &[code::MODEL, &rewards, &training, &held_out::parts(ports)])
    }

    fn work(&self, params: &Params, _folder: &Path, inputs: &Foreseen) -> Option<Work> {
        let (model, sampled) = operations_of_sampling(inputs, params.size, &params.sampling)?;
        let (candidates, _) = candidates::foreseen(inputs)?;
        Some(Work { operations: sampled * candidates as f64 + model.encoding(inputs), bytes: None })
    }

    fn calls(&self, params: &Params, inputs: &Foreseen) -> Vec<Calls> {
        let mut counted = Counted::default();
        let candidates = candidates::foreseen(inputs).map(|(count, _)| count);
        wanted::count(&mut counted, &params.rewards, inputs, |_, prompts| prompts, candidates);
        held_out::count(&mut counted, inputs, |_, prompts| prompts, candidates);
        counted.calls()
    }

    fn batches(&self, params: &Params, inputs: &Foreseen) -> Option<Batches> {
        most_images(inputs, 1).map(|images| Batches::new(images, params.micro_batch))
    }

    fn memory(&self, params: &Params, inputs: &Foreseen) -> Vec<Memory> {
        judging(inputs, params.size, params.micro_batch, params.sampling.guidance_scale, params.precision, 1)
    }

    fn doubts(&self, _params: &Params, _folder: &Path, inputs: &Foreseen) -> Vec<Doubt> {
        leaks::leaks(inputs, "candidates")
    }
}
