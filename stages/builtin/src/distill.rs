//! `distill`: several teachers into one student, on the student's own rollouts.

use crate::adapter::{self, Shape};
use crate::candidates::{self, Candidates};
use crate::fitting::fitting;
use crate::learn::{Plain, learn};
use crate::operations::Operations;
use crate::param::{self, EMBEDDINGS};
use crate::precision::Precision;
use crate::prompt_task::PromptTask;
use crate::studio::Studio;
use crate::train_teacher::{micro, one, pace_fault};
use crate::{code, course_doubts, memory, model_fit, provenance, record, timing};
use anyhow::Result;
use opdflow_models::lora::Lora;
use opdflow_models::rng::derive;
use opdflow_models::schedule::trained;
use opdflow_stage::port::{Input, Output};
use opdflow_stage::warning::{IDLE_TEACHER, NOTHING_LEARNED};
use opdflow_stage::{
    Code, Description, Doubt, Environment, Fault, Foreseen, Horizon, Memory, ParamFault, Ports, Resources, Stage,
    StageContext, Work,
};
use opdflow_training::dance::{Dance, DanceConfig};
use opdflow_training::dmd::{Dmd, DmdConfig};
use opdflow_training::idle;
use opdflow_training::objective::Objective as Training;
use opdflow_training::opd::{Opd, OpdConfig, Remaining};
use opdflow_training::optim::{AdamW, AdamWConfig, EmaConfig};
use opdflow_training::ppo::{Ppo, PpoConfig};
use opdflow_training::school::{Lesson, School, Walk};
use opdflow_training::sft::{Sft, SftConfig};
use opdflow_training::task::Practice;
use opdflow_training::train::{Learner, Pace};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The stage kind.
pub struct Distill;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Optimiser steps, each after every task was visited once; a longer run continues a shorter one.
    #[schemars(range(min = 1, max = 10_000_000))]
    rounds: u64,
    /// What the student is pulled by.
    #[serde(default)]
    objective: Objective,
    /// The student's sampling.
    #[serde(default)]
    rollout: Walk,
    /// Guidance scale of each teacher by task; 1 if absent.
    #[schemars(with = "BTreeMap<String, param::Guidance>")]
    #[serde(default)]
    teacher_guidance: BTreeMap<String, f64>,
    #[serde(default)]
    lora: Shape,
    #[serde(default)]
    optimiser: AdamWConfig,
    #[serde(default)]
    pace: Pace,
    #[serde(default)]
    ema: EmaConfig,
    #[serde(default)]
    #[schemars(with = "param::Size")]
    size: Option<i64>,
    #[serde(default, skip_serializing_if = "Precision::is_default")]
    precision: Precision,
    #[serde(default)]
    #[schemars(with = "param::Recompute")]
    recompute: bool,
    #[serde(default = "micro")]
    #[schemars(with = "param::MicroBatch")]
    micro_batch: usize,
    #[serde(default = "one")]
    #[schemars(with = "param::Threads")]
    threads: usize,
    /// Rounds between students kept on the way; none if absent.
    #[schemars(range(min = 1, max = 10_000_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    candidates_every: Option<u64>,
}

