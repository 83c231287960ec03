//! `train_teacher`: one adapter for one reward, by reinforcement learning.

use crate::cost::memory;
use crate::cost::operations::{Operations, prompts_on};
use crate::cost::passes::Passes;
use crate::judging::reward_models::REWARD_MODELS;
use crate::judging::served::{ANSWERS, Counted};
use crate::judging::{reward, reward_models, served};
use crate::model::shape::Shape;
use crate::model::{candidates, model_fit};
use crate::param::{EMBEDDINGS, micro, one};
use crate::precision::Precision;
use crate::prompt::{leaks, prompt_set, provenance};
use crate::training::alarm::Alarms;
use crate::training::budget::Budget;
use crate::training::course_doubts::lr_schedule_fault;
use crate::training::samples::Samples;
use crate::training::until::Until;
use crate::training::{alarm, budget, course_doubts, samples};
use crate::{code, param};
use anyhow::Result;
use opdflow_api::cache::Memo;
use opdflow_api::port::{Input, Output};
use opdflow_api::warning::GUIDED_NFT;
use opdflow_api::{
    Asset, Batches, Calls, Code, Description, Doubt, Environment, Foreseen, Horizon, Memory, ParamFault, Ports,
    Resources, Stage, Work,
};
use opdflow_spec::grpo::{Density, GrpoConfig, Ratio, Split};
use opdflow_spec::nft::NftConfig;
use opdflow_spec::optim::{AdamWConfig, EmaConfig};
use opdflow_spec::schedule::trained;
use opdflow_spec::served::Requests;
use opdflow_spec::teacher::Sampling;
use opdflow_spec::train::{GRAD_NORM, LR, LrSchedule};
use opdflow_spec::{grpo, nft, teacher};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The stage kind.
pub struct TrainTeacher;

/// The method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Algorithm {
    /// DiffusionNFT: on noised images, without a policy's ratio.
    DiffusionNft(NftConfig),
    /// GRPO-Guard: Flow-GRPO with a ratio of the same scale at every step.
    GrpoGuard(GrpoConfig),
    /// Flow-GRPO.
    FlowGrpo(GrpoConfig),
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the schema has the words of a parameter's own type")]
pub struct Params {
    /// The method.
    pub algorithm: Algorithm,
    /// Rewards with weights, such as `{ocr: 1.0}`, for the prompts of `prompts`.
    #[schemars(with = "BTreeMap<String, param::Weight>")]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reward: reward::Weights,
    /// The same for each of `tasks`, by its name.
    #[schemars(with = "BTreeMap<String, BTreeMap<String, param::Weight>>")]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rewards: BTreeMap<String, reward::Weights>,
    /// The order in which tasks take turns, a round each; a name may stand more than once; each once if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<String>,
    /// Settings of a task's own rounds, by task.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub per_task: BTreeMap<String, Own>,
    /// Rounds; a longer run continues a shorter one of otherwise equal parameters. With `until` or `budget` the most that there may
    /// be, and with a `budget` it may be absent.
    #[schemars(range(min = 1, max = 10_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterations: Option<u64>,
    /// Ends training when its own reward on validation prompts gains no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// Takes the rounds from the operations of other trainings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Rounds between candidates.
    #[schemars(range(min = 1, max = 10_000_000))]
    #[serde(default = "twenty")]
    pub candidates_every: u64,
    #[serde(default)]
    pub sampling: Sampling,
    #[serde(default)]
    pub lora: Shape,
    #[serde(default)]
    #[schemars(extend("x-formerly" = ["optimiser"]))]
    pub optimizer: AdamWConfig,
    #[serde(default)]
    #[schemars(extend("x-formerly" = ["pace"]))]
    pub lr_schedule: LrSchedule,
    #[serde(default)]
    pub ema: EmaConfig,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "param::MaxSequenceLength")]
    pub max_sequence_length: Option<usize>,
    #[serde(default)]
    #[schemars(with = "param::Size")]
    pub size: Option<i64>,
    /// By metric when to warn, or to end the run.
    #[serde(default)]
    pub alarms: Alarms,
    /// Images on the way, in the folder of the run.
    #[serde(default, skip_serializing_if = "Samples::is_default")]
    pub samples: Samples,
    #[serde(default, skip_serializing_if = "Precision::is_default")]
    pub precision: Precision,
    #[serde(default)]
    #[schemars(with = "param::Recompute")]
    #[schemars(extend("x-formerly" = ["recompute"]))]
    pub gradient_checkpointing: bool,
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

