//! `distill`: several teachers into one student, on the student's own rollouts.

use crate::cost::memory;
use crate::cost::operations::Operations;
use crate::cost::passes::Passes;
use crate::judging::reward_models;
use crate::model::shape::Shape;
use crate::model::{candidates, model_fit};
use crate::param::{EMBEDDINGS, micro, one};
use crate::precision::Precision;
use crate::prompt::provenance;
use crate::training::budget::Budget;
use crate::training::course_doubts::lr_schedule_fault;
use crate::training::samples::Samples;
use crate::training::{budget, course_doubts, samples};
use crate::{code, param};
use opdflow_api::port::{Input, Output};
use opdflow_api::{
    Batches, Code, Description, Doubt, Environment, Foreseen, Horizon, Memory, ParamFault, Ports, Resources, Stage,
    Work,
};
use opdflow_spec::dance::DanceConfig;
use opdflow_spec::distillation::StudentSampling;
use opdflow_spec::dmd::DmdConfig;
use opdflow_spec::opd::OpdConfig;
use opdflow_spec::optim::{AdamWConfig, EmaConfig};
use opdflow_spec::ppo::PpoConfig;
use opdflow_spec::schedule::trained;
use opdflow_spec::sft::{Levels, SftConfig};
use opdflow_spec::train::LrSchedule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The stage kind.
pub struct Distill;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the schema has the words of a parameter's own type")]
pub struct Params {
    /// Optimizer steps, each after every task was visited once; a longer run continues a shorter one. With a `budget` the most that
    /// there may be, or absent.
    #[schemars(range(min = 1, max = 10_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounds: Option<u64>,
    /// Takes the rounds from the operations of other trainings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// The loss that the student is trained with.
    #[serde(default)]
    pub objective: Objective,
    /// The student's sampling.
    #[serde(default)]
    pub rollout: StudentSampling,
    /// Guidance scale of each teacher by task; 1 if absent.
    #[schemars(with = "BTreeMap<String, param::Guidance>")]
    #[serde(default)]
    #[schemars(extend("x-formerly" = ["teacher_guidance"]))]
    pub teacher_guidance_scale: BTreeMap<String, f64>,
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
    #[serde(default, skip_serializing_if = "Precision::is_default")]
    pub precision: Precision,
    #[serde(default)]
    #[schemars(with = "param::Recompute")]
    #[schemars(extend("x-formerly" = ["recompute"]))]
    pub gradient_checkpointing: bool,
    /// Images on the way, in the folder of the run.
    #[serde(default, skip_serializing_if = "Samples::is_default")]
    pub samples: Samples,
    #[serde(default = "micro")]
    #[schemars(with = "param::MicroBatch")]
    pub micro_batch: usize,
    #[serde(default = "one")]
    #[schemars(with = "param::Threads")]
    pub threads: usize,
    /// Rounds between saved candidates; none if absent.
    #[schemars(range(min = 1, max = 10_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates_every: Option<u64>,
}

/// The distillation objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Objective {
    /// The closed-form KL of each step; direct matching where the solver adds no noise.
    ClosedFormKl(OpdConfig),
    /// The same divergence as a step's negative reward, under a clipped ratio.
    Ppo(PpoConfig),
    /// One state of each path, velocities matched (DanceOPD).
    OneState(DanceConfig),
    /// Flow matching on the teachers' images.
    Sft(SftConfig),
    /// Distribution matching, by the difference of two scores (DMD, TDM).
    Dmd(DmdConfig),
}

impl Default for Objective {
    fn default() -> Self {
        Self::ClosedFormKl(OpdConfig::default())
    }
}