/// The distillation objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Objective {
    /// The closed-form KL of each step; direct matching where the solver adds no noise.
    ClosedFormKl(OpdConfig),
    /// The same divergence as a step's negative reward, under a clipped ratio.
    Ppo(PpoConfig),
    /// One state of each path, velocities matched (DanceOPD).
    OneState(DanceConfig),
    /// Flow matching on the teachers' pictures.
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
    pub(crate) fn check(&self, walk: &Walk) -> Vec<ParamFault> {
        let quiet = walk.solver.deterministic();
        let wrong = match self {
            Self::ClosedFormKl(_) => (walk.solver == opdflow_models::Solver::Dpm { order: 2 })
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
        let steps = trained(walk.steps);
        let idle = match self {
            Self::ClosedFormKl(OpdConfig { step_weights, .. }) if step_weights.len() > steps => {
                Some(("closed_form_kl.step_weights", format!("there are {} weights", step_weights.len())))
            }
            Self::Sft(SftConfig { times: Some(times) }) if *times > steps => {
                Some(("sft.times", format!("`times` is {times}")))
            }
            _ => None,
        };
        if let Some((at, what)) = idle {
            let what = format!("{what}, but of {} steps {steps} are trained", walk.steps);
            faults.push(ParamFault::new(format!("objective.{at}"), what).help("give fewer, or raise `rollout.steps`"));
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

    /// The parts of the code that it computes with.
    pub(crate) fn code(&self) -> &'static [&'static str] {
        match self {
            Self::ClosedFormKl(_) => &["flow.opd"],
            Self::Ppo(_) => &["flow.grpo", "flow.opd", "flow.ppo"],
            Self::OneState(_) => &["flow.dance", "flow.opd"],
            Self::Sft(_) => &["flow.sft"],
            Self::Dmd(_) => &["flow.dmd"],
        }
    }

    /// Operations of one lesson in one round, with a teacher of this guidance.
    pub(crate) fn operations(&self, model: &Operations, walk: &Walk, teacher: f64, recompute: bool) -> f64 {
        let (steps, all) = (walk.steps as f64, trained(walk.steps));
        let (own, goal) = (model.forward(walk.guidance), model.forward(teacher));
        let gradient = model.gradient(walk.guidance, recompute);
        let anchored = |anchor: f64| if anchor > 0.0 { own } else { 0.0 };
        let picture = match self {
            // The forward that samples is the one that is trained.
            Self::ClosedFormKl(config) => steps * own + all as f64 * (gradient - own + goal + anchored(config.anchor)),
            Self::Ppo(config) => {
                let passes = (all * config.updates.max(1)) as f64;
                steps * own + passes * (gradient + goal + anchored(config.anchor))
            }
            Self::OneState(_) => steps * own + gradient + goal,
            Self::Sft(config) => steps * goal + config.times.unwrap_or(all).clamp(1, all) as f64 * gradient,
            Self::Dmd(_) => steps * own + gradient + model.gradient(1.0, recompute) + goal,
        };
        walk.prompts as f64 * picture
    }

    /// The objective at work. `fake` is the second network of [`Self::Dmd`].
    pub(crate) fn on<'a>(&self, school: School<'a>, fake: Option<&'a Lora>) -> Result<Box<dyn Training + 'a>> {
        Ok(match self.clone() {
            Self::ClosedFormKl(config) => Box::new(Opd { config, school, remaining: Remaining::default() }),
            Self::Ppo(config) => Box::new(Ppo { config, school, seen: Vec::new() }),
            Self::OneState(config) => Box::new(Dance { config, school }),
            Self::Sft(config) => Box::new(Sft { config, school }),
            Self::Dmd(config) => {
                let fake = fake.ok_or_else(|| anyhow::anyhow!("distribution matching without its second network"))?;
                Box::new(Dmd { config, school, fake })
            }
        })
    }
}

impl Stage for Distill {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "distill",
            semantics: 3,
            about: "Several teachers into one student. By default DiffusionOPD: the student samples, and at every state it visits it is pulled to the step that the task's teacher would take. One optimiser step for each full round over all teachers.",
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
                ]
            },
            outputs: const {
                &[
                    Output::new("lora", "lora", "the student (averaged weights)"),
                    Output::new(
                        "candidates",
                        "candidates",
                        "with `candidates_every`: a folder `step-000020` and so on, the student on its way",
                    )
                    .maybe(),
                    Output::side("timing", "timing", "seconds of training"),
                ]
            },
            outside_key: &["recompute", "micro_batch", "threads"],
            seeded: true,
            numeric: true,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        let mut faults = params.objective.check(&params.rollout);
        faults.extend(params.precision.untrainable());
        faults.extend(params.pace.fault().map(pace_fault));
        faults
    }

    fn wired(&self, params: &Params, ports: &Ports) -> Vec<ParamFault> {
        unpaired(&params.teacher_guidance, ports)
    }

    fn unfit(&self, params: &Params, _folder: &Path, ports: &Ports, inputs: &Foreseen) -> Vec<ParamFault> {
        let fresh = !ports.contains("start") || matches!(params.objective, Objective::Dmd(_));
        model_fit::faults(inputs, params.size, fresh.then_some(&params.lora))
    }

    fn omits(&self, params: &Params) -> Vec<(&'static str, String)> {
        let none = params.candidates_every.is_none();
        none.then(|| ("candidates", "give it `candidates_every: N`".to_owned())).into_iter().collect()
    }

    fn horizon(&self, params: &Params) -> Option<Horizon> {
        Some(Horizon { param: "rounds", steps: params.rounds })
    }

    fn resources(&self, params: &Params) -> Resources {
        Resources { cpus: params.threads, gpu: true }
    }

    fn environment(&self, params: &Params) -> Environment {
        params.precision.environment()
    }

    fn code(&self, params: &Params, _ports: &Ports) -> Code {
        code::of("distill", &[code::MODEL, code::TRAINING, &["flow.school"], params.objective.code()])
    }

    fn foresee(&self, params: &Params, _folder: &Path, inputs: &Foreseen) -> Foreseen {
        let from = provenance::trained(inputs, &["prompts", "teachers", "start"], &["lora", "candidates"]);
        let Some(model) = Operations::of(inputs, params.size) else { return from };
        let each = |every| candidates::announced(params.rounds, every, model.adapter(&params.lora));
        let announced = params.candidates_every.map(|every| ("candidates".to_owned(), each(every)));
        provenance::both(from, announced.into_iter().collect())
    }

    fn work(&self, params: &Params, _folder: &Path, inputs: &Foreseen) -> Option<Work> {
        let model = Operations::of(inputs, params.size)?;
        let lessons = inputs.keys().filter_map(|port| port.strip_prefix("prompts."));
        let guidance = |name: &str| params.teacher_guidance.get(name).copied().unwrap_or(1.0);
        let round: f64 =
            lessons.map(|l| params.objective.operations(&model, &params.rollout, guidance(l), params.recompute)).sum();
        let kept = 1 + params.candidates_every.map_or(0, |every| params.rounds.div_ceil(every.max(1)));
        Some(Work {
            operations: params.rounds as f64 * round + model.encoding(inputs),
            bytes: Some(kept * model.adapter(&params.lora)),
        })
    }

    fn memory(&self, params: &Params, inputs: &Foreseen) -> Vec<Memory> {
        let guided = params.rollout.guidance != 1.0 || params.teacher_guidance.values().any(|g| *g != 1.0);
        let work = memory::Work::of(inputs, params.size, params.micro_batch, guided, params.precision);
        let Some(work) = work.map(|w| w.recomputing(params.recompute)) else { return Vec::new() };
        let pictures = params.rollout.prompts;
        // The second network of DMD is another adapter in training.
        let copies = if matches!(params.objective, Objective::Dmd(_)) { 5 } else { 0 };
        vec![
            work.weights(),
            work.adapter(&params.lora, copies),
            work.round(pictures, params.rollout.steps, 0),
            work.training(pictures, false),
            memory::Work::program(),
        ]
    }

    fn doubts(&self, params: &Params, _folder: &Path, _inputs: &Foreseen) -> Vec<Doubt> {
        let updates = match &params.objective {
            Objective::Ppo(config) => config.updates.max(1) as u64,
            _ => 1,
        };
        let steps = params.rounds.saturating_mul(updates);
        course_doubts::doubts(&params.optimiser, &params.pace, &params.ema, params.rounds, steps)
    }

    fn run(&self, params: Params, context: &mut StageContext) -> Result<()> {
        fitting(params.micro_batch, context, |micro_batch, context| {
            Self::attempt(Params { micro_batch, ..params.clone() }, context)
        })
    }
}

