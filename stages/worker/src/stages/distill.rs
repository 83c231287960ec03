//! `distill` at work: several teachers into one student, on the student's own rollouts.

use crate::artefacts::candidates::Candidates;
use crate::artefacts::cost::Cost;
use crate::artefacts::{adapter, cost, timing};
use crate::judging::asking::Asking;
use crate::judging::held_out::HeldOut;
use crate::runtime::fitting::fitting;
use crate::runtime::learn::{Course, Courses, learn};
use crate::runtime::pipeline::Pipeline;
use crate::runtime::prompt_task::PromptTask;
use crate::runtime::samples::{Sampled, Shown};
use anyhow::Result;
use opdflow_api::warning::{IDLE_TEACHER, NOTHING_LEARNED};
use opdflow_api::{Fault, StageContext};
use opdflow_kinds::model::sampling::ImageSampling;
use opdflow_kinds::prompt::record;
use opdflow_kinds::stages::distill::{Objective, Params};
use opdflow_models::lora::Lora;
use opdflow_models::rng::derive;
use opdflow_spec::served::Requests;
use opdflow_training::dance::Dance;
use opdflow_training::distillation::{Distillation, TaskTeacher};
use opdflow_training::dmd::{Dmd, Fake};
use opdflow_training::idle;
use opdflow_training::objective::Objective as Training;
use opdflow_training::opd::{Opd, Remaining};
use opdflow_training::optim::AdamW;
use opdflow_training::ppo::Ppo;
use opdflow_training::sft::Sft;
use opdflow_training::task::TaskSettings;
use opdflow_training::train::Learner;
use std::collections::BTreeMap;

/// The objective at work. `fake` is the second network of [`Objective::Dmd`].
pub(crate) fn on<'a>(
    objective: &Objective,
    distillation: Distillation<'a>,
    fake: Option<Fake<'a>>,
) -> Result<Box<dyn Training + 'a>> {
    Ok(match objective.clone() {
        Objective::ClosedFormKl(config) => Box::new(Opd { config, distillation, remaining: Remaining::default() }),
        Objective::Ppo(config) => Box::new(Ppo { config, distillation, seen: Vec::new() }),
        Objective::OneState(config) => Box::new(Dance { config, distillation }),
        Objective::Sft(config) => Box::new(Sft { config, distillation }),
        Objective::Dmd(config) => {
            let fake = fake.ok_or_else(|| anyhow::anyhow!("distribution matching without its second network"))?;
            Box::new(Dmd { config, distillation, fake })
        }
    })
}

/// Trains the student on the teachers' steps, or on what else the objective takes of them.
///
/// # Errors
/// A fault says whose it is; anything else is a bug.
pub fn run(params: Params, context: &mut StageContext) -> Result<()> {
    fitting(params.micro_batch, context, |micro_batch, context| {
        attempt(Params { micro_batch, ..params.clone() }, context)
    })
}