/// What a task has for itself in joint training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Own {
    /// Learning rate in its rounds; the optimizer's if absent.
    #[schemars(range(max = 10.0), extend("exclusiveMinimum" = 0))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Optimizer steps in each of its rounds; the algorithm's if absent.
    #[schemars(range(min = 1, max = 10_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updates: Option<usize>,
}

impl Algorithm {
    /// What is wrong with its numbers for rounds of this kind.
    fn faults(&self, sampling: &Sampling) -> Vec<ParamFault> {
        let steps = trained(sampling.num_inference_steps);
        let (method, config) = match self {
            Self::DiffusionNft(config) => {
                let at = |name: &str| format!("algorithm.diffusion_nft.{name}");
                let alike = sampling.same_noise.then(|| {
                    let what =
                        "DiffusionNFT's rollouts add no noise: from the same one all images of a prompt are equal";
                    ParamFault::new("sampling.same_noise", what)
                        .help("leave it out, or take `grpo_guard` or `flow_grpo`")
                });
                // Of all levels, the smallest among them.
                let times = too_many_times(&at("timesteps"), config.timesteps, sampling.num_inference_steps);
                return times
                    .into_iter()
                    .chain(self.too_many_updates(at("updates"), config.updates, sampling))
                    .chain(alike)
                    .collect();
            }
            Self::GrpoGuard(config) => ("grpo_guard", config),
            Self::FlowGrpo(config) => ("flow_grpo", config),
        };
        let at = |name: &str| format!("algorithm.{method}.{name}");
        let mut faults = Vec::new();
        if method == "grpo_guard" && config.density == Some(Density::Distance) {
            let what = "GRPO-Guard's ratio is that of the normal density, whatever the solver";
            faults.push(ParamFault::new(at("density"), what).help("leave it out, or take `flow_grpo`"));
        }
        faults.extend(config.sde_window.and_then(|w| w.fault(steps)).map(|f| ParamFault::new(at("sde_window"), f)));
        let most = config.sde_window.map_or(steps, |w| w.width.min(steps));
        faults.extend(too_many_times(&at("timesteps"), config.timesteps, most));
        faults.extend(self.too_many_updates(at("updates"), config.updates, sampling));
        if config.solver.deterministic() {
            let what = "this solver adds no noise, so that there is no policy to improve";
            faults.push(ParamFault::new(at("solver"), what).help("raise its noise level"));
        }
        faults
    }

    /// The fault of more updates than what they share of a round.
    fn too_many_updates(&self, at: String, updates: usize, sampling: &Sampling) -> Option<ParamFault> {
        let prompts = match self {
            Self::DiffusionNft(_) => false,
            Self::GrpoGuard(config) | Self::FlowGrpo(config) => config.split == Split::Prompts,
        };
        let (shared, what) = if prompts {
            (sampling.prompts, "the prompts of a round, which they share, are")
        } else {
            (sampling.prompts.saturating_mul(sampling.group_size), "the images of a round, which they share, are")
        };
        let what = format!("`updates` is {updates}, but {what} {shared}");
        (updates > shared).then(|| ParamFault::new(at, what).help("take fewer updates, or more `sampling.prompts`"))
    }

    /// The names of what it reports.
    fn metrics(&self) -> Vec<&'static str> {
        match self {
            Self::DiffusionNft(_) => nft::METRICS.into(),
            Self::GrpoGuard(_) | Self::FlowGrpo(_) => {
                grpo::METRICS.into_iter().chain(grpo::LOG_RATIO).chain([grpo::KL]).collect()
            }
        }
    }
}

fn too_many_times(at: &str, times: Option<usize>, most: usize) -> Option<ParamFault> {
    let times = times.filter(|times| *times > most)?;
    let fault = ParamFault::new(at, format!("`timesteps` is {times}, but only {most} steps are trained"));
    Some(fault.help("take fewer, or more `sampling.num_inference_steps`"))
}

impl Params {
    /// The tasks in the order of their turns, each with its rewards.
    pub fn turns(&self) -> Vec<(&str, &reward::Weights)> {
        if self.rewards.is_empty() {
            return vec![("teacher", &self.reward)];
        }
        let each: Vec<&String> = self.rewards.keys().collect();
        let turns = if self.turns.is_empty() { each } else { self.turns.iter().collect() };
        turns.into_iter().filter_map(|name| Some((name.as_str(), self.rewards.get(name)?))).collect()
    }