impl Distill {
    /// One attempt, with batches of `params.micro_batch`.
    fn attempt(params: Params, context: &mut StageContext) -> Result<()> {
        let mut studio = Studio::open(context, "base", params.micro_batch, params.size, params.precision)?;
        studio.canvas.recompute = params.recompute;
        let staff = Staff::of(context, &studio)?;
        studio.recite(staff.tasks.iter().flat_map(|t| &t.records), context)?;
        let seed = context.job().seed;
        let lora = adapter::trainable(context, "start", &params.lora, &studio)?;
        let fake = match params.objective {
            Objective::Dmd(_) => Some(params.lora.fresh(&studio, derive(seed, "lora", 1))?),
            _ => None,
        };
        let school = School {
            walk: params.rollout.clone(),
            canvas: studio.canvas,
            model: &*studio.network,
            empty: &studio.empty,
            lora: &lora,
            lessons: staff.lessons(&params.teacher_guidance)?,
            seed,
        };
        warn_of_idle_teachers(&school, context)?;
        let mut objective = params.objective.on(school, fake.as_ref())?;
        let own = lora.parameters();
        let all: Vec<_> = lora.parameters().into_iter().chain(fake.iter().flat_map(Lora::parameters)).collect();
        let moved = all.iter().map(tch::Tensor::shallow_clone).collect();
        let optimiser = AdamW::new(params.optimiser.clone(), moved);
        let mut learner = Learner::new(all, optimiser, params.ema.clone(), params.pace);
        match params.candidates_every {
            Some(every) => {
                let mut candidates = Candidates::of(&lora, studio.origin(), every, context);
                learn(context, &mut learner, &mut *objective, &mut candidates, params.rounds, 1)?;
                candidates.last(&learner)?;
            }
            None => learn(context, &mut learner, &mut *objective, &mut Plain, params.rounds, 1)?,
        }
        adapter::warn_if_base(context, &lora, &learner.average()[..own.len()], NOTHING_LEARNED, "the student");
        adapter::save(&lora, &learner.average()[..own.len()], &studio.origin(), &context.output("lora"))?;
        timing::write(context, objective.gradients() * params.rounds)
    }
}

