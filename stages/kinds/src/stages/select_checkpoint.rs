//! `select_checkpoint`: the best candidate of a run, by a stated rule.

use crate::cost::memory::{judging, most_images};
use crate::cost::operations::operations_of_sampling;
use crate::judging::reward::whole_of;
use crate::judging::reward_models::REWARD_MODELS;
use crate::judging::served::{ANSWERS, Counted};
use crate::judging::{reward, reward_models, served};
use crate::model::sampling::ImageSampling;
use crate::model::{candidates, model_fit};
use crate::param::{EMBEDDINGS, micro, one};
use crate::precision::Precision;
use crate::prompt::{leaks, prompt_set, provenance};
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
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The stage kind.
pub struct SelectCheckpoint;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the schema has the words of a parameter's own type")]
pub struct Params {
    /// Column to maximize: a reward's name, or one of its parts such as `geneval.strict`.
    #[schemars(extend("x-formerly" = ["maximise"]))]
    pub maximize: String,
    /// Columns that must not fall below the base's by more than this: `{looks: 0.05}`.
    #[schemars(with = "BTreeMap<String, param::Fall>")]
    #[serde(default)]
    pub guard: BTreeMap<String, f64>,
    /// Only this many of the last candidates are scored; all if absent.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[serde(default)]
    pub last: Option<usize>,
    #[serde(default = "twenty_steps")]
    #[schemars(extend("x-formerly" = ["shot"]))]
    pub sampling: ImageSampling,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "param::MaxSequenceLength")]
    pub max_sequence_length: Option<usize>,
    #[serde(default)]
    #[schemars(with = "param::Size")]
    pub size: Option<i64>,
    #[serde(default, skip_serializing_if = "Precision::is_default")]
    pub precision: Precision,
    /// How the servers of rewards are asked that are connected: changes no score.
    #[serde(default, skip_serializing_if = "Requests::is_default")]
    pub requests: Requests,
    #[serde(default = "micro")]
    #[schemars(with = "param::MicroBatch")]
    pub micro_batch: usize,
    #[serde(default = "one")]
    #[schemars(with = "param::Threads")]
    pub threads: usize,
}

fn twenty_steps() -> ImageSampling {
    ImageSampling { num_inference_steps: 20, ..ImageSampling::default() }
}

impl Params {
    /// The columns that the rule names.
    pub fn columns(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.maximize).chain(self.guard.keys())
    }
}