    /// Operations of one round: the rollout with its decoding, and for each image and noise level that is trained the gradient and the
    /// frozen passes beside it. An image that is left out because its advantage is 0 is counted.
    pub fn operations(&self, model: &Passes, gradient_checkpointing: bool) -> f64 {
        let Sampling { prompts, group_size: group, num_inference_steps: steps, guidance_scale: guidance, .. } =
            self.sampling;
        let all = trained(steps);
        let grpo = |config: &GrpoConfig, ratio: Ratio| {
            let window = config.sde_window.map_or(all, |w| w.width.min(all));
            let frozen = if config.kl.unwrap_or(ratio.kl()) > 0.0 { 1.0 } else { 0.0 };
            (config.timesteps.unwrap_or(window).clamp(1, window.max(1)), frozen)
        };
        // The frozen passes beside each gradient: NFT's old policy and the base; the base where the others weigh it.
        let (levels, frozen) = match &self.algorithm {
            Algorithm::DiffusionNft(config) => (config.timesteps.unwrap_or(all).clamp(1, steps.max(1)), 2.0),
            Algorithm::GrpoGuard(config) => grpo(config, Ratio::Guard),
            Algorithm::FlowGrpo(config) => grpo(config, Ratio::Plain),
        };
        let gradient = model.gradient(guidance, gradient_checkpointing) + frozen * model.forward(guidance);
        (prompts * group) as f64 * (model.image(steps, guidance) + levels as f64 * gradient)
    }