impl Objective {
    /// What is wrong with its numbers, or with the walk it is given.
    pub fn check(&self, sampling: &StudentSampling) -> Vec<ParamFault> {
        let quiet = sampling.solver.deterministic();
        let wrong = match self {
            Self::ClosedFormKl(_) => (sampling.solver == opdflow_spec::Solver::Dpm { order: 2 })
                .then_some(("a second-order step has no mean of its own to match", "use `dpm: {order: 1}` or `flow`")),
            Self::Ppo(_) => quiet.then_some((
                "this solver adds no noise, so that there is no policy to improve",
                "raise its noise level, or take `closed_form_kl`",
            )),
            Self::OneState(_) | Self::Sft(_) | Self::Dmd(_) => (!quiet).then_some((
                "this objective samples along the ODE, but the solver adds noise",
                "take `flow: {noise_level: 0}`",
            )),
        };
        let mut faults: Vec<ParamFault> =
            wrong.map(|(what, help)| ParamFault::new("rollout.solver", what).help(help)).into_iter().collect();
        let steps = trained(sampling.num_inference_steps);
        let idle = match self {
            Self::ClosedFormKl(OpdConfig { step_weights, .. }) if step_weights.len() > steps => {
                Some(("closed_form_kl.step_weights", format!("there are {} weights", step_weights.len())))
            }
            Self::Sft(SftConfig { timesteps: Some(times), noise_levels: Levels::Rollout, .. }) if *times > steps => {
                Some(("sft.timesteps", format!("`timesteps` is {times}")))
            }
            _ => None,
        };
        if let Some((at, what)) = idle {
            let what = format!("{what}, but of {} steps {steps} are trained", sampling.num_inference_steps);
            faults.push(
                ParamFault::new(format!("objective.{at}"), what)
                    .help("give fewer, or raise `rollout.num_inference_steps`"),
            );
        }
        if let Self::ClosedFormKl(OpdConfig { step_weights, .. }) = self
            && step_weights.len() == steps
            && step_weights.iter().all(|w| *w == 0.0)
        {
            let fault = ParamFault::new("objective.closed_form_kl.step_weights", "every step has weight 0");
            faults.push(fault.help("give at least one step a weight"));
        }
        faults
    }

    /// Latents that are kept of each step until the round's gradients: of `ppo` states, means and noises, of `dmd` states.
    const fn kept(&self) -> u64 {
        match self {
            Self::Ppo(_) => 3,
            Self::Dmd(_) => 1,
            Self::ClosedFormKl(_) | Self::OneState(_) | Self::Sft(_) => 0,
        }
    }

    /// The parts of the code that it computes with.
    pub fn code(&self) -> &'static [&'static str] {
        match self {
            Self::ClosedFormKl(_) => &["training.opd"],
            Self::Ppo(_) => &["training.grpo", "training.opd", "training.ppo"],
            Self::OneState(_) => &["training.dance", "training.opd"],
            Self::Sft(_) => &["training.sft"],
            Self::Dmd(_) => &["training.dmd"],
        }
    }

    /// Operations of one task in one round, with a student and a teacher of these guidance scales.
    pub fn operations(
        &self,
        model: &Passes,
        sampling: &StudentSampling,
        [guidance, teacher]: [f64; 2],
        gradient_checkpointing: bool,
    ) -> f64 {
        let (steps, all) = (sampling.num_inference_steps as f64, trained(sampling.num_inference_steps));
        let (own, goal) = (model.forward(guidance), model.forward(teacher));
        let gradient = model.gradient(guidance, gradient_checkpointing);
        let anchored = |anchor: f64| if anchor > 0.0 { own } else { 0.0 };
        let image = match self {
            // The forward that samples is the one that is trained.
            Self::ClosedFormKl(config) => steps * own + all as f64 * (gradient - own + goal + anchored(config.anchor)),
            Self::Ppo(config) => {
                let passes = (all * config.updates.max(1)) as f64;
                steps * own + passes * (gradient + goal + anchored(config.anchor))
            }
            Self::OneState(_) => steps * own + gradient + goal,
            Self::Sft(config) => {
                let own = if config.guided { gradient } else { model.gradient(1.0, gradient_checkpointing) };
                steps * goal + config.timesteps.unwrap_or(all).max(1) as f64 * own
            }
            Self::Dmd(config) => {
                let fake = steps * own + model.gradient(1.0, gradient_checkpointing);
                config.fake_updates() as f64 * fake + gradient + model.forward(1.0) + goal
            }
        };
        sampling.prompts as f64 * image
    }
}

impl Params {
    /// Images that the student makes together: the closed form asks it for those of all tasks at once, the other objectives for those of
    /// one after another.
    fn images(&self, inputs: &Foreseen) -> usize {
        if matches!(self.objective, Objective::ClosedFormKl(_)) {
            self.all_images(inputs)
        } else {
            self.rollout.prompts
        }
    }