/// Warns of each teacher that does what the base does, though its adapter is not of zeros.
fn warn_of_idle_teachers(school: &School, context: &StageContext) -> Result<()> {
    for (index, lesson) in school.lessons.iter().enumerate() {
        let distance = idle::distance(school, index)?;
        if !idle::changes_nothing(lesson.teacher) && idle::is_same(distance) {
            let what = format!("the velocities of the teacher `{}` are those of the base", lesson.task.name());
            context.warn(IDLE_TEACHER, what, 1);
        }
    }
    Ok(())
}

/// Teachers without prompts of their name, prompts without a teacher, and guidance for a teacher that is not there.
pub(crate) fn unpaired(guidance: &BTreeMap<String, f64>, ports: &Ports) -> Vec<ParamFault> {
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
        let fault = ParamFault::new(format!("teacher_guidance.{name}"), format!("no teacher is named `{name}`"));
        faults.push(fault.help(format!("teachers are {}", teachers.join(", "))));
    }
    faults
}

/// The teachers of a stage with their prompts, by name.
pub(crate) struct Staff<'a> {
    names: Vec<String>,
    teachers: Vec<Lora>,
    tasks: Vec<PromptTask<'a>>,
}

impl<'a> Staff<'a> {
    /// From the ports `teachers` and `prompts`.
    ///
    /// # Errors
    /// The two have other names; an adapter of another base.
    pub(crate) fn of(context: &StageContext, studio: &'a Studio) -> Result<Self> {
        let names = context.names("teachers");
        if names != context.names("prompts") {
            let fault = Fault::user(format!(
                "teachers are {}, but prompts are {}",
                names.join(", "),
                context.names("prompts").join(", ")
            ));
            return Err(fault.help("give `teachers` and `prompts` the same names").into());
        }
        let teachers =
            names.iter().map(|n| adapter::input(context, &format!("teachers.{n}"), studio)).collect::<Result<_>>()?;
        let task = |name: &String| {
            let records = record::read(&context.input(&format!("prompts.{name}"))?)?;
            Ok(PromptTask { name: name.clone(), studio, records, reward: None, practice: Practice::default() })
        };
        let tasks = names.iter().map(task).collect::<Result<_>>()?;
        Ok(Self { names, teachers, tasks })
    }

    /// A lesson by each, with its guidance; 1 where none is given.
    ///
    /// # Errors
    /// Guidance for a teacher that is not there.
    pub(crate) fn lessons(&self, guidance: &BTreeMap<String, f64>) -> Result<Vec<Lesson<'_>>> {
        if let Some(unknown) = guidance.keys().find(|n| !self.names.contains(n)) {
            return Err(Fault::user(format!("`teacher_guidance.{unknown}` names no teacher"))
                .help(format!("teachers are {}", self.names.join(", ")))
                .into());
        }
        Ok(self
            .names
            .iter()
            .zip(&self.teachers)
            .zip(&self.tasks)
            .map(|((name, teacher), task)| Lesson {
                teacher,
                guidance: guidance.get(name).copied().unwrap_or(1.0),
                task,
            })
            .collect())
    }
}