    /// The names of all metrics that the training reports.
    fn metrics(&self) -> Vec<String> {
        let turns = self.turns();
        let tasks: Vec<(&str, Vec<&str>)> =
            turns.iter().map(|(task, weights)| (*task, weights.keys().map(String::as_str).collect())).collect();
        let mut found = teacher::metrics(&tasks);
        found.extend(self.algorithm.metrics().into_iter().chain([GRAD_NORM, LR]).map(str::to_owned));
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// A rule without the prompts that it scores on, and prompts without a rule.
fn unscored(params: &Params, ports: &Ports) -> Vec<ParamFault> {
    let (one, each) = (ports.contains("validation"), ports.names("validations"));
    let there = one.then(|| "validation".to_owned()).into_iter();
    let there: Vec<String> = there.chain(each.iter().map(|name| format!("validations.{name}"))).collect();
    if params.until.is_none() {
        let fault = |port: String| ParamFault::of_port(port, "nothing is scored on it, for there is no `until`");
        let help = "add `until: {gain: 0.005, patience: 3}`, or take it out";
        return there.into_iter().map(|port| fault(port).help(help)).collect();
    }
    let wanted: Vec<String> = match params.rewards.is_empty() {
        true => vec!["validation".to_owned()],
        false => params.rewards.keys().map(|name| format!("validations.{name}")).collect(),
    };
    let lacking = wanted.iter().filter(|port| !there.contains(port)).map(|port| {
        let what = format!("the rule scores on validation prompts, and none are connected as `{port}`");
        ParamFault::new("until", what)
            .help("connect them below `needs`, such as the output `validation` of a stage `prompts`")
    });
    let idle = there.iter().filter(|port| !wanted.contains(port)).map(|port| {
        let fault = ParamFault::of_port(port.as_str(), "it is no validation of this training's rewards");
        fault.help(format!("its rule reads {}", wanted.join(", ")))
    });
    lacking.chain(idle).collect()
}

fn twenty() -> u64 {
    20
}

impl Own {
    /// What is wrong with it.
    fn check(&self, task: &str, params: &Params) -> Vec<ParamFault> {
        let at = |name: &str| format!("per_task.{task}.{name}");
        let mut faults = Vec::new();
        if !params.rewards.contains_key(task) {
            let fault = ParamFault::new(format!("per_task.{task}"), format!("`{task}` has no rewards"));
            faults.push(fault.help("name the tasks as below `rewards`"));
        }
        let most = |n| params.algorithm.too_many_updates(at("updates"), n, &params.sampling);
        faults.extend(self.updates.and_then(most));
        faults
    }
}

impl Stage for TrainTeacher {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "train_teacher",
            semantics: 4,
            about: "Trains an adapter on the frozen base by reinforcement learning: for one reward (or a weighted sum), or for several tasks in turn.",
            inputs: const {
                &[
                    Input::one("base", &["model"], "the base model"),
                    Input::optional("prompts", &["prompts"], "prompts to train on; or else `tasks`"),
                    Input::any("tasks", &["prompts"], "prompts of several tasks, which take turns"),
                    Input::optional(
                        "start",
                        &["lora"],
                        "an adapter to go on from, as in a cascade; a fresh one if absent",
                    ),
                    Input::optional("embeddings", &["embeddings"], EMBEDDINGS),
                    REWARD_MODELS,
                    Input::optional("validation", &["prompts"], "with `until`: prompts that its rule scores on"),
                    Input::any("validations", &["prompts"], "the same for each of `tasks`"),
                    Input::any(budget::PORT, &["cost"], "what the trainings took that `budget.path` names"),
                    samples::JUDGES,
                ]
            },
            outputs: const {
                &[
                    Output::new(
                        "candidates",
                        "candidates",
                        "a folder `step-000020` and so on, an adapter each (averaged weights)",
                    ),
                    Output::new("lora", "lora", "the last of them").result(),
                    Output::new("cost", "cost", "rounds, gradients and operations of the training"),
                    Output::side("timing", "timing", "the same, and seconds"),
                    ANSWERS,
                ]
            },
            outside_key: &[
                "alarms",
                "gradient_checkpointing",
                "held_out",
                "micro_batch",
                "requests",
                "samples",
                "threads",
            ],
            seeded: true,
            numeric: true,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        let mut faults = alarm::check(&params.alarms);
        faults.extend(params.precision.untrainable());
        if params.rewards.is_empty() {
            faults.extend(reward::check("reward", &params.reward));
        } else if !params.reward.is_empty() {
            faults.push(
                ParamFault::new("reward", "both `reward` and `rewards` are given")
                    .help("`reward` goes with `needs.prompts`, `rewards` with `needs.tasks`"),
            );
        }
        for (task, weights) in &params.rewards {
            faults.extend(reward::check(&format!("rewards.{task}"), weights));
        }
        if let Some(unknown) = params.turns.iter().find(|t| !params.rewards.contains_key(*t)) {
            faults.push(
                ParamFault::new("turns", format!("`{unknown}` takes turns, but has no rewards"))
                    .help("name the tasks as below `rewards`"),
            );
        }
        faults.extend(params.per_task.iter().flat_map(|(task, own)| own.check(task, params)));
        faults.extend(params.lr_schedule.fault().map(lr_schedule_fault));
        faults.extend(params.algorithm.faults(&params.sampling));
        faults.extend(params.until.iter().flat_map(|u| u.faults(params.candidates_every, params.iterations)));
        faults.extend(budget::endless("iterations", params.iterations, params.budget.as_ref()));
        faults.extend(params.samples.check());
        let known = params.metrics();
        for name in params.alarms.keys().filter(|name| !known.contains(name)) {
            let fault = ParamFault::new(format!("alarms.{name}"), format!("this training reports no metric `{name}`"));
            faults.push(fault.help(format!("it reports {}", known.join(", "))));
        }
        faults
    }

    fn wired(&self, params: &Params, ports: &Ports) -> Vec<ParamFault> {
        let tasks: Vec<&str> = ports.iter().filter_map(|p| p.strip_prefix("tasks.")).collect();
        let one = ports.contains("prompts");
        let mut faults = Vec::from_iter(param::length_of_embeddings(params.max_sequence_length, ports));
        if one != tasks.is_empty() || one != params.rewards.is_empty() {
            let what = "a teacher needs either `prompts` with `reward`, or `tasks` with `rewards`";
            faults.push(ParamFault::new("", what).help("connect one of the two below `needs`"));
        } else if !one && !params.rewards.keys().map(String::as_str).eq(tasks.iter().copied()) {
            let named = params.rewards.keys().cloned().collect::<Vec<_>>().join(", ");
            let what = format!("`needs.tasks` names {}, but `rewards` names {named}", tasks.join(", "));
            faults.push(ParamFault::new("rewards", what).help("give both the same names"));
        }
        let own = params.reward.keys().map(|name| (format!("reward.{name}"), name));
        let each =
            params.rewards.iter().flat_map(|(task, w)| w.keys().map(move |n| (format!("rewards.{task}.{n}"), n)));
        faults.extend(own.chain(each).filter_map(|(path, name)| reward::unwired(path, name, ports)));
        faults.extend(unscored(params, ports));
        faults.extend(budget::unwired(params.budget.as_ref(), ports));
        faults.extend(params.samples.wired(ports));
        faults
    }

    fn unfit(&self, params: &Params, _folder: &Path, ports: &Ports, inputs: &Foreseen) -> Vec<ParamFault> {
        let fresh = (!ports.contains("start")).then_some(&params.lora);
        let mut faults = model_fit::faults(inputs, params.size, fresh);
        faults.extend(reward_models::misnamed(inputs));
        faults.extend(Samples::unfit(inputs));
        let each =
            params.rewards.iter().map(|(task, weights)| (format!("tasks.{task}"), format!("rewards.{task}"), weights));
        let one = ("prompts".to_owned(), "reward".to_owned(), &params.reward);
        for (port, path, weights) in std::iter::once(one).chain(each).filter(|(_, _, weights)| !weights.is_empty()) {
            let names: Vec<&str> = weights.keys().map(String::as_str).collect();
            faults.extend(names.iter().filter_map(|name| served::unmeasured(inputs, &format!("{path}.{name}"), name)));
            faults.extend(prompt_set::unfit(inputs, &port, &names, Some(&path)));
            let judged = port.replace("tasks.", "validations.").replace("prompts", "validation");
            faults.extend(prompt_set::unfit(inputs, &judged, &names, None));
        }
        faults
    }

    fn lacks(&self, params: &Params, ports: &Ports) -> Vec<ParamFault> {
        let own = params.reward.keys().find_map(|name| reward::lacks("reward", name));
        let of_tasks = || params.rewards.values().flat_map(BTreeMap::keys).find_map(|n| reward::lacks("rewards", n));
        own.or_else(of_tasks).into_iter().chain(params.samples.lacks()).chain(served::lacks(ports)).collect()
    }

    fn assets(&self, params: &Params, _folder: &Path, _memo: &Memo) -> Result<Vec<Asset>, Vec<ParamFault>> {
        Ok(reward::assets(params.reward.keys().chain(params.rewards.values().flat_map(BTreeMap::keys))))
    }

    fn horizon(&self, params: &Params) -> Option<Horizon> {
        let rules = [params.until.as_ref().map(|_| "its rule"), params.budget.as_ref().map(|_| "its budget")];
        let rules: Vec<&str> = rules.into_iter().flatten().collect();
        Some(Horizon {
            param: "iterations",
            steps: params.iterations,
            also: &["until", "budget"],
            ports: &["validation", "validations", budget::PORT],
            ends: (!rules.is_empty()).then(|| budget::ends(&rules, params.iterations)),
        })
    }

    fn resources(&self, params: &Params) -> Resources {
        Resources { cpus: params.threads, gpu: true, several: true }
    }

    fn environment(&self, params: &Params) -> Environment {
        params.precision.environment()
    }

    fn code(&self, params: &Params, ports: &Ports) -> Code {
        let named = params.reward.keys().chain(params.rewards.values().flat_map(BTreeMap::keys));
        let rewards = code::judging(named.map(String::as_str), ports);
        let method: &[&str] = match params.algorithm {
            Algorithm::DiffusionNft(_) => &["training.nft"],
            Algorithm::GrpoGuard(_) | Algorithm::FlowGrpo(_) => &["training.grpo", "training.opd"],
        };
        code::of("train_teacher", &[code::MODEL, code::TRAINING, code::UPDATES, &rewards, method])
    }

    fn foresee(&self, params: &Params, _folder: &Path, inputs: &Foreseen) -> Foreseen {
        let from = provenance::trained(inputs, &["prompts", "tasks", "start"], &["lora", "candidates"]);
        let Some(model) = Operations::of(inputs, params.size) else { return from };
        let Some(most) = params.iterations else { return from };
        let each = candidates::announced(most, params.candidates_every, model.adapter(&params.lora));
        provenance::both(from, Foreseen::from([("candidates".to_owned(), each)]))
    }

    fn work(&self, params: &Params, _folder: &Path, inputs: &Foreseen) -> Option<Work> {
        let model = Operations::of(inputs, params.size)?;
        // A budget is not known before what it reads is there; of a rule, the most that it allows is counted.
        let most = params.iterations.filter(|_| params.budget.is_none())?;
        let rounds = most as f64 * params.operations(&model, params.gradient_checkpointing);
        let judged = prompts_on(inputs, "validation") + prompts_on(inputs, "validations");
        let scored = params.until.as_ref().map_or(0.0, |until| {
            let scorings = most / until.every(params.candidates_every);
            (scorings * judged) as f64 * until.operations(&model)
        });
        let kept = 1 + most.div_ceil(params.candidates_every.max(1));
        let operations = rounds + scored + model.encoding(inputs);
        Some(Work { operations, bytes: Some(kept * model.adapter(&params.lora)) })
    }

    fn calls(&self, params: &Params, inputs: &Foreseen) -> Vec<Calls> {
        let most = params.iterations;
        let (turns, mut counted) = (params.turns(), Counted::default());
        let images = params.sampling.prompts.saturating_mul(params.sampling.group_size) as u64;
        for (place, (_, weights)) in turns.iter().enumerate() {
            // Rounds of this place: every so many, from its own on.
            let rounds = most.map(|most| (most + turns.len() as u64 - 1 - place as u64) / turns.len() as u64);
            for name in reward::wholes_of(weights) {
                // Which prompts a round draws, and so how many questions, nobody knows before.
                let asking = reward_models::asking(inputs, REWARD_MODELS.name, name);
                counted.judges(inputs, REWARD_MODELS.name, name, asking.is_none().then_some(images), rounds);
            }
        }
        if let Some(until) = &params.until {
            let scorings = most.map(|most| most / until.every(params.candidates_every).max(1));
            let one = ("validation".to_owned(), &params.reward);
            let each = params.rewards.iter().map(|(task, weights)| (format!("validations.{task}"), weights));
            for (port, weights) in std::iter::once(one).chain(each) {
                for name in reward::wholes_of(weights) {
                    let prompts = inputs.get(&port);
                    let images = prompts.and_then(|known| served::about_each(inputs, REWARD_MODELS.name, name, known));
                    counted.judges(inputs, REWARD_MODELS.name, name, images, scorings);
                }
            }
        }
        counted.calls()
    }

    fn batches(&self, params: &Params, _inputs: &Foreseen) -> Option<Batches> {
        let images = params.sampling.prompts.saturating_mul(params.sampling.group_size);
        Some(Batches::new(images as u64, params.micro_batch))
    }

    fn memory(&self, params: &Params, inputs: &Foreseen) -> Vec<Memory> {
        let guided = params.sampling.guidance_scale != 1.0;
        let work = memory::Work::of(inputs, params.size, params.micro_batch, guided, params.precision);
        let Some(work) = work.map(|w| w.recomputing(params.gradient_checkpointing)) else { return Vec::new() };
        let images = params.sampling.prompts * params.sampling.group_size;
        // NFT keeps its old policy and no trajectory; the others each state, mean and noise of the trajectory.
        let (copies, tensors) = match params.algorithm {
            Algorithm::DiffusionNft(_) => (1, 0),
            Algorithm::GrpoGuard(_) | Algorithm::FlowGrpo(_) => (0, 3),
        };
        vec![
            work.weights(),
            work.adapter(&params.lora, copies),
            work.round(images, params.sampling.num_inference_steps, tensors),
            work.training(images, true),
            memory::Work::program(),
        ]
        .into_iter()
        .chain(reward_models::memory(inputs))
        .collect()
    }

    fn doubts(&self, params: &Params, _folder: &Path, inputs: &Foreseen) -> Vec<Doubt> {
        let help = "give it a weight, or take it out";
        let updates = match &params.algorithm {
            Algorithm::DiffusionNft(config) => config.updates.max(1) as u64,
            Algorithm::GrpoGuard(config) | Algorithm::FlowGrpo(config) => config.updates.max(1) as u64,
        };
        let (lr_schedule, ema) = (&params.lr_schedule, &params.ema);
        let mut doubts = course_doubts::doubts(&params.optimizer, lr_schedule, ema, params.iterations, updates);
        doubts.extend(course_doubts::weightless("reward", &params.reward, "reward", help));
        for (task, weights) in &params.rewards {
            doubts.extend(course_doubts::weightless(&format!("rewards.{task}"), weights, "reward", help));
        }
        doubts.extend(leaks::judged_on_trained(inputs, &["validation", "validations"], &["prompts", "tasks", "start"]));
        let guidance = params.sampling.guidance_scale;
        if matches!(params.algorithm, Algorithm::DiffusionNft(_)) && guidance != 1.0 {
            let what = format!("DiffusionNFT with guidance {guidance}: the method is made for none");
            doubts.push(Doubt::new(
                GUIDED_NFT,
                "sampling.guidance_scale",
                what,
                "`guidance_scale: 1.0`, as in the paper",
            ));
        }
        doubts
    }
}