    /// Images of a round, over all tasks.
    fn all_images(&self, inputs: &Foreseen) -> usize {
        let teachers = inputs.keys().filter(|port| port.starts_with("teachers.")).count();
        self.rollout.prompts.saturating_mul(teachers.max(1))
    }

    /// Operations of one round over these teachers, with a student of this guidance scale.
    pub fn operations<'a>(
        &self,
        model: &Passes,
        student: f64,
        teachers: impl Iterator<Item = &'a str>,
        gradient_checkpointing: bool,
    ) -> f64 {
        let scales = |name: &str| [student, self.teacher_guidance_scale.get(name).copied().unwrap_or(1.0)];
        teachers.map(|l| self.objective.operations(model, &self.rollout, scales(l), gradient_checkpointing)).sum()
    }
}

impl Stage for Distill {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "distill",
            semantics: 4,
            about: "Several teachers into one student. By default DiffusionOPD: the student samples, and at every state that it visits it is trained towards the step that the task's teacher would take. One optimizer step for each round over all teachers.",
            inputs: const {
                &[
                    Input::one("base", &["model"], "the base that student and teachers share"),
                    Input::many("teachers", &["lora"], "adapters by task"),
                    Input::many("prompts", &["prompts"], "training prompts by task; the same names"),
                    Input::optional(
                        "start",
                        &["lora"],
                        "an adapter that the student starts from, such as a merge; a fresh one if absent",
                    ),
                    Input::optional("embeddings", &["embeddings"], EMBEDDINGS),
                    Input::any(budget::PORT, &["cost"], "what the trainings took that `budget.path` names"),
                    samples::JUDGES,
                ]
            },
            outputs: const {
                &[
                    Output::new("lora", "lora", "the student (averaged weights)").result(),
                    Output::new(
                        "candidates",
                        "candidates",
                        "with `candidates_every`: a folder `step-000020` and so on, the student after that round",
                    )
                    .maybe(),
                    Output::new("cost", "cost", "rounds, gradients and operations of the training"),
                    Output::side("timing", "timing", "the same, and seconds"),
                ]
            },
            outside_key: &["gradient_checkpointing", "held_out", "micro_batch", "samples", "threads"],
            seeded: true,
            numeric: true,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        let mut faults = params.objective.check(&params.rollout);
        faults.extend(params.precision.untrainable());
        faults.extend(params.lr_schedule.fault().map(lr_schedule_fault));
        faults.extend(budget::endless("rounds", params.rounds, params.budget.as_ref()));
        faults.extend(params.samples.check());
        faults
    }

    fn wired(&self, params: &Params, ports: &Ports) -> Vec<ParamFault> {
        let length = param::length_of_embeddings(params.max_sequence_length, ports);
        let budget = budget::unwired(params.budget.as_ref(), ports);
        let shown = params.samples.wired(ports);
        unpaired(&params.teacher_guidance_scale, ports).into_iter().chain(length).chain(budget).chain(shown).collect()
    }

    fn unfit(&self, params: &Params, _folder: &Path, ports: &Ports, inputs: &Foreseen) -> Vec<ParamFault> {
        let fresh = !ports.contains("start");
        let of_model = model_fit::faults(inputs, params.size, fresh.then_some(&params.lora));
        of_model.into_iter().chain(reward_models::misnamed(inputs)).chain(Samples::unfit(inputs)).collect()
    }

    fn lacks(&self, params: &Params, _ports: &Ports) -> Vec<ParamFault> {
        params.samples.lacks()
    }

    fn omits(&self, params: &Params) -> Vec<(&'static str, String)> {
        let none = params.candidates_every.is_none();
        none.then(|| ("candidates", "give it `candidates_every: N`".to_owned())).into_iter().collect()
    }

    fn horizon(&self, params: &Params) -> Option<Horizon> {
        let ends = params.budget.is_some().then(|| budget::ends(&["its budget"], params.rounds));
        Some(Horizon { param: "rounds", steps: params.rounds, also: &["budget"], ports: &[budget::PORT], ends })
    }

    fn resources(&self, params: &Params) -> Resources {
        Resources { cpus: params.threads, gpu: true, several: true }
    }

    fn environment(&self, params: &Params) -> Environment {
        params.precision.environment()
    }

    fn code(&self, params: &Params, _ports: &Ports) -> Code {
        code::of(
            "distill",
            &[code::MODEL, code::TRAINING, code::UPDATES, &["training.distillation"], params.objective.code()],
        )
    }

    fn foresee(&self, params: &Params, _folder: &Path, inputs: &Foreseen) -> Foreseen {
        let from = provenance::trained(inputs, &["prompts", "teachers", "start"], &["lora", "candidates"]);
        let Some(model) = Operations::of(inputs, params.size) else { return from };
        let each = |rounds, every| candidates::announced(rounds, every, model.adapter(&params.lora));
        let announced = params.rounds.zip(params.candidates_every);
        let announced = announced.map(|(rounds, every)| ("candidates".to_owned(), each(rounds, every)));
        provenance::both(from, announced.into_iter().collect())
    }

    fn work(&self, params: &Params, _folder: &Path, inputs: &Foreseen) -> Option<Work> {
        let model = Operations::of(inputs, params.size)?;
        // A budget is not known before what it reads is there.
        let rounds = params.rounds.filter(|_| params.budget.is_none())?;
        let teachers = inputs.keys().filter_map(|port| port.strip_prefix("prompts."));
        let round =
            params.operations(&model, params.rollout.guidance(model.base()), teachers, params.gradient_checkpointing);
        let kept = 1 + params.candidates_every.map_or(0, |every| rounds.div_ceil(every.max(1)));
        Some(Work {
            operations: rounds as f64 * round + model.encoding(inputs),
            bytes: Some(kept * model.adapter(&params.lora)),
        })
    }

    fn batches(&self, params: &Params, inputs: &Foreseen) -> Option<Batches> {
        Some(Batches::new(params.images(inputs) as u64, params.micro_batch))
    }

    fn memory(&self, params: &Params, inputs: &Foreseen) -> Vec<Memory> {
        let Some(base) = model_fit::model(inputs) else { return Vec::new() };
        let own = params.rollout.guidance(&*base.architecture);
        let guided = own != 1.0 || params.teacher_guidance_scale.values().any(|g| *g != 1.0);
        let work = memory::Work::of(inputs, params.size, params.micro_batch, guided, params.precision);
        let Some(work) = work.map(|w| w.recomputing(params.gradient_checkpointing)) else { return Vec::new() };
        let images = params.images(inputs);
        // The second network of DMD is another adapter in training, without an average.
        let copies = if matches!(params.objective, Objective::Dmd(_)) { 4 } else { 0 };
        vec![
            work.weights(),
            work.adapter(&params.lora, copies),
            work.round(params.all_images(inputs), params.rollout.num_inference_steps, params.objective.kept()),
            work.training(images, false),
            memory::Work::program(),
        ]
        .into_iter()
        .chain(reward_models::memory(inputs))
        .collect()
    }

    fn doubts(&self, params: &Params, _folder: &Path, _inputs: &Foreseen) -> Vec<Doubt> {
        let updates = match &params.objective {
            Objective::Ppo(config) => config.updates.max(1) as u64,
            _ => 1,
        };
        course_doubts::doubts(&params.optimizer, &params.lr_schedule, &params.ema, params.rounds, updates)
    }
}

/// Teachers without prompts of their name, prompts without a teacher, and guidance for a teacher that is not there.
pub fn unpaired(guidance: &BTreeMap<String, f64>, ports: &Ports) -> Vec<ParamFault> {
    let (teachers, prompts) = (ports.names("teachers"), ports.names("prompts"));
    let mut faults = Vec::new();
    for (port, names, others, other) in
        [("teachers", &teachers, &prompts, "prompts"), ("prompts", &prompts, &teachers, "teachers")]
    {
        for name in names.iter().filter(|n| !others.contains(n)) {
            let fault =
                ParamFault::of_port(format!("{port}.{name}"), format!("there is no `{other}.{name}` beside it"));
            faults.push(
                fault.help(format!("give `teachers` and `prompts` the same names: {other} are {}", others.join(", "))),
            );
        }
    }
    for name in guidance.keys().filter(|n| !teachers.contains(n)) {
        let fault = ParamFault::new(format!("teacher_guidance_scale.{name}"), format!("no teacher is named `{name}`"));
        faults.push(fault.help(format!("teachers are {}", teachers.join(", "))));
    }
    faults
}