impl Stage for SelectCheckpoint {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "select_checkpoint",
            semantics: 2,
            about: "Scores every candidate on validation prompts and selects the one with the highest `maximize` among those that pass every guard; of equal ones the earliest. If none passes, it fails and shows the table.",
            inputs: const {
                &[
                    Input::one("base", &["model"], "the base model; guards are measured against it"),
                    Input::one("candidates", &["candidates"], "a teacher's candidates"),
                    Input::many(
                        "prompts",
                        &["prompts"],
                        "validation prompts, under the name of the reward that they are for",
                    ),
                    Input::optional("embeddings", &["embeddings"], EMBEDDINGS),
                    REWARD_MODELS,
                ]
            },
            outputs: const {
                &[
                    Output::new("lora", "lora", "the chosen adapter").result(),
                    Output::new("candidates", "markdown", "the table of candidates with the choice")
                        .result()
                        .file("md"),
                    Output::new("choice", "json", "the same as data").file("json"),
                    ANSWERS,
                ]
            },
            outside_key: &["micro_batch", "requests", "threads"],
            seeded: false,
            numeric: true,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        let help = reward::offered;
        if !reward::is_column(&params.maximize) {
            faults.push(ParamFault::new("maximize", format!("no reward is named `{}`", params.maximize)).help(help()));
        }
        for name in params.guard.keys().filter(|n| !reward::is_column(n)) {
            faults.push(ParamFault::new(format!("guard.{name}"), format!("no reward is named `{name}`")).help(help()));
        }
        faults
    }

    fn wired(&self, params: &Params, ports: &Ports) -> Vec<ParamFault> {
        let maximized = std::iter::once(("maximize".to_owned(), params.maximize.as_str()));
        let guarded = params.guard.keys().map(|column| (format!("guard.{column}"), column.as_str()));
        let mut faults = Vec::from_iter(param::length_of_embeddings(params.max_sequence_length, ports));
        for (path, column) in maximized.chain(guarded) {
            let name = whole_of(column);
            faults.extend(reward::unwired(path.clone(), column, ports));
            if !ports.contains(&format!("prompts.{name}")) {
                let what = format!("no validation prompts are connected as `prompts.{name}`");
                faults.push(ParamFault::new(path, what).help(format!("add `{name}` below `needs.prompts`")));
            }
        }
        faults
    }

    fn unfit(&self, params: &Params, _folder: &Path, _ports: &Ports, inputs: &Foreseen) -> Vec<ParamFault> {
        let mut faults = model_fit::faults(inputs, params.size, None);
        faults.extend(reward_models::misnamed(inputs));
        let maximized = std::iter::once(("maximize".to_owned(), &params.maximize));
        let mut seen = BTreeSet::new();
        for (path, column) in maximized.chain(params.guard.keys().map(|c| (format!("guard.{c}"), c))) {
            let name = whole_of(column);
            faults.extend(served::unmeasured(inputs, &path, column));
            if seen.insert(name) {
                faults.extend(prompt_set::unfit(inputs, &format!("prompts.{name}"), &[name], Some(&path)));
            }
        }
        faults
    }

    fn lacks(&self, params: &Params, ports: &Ports) -> Vec<ParamFault> {
        let maximized = reward::lacks("maximize", &params.maximize);
        maximized
            .or_else(|| params.guard.keys().find_map(|column| reward::lacks("guard", column)))
            .into_iter()
            .chain(served::lacks(ports))
            .collect()
    }

    fn assets(&self, params: &Params, _folder: &Path, _memo: &Memo) -> Result<Vec<Asset>, Vec<ParamFault>> {
        let names: Vec<String> = params.columns().map(|c| whole_of(c).to_owned()).collect();
        Ok(reward::assets(names.iter()))
    }

    fn resources(&self, params: &Params) -> Resources {
        Resources { cpus: params.threads, gpu: true, several: true }
    }

    fn environment(&self, params: &Params) -> Environment {
        params.precision.environment()
    }

    fn code(&self, params: &Params, ports: &Ports) -> Code {
        let rewards = code::judging(params.columns().map(String::as_str), ports);
        let training = ["training.common", "stages.files", "stages.training"];
        code::of("select_checkpoint", &[code::MODEL, &rewards, &training])
    }

    fn work(&self, params: &Params, _folder: &Path, inputs: &Foreseen) -> Option<Work> {
        let (model, sampled) = operations_of_sampling(inputs, params.size, &params.sampling)?;
        let (count, bytes) = candidates::foreseen(inputs)?;
        let judged = params.last.map_or(count, |last| count.min(last as u64)) + u64::from(!params.guard.is_empty());
        Some(Work { operations: sampled * judged as f64 + model.encoding(inputs), bytes: Some(bytes) })
    }

    fn calls(&self, params: &Params, inputs: &Foreseen) -> Vec<Calls> {
        let judged = candidates::foreseen(inputs).map(|(count, _)| {
            params.last.map_or(count, |last| count.min(last as u64)) + u64::from(!params.guard.is_empty())
        });
        let mut counted = Counted::default();
        for name in params.columns().map(|column| whole_of(column)).collect::<BTreeSet<_>>() {
            let prompts = inputs.get(&format!("prompts.{name}"));
            let images = prompts.and_then(|known| served::about_each(inputs, REWARD_MODELS.name, name, known));
            counted.judges(inputs, REWARD_MODELS.name, name, images, judged);
        }
        counted.calls()
    }

    fn batches(&self, params: &Params, inputs: &Foreseen) -> Option<Batches> {
        most_images(inputs, 1).map(|images| Batches::new(images, params.micro_batch))
    }

    fn memory(&self, params: &Params, inputs: &Foreseen) -> Vec<Memory> {
        judging(inputs, params.size, params.micro_batch, params.sampling.guidance_scale, params.precision, 1)
    }

    fn foresee(&self, _params: &Params, _folder: &Path, inputs: &Foreseen) -> Foreseen {
        provenance::trained(inputs, &["candidates"], &["lora"])
    }

    fn doubts(&self, _params: &Params, _folder: &Path, inputs: &Foreseen) -> Vec<Doubt> {
        leaks::leaks(inputs, "candidates")
    }
}