/// One attempt, with batches of `params.micro_batch`.
fn attempt(params: Params, context: &mut StageContext) -> Result<()> {
    let mut pipeline =
        Pipeline::open(context, "base", params.micro_batch, params.size, params.precision, params.max_sequence_length)?;
    pipeline.canvas.gradient_checkpointing = params.gradient_checkpointing;
    let teacher_set = TeacherSet::of(context, &pipeline)?;
    pipeline.encode_prompts(teacher_set.tasks.iter().flat_map(|t| &t.records), context)?;
    let seed = context.job().seed;
    let lora = adapter::trainable(context, "start", &params.lora, &pipeline)?;
    let fake = match params.objective {
        // It is to know the student's distribution, and begins where the student does.
        Objective::Dmd(_) if context.maybe_input("start")?.is_some() => Some(lora.detached()),
        Objective::Dmd(_) => Some(adapter::fresh(&params.lora, &pipeline, derive(seed, "lora", 1))?),
        _ => None,
    };
    if let Some(fake) = &fake {
        fake.set_trainable(true);
    }
    let distillation = Distillation {
        sampling: params.rollout.clone(),
        canvas: pipeline.canvas,
        model: &*pipeline.network,
        empty: &pipeline.empty,
        lora: &lora,
        teachers: teacher_set.with_guidance(&params.teacher_guidance_scale)?,
        seed,
    };
    warn_of_idle_teachers(&distillation, context)?;
    let fake = match (&params.objective, &fake) {
        (Objective::Dmd(config), Some(lora)) => Some(Fake::new(lora, config, &params.optimizer, params.lr_schedule)),
        _ => None,
    };
    let mut objective = on(&params.objective, distillation, fake)?;
    let optimizer = AdamW::new(params.optimizer.clone(), lora.parameters());
    let student = params.rollout.guidance(pipeline.network.architecture());
    let names = teacher_set.names.iter().map(String::as_str);
    let each = params.operations(&pipeline.passes(), student, names, false);
    let rounds = cost::rounds_within(params.budget.as_ref(), each, params.rounds, &params.lr_schedule, context)?;
    let mut learner = Learner::new(lora.parameters(), optimizer, params.ema.clone(), params.lr_schedule);
    // None is asked of a server.
    let asking = Asking::new(context, &Requests::default());
    let beside = HeldOut::connected(context, pipeline.canvas, &asking)?.with_rules(&params.samples.rewards)?;
    let shown = teacher_set.tasks.iter().map(|t| Shown { records: t.records.clone(), reward: None }).collect();
    let sampling = ImageSampling {
        num_inference_steps: params.rollout.num_inference_steps,
        guidance_scale: student,
        ..ImageSampling::default()
    };
    let (network, often) = ((&pipeline, &lora), (&params.samples, rounds));
    let mut candidates = params.candidates_every.map(|every| Candidates::of(&lora, pipeline.origin(), every, context));
    let mut sampled = Sampled::new(network, often, (shown, beside), sampling, context);
    let mut courses = Courses::default();
    courses.0.extend(candidates.as_mut().map(|kept| kept as &mut dyn Course));
    courses.0.push(&mut sampled);
    learn(context, &mut learner, &mut *objective, &mut courses, rounds, 1)?;
    candidates.map_or(Ok(()), |kept| kept.last(&learner))?;
    adapter::warn_if_base(context, &lora, learner.average(), NOTHING_LEARNED, "the student");
    adapter::save(&lora, learner.average(), &pipeline.origin(), &context.output("lora"))?;
    let took = Cost {
        rounds,
        gradients: objective.gradients() * rounds,
        operations: each * rounds as f64,
        validation_operations: 0.0,
    };
    took.write(context)?;
    timing::write(context, &took, 1.0)
}

/// Warns of each teacher that does what the base does, though its adapter is not of zeros.
fn warn_of_idle_teachers(distillation: &Distillation, context: &StageContext) -> Result<()> {
    for (index, teacher) in distillation.teachers.iter().enumerate() {
        let distance = idle::distance(distillation, index)?;
        if !idle::changes_nothing(teacher.lora) && idle::is_same(distance) {
            let what = format!("the velocities of the teacher `{}` are those of the base", teacher.task.name());
            context.warn(IDLE_TEACHER, what, 1);
        }
    }
    Ok(())
}

/// The teachers of a stage with their prompts, by name.
pub(crate) struct TeacherSet<'a> {
    names: Vec<String>,
    teachers: Vec<Lora>,
    tasks: Vec<PromptTask<'a>>,
}

impl<'a> TeacherSet<'a> {
    /// From the ports `teachers` and `prompts`.
    ///
    /// # Errors
    /// The two have other names; an adapter of another base.
    pub(crate) fn of(context: &StageContext, pipeline: &'a Pipeline) -> Result<Self> {
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
            names.iter().map(|n| adapter::input(context, &format!("teachers.{n}"), pipeline)).collect::<Result<_>>()?;
        let task = |name: &String| {
            let records = record::read(&context.input(&format!("prompts.{name}"))?)?;
            Ok(PromptTask { name: name.clone(), pipeline, records, reward: None, settings: TaskSettings::default() })
        };
        let tasks = names.iter().map(task).collect::<Result<_>>()?;
        Ok(Self { names, teachers, tasks })
    }

    /// Each teacher with its task and its guidance; 1 where none is given.
    ///
    /// # Errors
    /// Guidance for a teacher that is not there.
    pub(crate) fn with_guidance(&self, guidance: &BTreeMap<String, f64>) -> Result<Vec<TaskTeacher<'_>>> {
        if let Some(unknown) = guidance.keys().find(|n| !self.names.contains(n)) {
            return Err(Fault::user(format!("`teacher_guidance_scale.{unknown}` names no teacher"))
                .help(format!("teachers are {}", self.names.join(", ")))
                .into());
        }
        Ok(self
            .names
            .iter()
            .zip(&self.teachers)
            .zip(&self.tasks)
            .map(|((name, teacher), task)| TaskTeacher {
                lora: teacher,
                guidance: guidance.get(name).copied().unwrap_or(1.0),
                task,
            })
            .collect())
    }
}
