//! `evaluate`: scores and images of a model on held-out prompts.

use crate::cost::memory::judging;
use crate::cost::operations::operations_of_sampling;
use crate::judging::held_out;
use crate::judging::held_out::HELD_OUT;
use crate::judging::reward_models::REWARD_MODELS;
use crate::judging::wanted;
use crate::judging::wanted::Wanted;
use crate::model::model_fit;
use crate::model::sampling::ImageSampling;
use crate::param::{EMBEDDINGS, micro, one};
use crate::precision::Precision;
use crate::prompt::{leaks, provenance};
use crate::{code, param};
use anyhow::Result;
use opdflow_api::cache::Memo;
use opdflow_api::port::{Input, Output};
use opdflow_api::{
    Asset, Code, Description, Doubt, Environment, Foreseen, Memory, ParamFault, Ports, Resources, Stage, Work,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The stage kind.
pub struct Evaluate;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the schema has the words of a parameter's own type")]
pub struct Params {
    /// Rewards by prompt set; the reward of the set's own name if absent.
    pub rewards: Wanted,
    #[schemars(extend("x-formerly" = ["shot"]))]
    pub sampling: ImageSampling,
    /// Images kept of each set.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub keep: usize,
    #[schemars(with = "param::Size")]
    pub size: Option<i64>,
    #[serde(skip_serializing_if = "Precision::is_default")]
    pub precision: Precision,
    #[schemars(with = "param::MicroBatch")]
    pub micro_batch: usize,
    #[schemars(with = "param::Threads")]
    pub threads: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            rewards: Wanted::new(),
            sampling: ImageSampling::default(),
            keep: 8,
            size: None,
            precision: Precision::default(),
            micro_batch: micro(),
            threads: one(),
        }
    }
}

impl Stage for Evaluate {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "evaluate",
            semantics: 2,
            about: "Generates one image for every prompt, from noise that depends on the seed and the prompt's index alone, and scores it.",
            inputs: const {
                &[
                    Input::one("base", &["model"], "the base model"),
                    Input::optional("lora", &["lora"], "an adapter; without it the base itself is evaluated"),
                    Input::many("prompts", &["prompts"], "sets of prompts by name"),
                    Input::optional("embeddings", &["embeddings"], EMBEDDINGS),
                    REWARD_MODELS,
                    HELD_OUT,
                ]
            },
            outputs: const {
                &[
                    Output::new("scores", "scores", "means with standard errors, by set and column (JSON)").result(),
                    Output::new("samples", "samples", "a JSON line per image").result(),
                    Output::new("images", "images", "the first images of every set, as PNG")
                        .formerly(&["pictures"])
                        .result()
                        .folder(),
                ]
            },
            outside_key: &["micro_batch", "threads"],
            seeded: false,
            numeric: true,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        wanted::check(&params.rewards)
    }

    fn wired(&self, params: &Params, ports: &Ports) -> Vec<ParamFault> {
        wanted::wired(&params.rewards, ports)
    }

    fn foresee(&self, params: &Params, _folder: &Path, inputs: &Foreseen) -> Foreseen {
        held_out::foresee("scores", wanted::foresee("scores", &params.rewards, inputs), inputs)
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
        Resources { cpus: params.threads, gpu: true }
    }

    fn environment(&self, params: &Params) -> Environment {
        params.precision.environment()
    }

    fn code(&self, params: &Params, ports: &Ports) -> Code {
        let rewards = code::judging(code::wanted(&params.rewards, ports), ports);
        code::of("evaluate", &[code::MODEL, &rewards, &held_out::parts(ports)])
    }

    fn work(&self, params: &Params, _folder: &Path, inputs: &Foreseen) -> Option<Work> {
        let (model, sampled) = operations_of_sampling(
            inputs,
            params.size,
            params.sampling.num_inference_steps,
            params.sampling.guidance_scale,
        )?;
        let sets = inputs.iter().filter(|(port, _)| port.starts_with("prompts."));
        let kept = sets.filter_map(|(_, set)| provenance::count(set)).map(|n| n.min(params.keep as u64)).sum();
        Some(Work { operations: sampled + model.encoding(inputs), bytes: Some(model.pixels(kept)) })
    }

    fn memory(&self, params: &Params, inputs: &Foreseen) -> Vec<Memory> {
        judging(inputs, params.size, params.micro_batch, params.sampling.guidance_scale, params.precision)
    }

    fn doubts(&self, _params: &Params, _folder: &Path, inputs: &Foreseen) -> Vec<Doubt> {
        leaks::leaks(inputs, "lora")
    }
}
