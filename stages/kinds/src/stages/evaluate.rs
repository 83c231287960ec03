//! `evaluate`: scores and images of a model on held-out prompts.

use crate::cost::memory::{judging, most_images};
use crate::cost::operations::operations_of_sampling;
use crate::judging::held_out;
use crate::judging::held_out::HELD_OUT;
use crate::judging::reward_models::REWARD_MODELS;
use crate::judging::served::{ANSWERS, Counted};
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
    Asset, Batches, Calls, Code, Description, Doubt, Environment, Foreseen, Memory, ParamFault, Ports, Resources,
    Stage, Work,
};
use opdflow_spec::served::Requests;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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
    /// Images of each prompt, by set of prompts; 1 if absent. The published evaluation of GenEval makes 4.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, param::Images>")]
    pub num_images_per_prompt: BTreeMap<String, usize>,
    /// Images kept of each set.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub keep: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "param::MaxSequenceLength")]
    pub max_sequence_length: Option<usize>,
    #[schemars(with = "param::Size")]
    pub size: Option<i64>,
    #[serde(skip_serializing_if = "Precision::is_default")]
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
        Self {
            rewards: Wanted::new(),
            sampling: ImageSampling::default(),
            num_images_per_prompt: BTreeMap::new(),
            keep: 8,
            max_sequence_length: None,
            size: None,
            precision: Precision::default(),
            requests: Requests::default(),
            micro_batch: micro(),
            threads: one(),
        }
    }
}

impl Params {
    /// Images of each prompt of this set.
    #[must_use]
    pub fn images_of(&self, set: &str) -> usize {
        self.num_images_per_prompt.get(set).copied().unwrap_or(1)
    }

    /// The most images of one prompt of any set.
    fn most_of_one_prompt(&self) -> usize {
        self.num_images_per_prompt.values().copied().max().unwrap_or(1)
    }
}

impl Stage for Evaluate {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "evaluate",
            semantics: 3,
            about: "Generates images for every prompt, one if nothing else is said, each from noise that depends on the seed and the image's index alone, and scores them.",
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
                    ANSWERS,
                ]
            },
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
        let absent = |set: &&String| !ports.contains(&format!("prompts.{set}"));
        let unread = params.num_images_per_prompt.keys().filter(absent).map(|set| {
            let what = format!("no prompts are connected as `prompts.{set}`");
            ParamFault::new(format!("num_images_per_prompt.{set}"), what).help("connect them, or take the entry out")
        });
        wanted::wired(&params.rewards, ports).into_iter().chain(length).chain(unread).collect()
    }

    fn foresee(&self, params: &Params, _folder: &Path, inputs: &Foreseen) -> Foreseen {
        let own = wanted::foresee("scores", &params.rewards, inputs);
        held_out::foresee("scores", own, inputs, |set| params.images_of(set) > 1)
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
        code::of("evaluate", &[code::MODEL, &rewards, &held_out::parts(ports)])
    }

    fn work(&self, params: &Params, _folder: &Path, inputs: &Foreseen) -> Option<Work> {
        let (model, sampled) = operations_of_sampling(inputs, params.size, &params.sampling)?;
        let sets =
            inputs.iter().filter_map(|(port, set)| Some((port.strip_prefix("prompts.")?, provenance::count(set)?)));
        let (mut prompts, mut images, mut kept) = (0_u64, 0_u64, 0_u64);
        for (set, count) in sets {
            let own = count.saturating_mul(params.images_of(set) as u64);
            (prompts, images) = (prompts.saturating_add(count), images.saturating_add(own));
            kept = kept.saturating_add(own.min(params.keep as u64));
        }
        let sampled = sampled * images as f64 / prompts.max(1) as f64;
        Some(Work { operations: sampled + model.encoding(inputs), bytes: Some(model.pixels(kept)) })
    }

    fn calls(&self, params: &Params, inputs: &Foreseen) -> Vec<Calls> {
        let mut counted = Counted::default();
        let images = |set: &str, prompts: u64| prompts.saturating_mul(params.images_of(set) as u64);
        wanted::count(&mut counted, &params.rewards, inputs, images, Some(1));
        held_out::count(&mut counted, inputs, images, Some(1));
        counted.calls()
    }

    fn batches(&self, params: &Params, inputs: &Foreseen) -> Option<Batches> {
        most_images(inputs, params.most_of_one_prompt()).map(|images| Batches::new(images, params.micro_batch))
    }

    fn memory(&self, params: &Params, inputs: &Foreseen) -> Vec<Memory> {
        judging(
            inputs,
            params.size,
            params.micro_batch,
            params.sampling.guidance_scale,
            params.precision,
            params.most_of_one_prompt(),
        )
    }

    fn doubts(&self, _params: &Params, _folder: &Path, inputs: &Foreseen) -> Vec<Doubt> {
        leaks::leaks(inputs, "lora")
    }
}
