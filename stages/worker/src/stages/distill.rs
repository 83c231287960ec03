//! `distill` at work: several teachers into one student, on the student's own rollouts.

use crate::artefacts::candidates::Candidates;
use crate::artefacts::{adapter, timing};
use crate::runtime::fitting::fitting;
use crate::runtime::learn::{Plain, learn};
use crate::runtime::prompt_task::PromptTask;
use crate::runtime::studio::Studio;
use anyhow::Result;
use opdflow_api::warning::{IDLE_TEACHER, NOTHING_LEARNED};
use opdflow_api::{Fault, StageContext};
use opdflow_kinds::prompt::record;
use opdflow_kinds::stages::distill::{Objective, Params};
use opdflow_models::lora::Lora;
use opdflow_models::rng::derive;
use opdflow_training::dance::Dance;
use opdflow_training::dmd::Dmd;
use opdflow_training::idle;
use opdflow_training::objective::Objective as Training;
use opdflow_training::opd::{Opd, Remaining};
use opdflow_training::optim::AdamW;
use opdflow_training::ppo::Ppo;
use opdflow_training::school::{Lesson, School};
use opdflow_training::sft::Sft;
use opdflow_training::task::Practice;
use opdflow_training::train::Learner;
use std::collections::BTreeMap;

/// The objective at work. `fake` is the second network of [`Objective::Dmd`].
pub(crate) fn on<'a>(
    objective: &Objective,
    school: School<'a>,
    fake: Option<&'a Lora>,
) -> Result<Box<dyn Training + 'a>> {
    Ok(match objective.clone() {
        Objective::ClosedFormKl(config) => Box::new(Opd { config, school, remaining: Remaining::default() }),
        Objective::Ppo(config) => Box::new(Ppo { config, school, seen: Vec::new() }),
        Objective::OneState(config) => Box::new(Dance { config, school }),
        Objective::Sft(config) => Box::new(Sft { config, school }),
        Objective::Dmd(config) => {
            let fake = fake.ok_or_else(|| anyhow::anyhow!("distribution matching without its second network"))?;
            Box::new(Dmd { config, school, fake })
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
    let mut studio = Studio::open(context, "base", params.micro_batch, params.size, params.precision)?;
    studio.canvas.recompute = params.recompute;
    let staff = Staff::of(context, &studio)?;
    studio.recite(staff.tasks.iter().flat_map(|t| &t.records), context)?;
    let seed = context.job().seed;
    let lora = adapter::trainable(context, "start", &params.lora, &studio)?;
    let fake = match params.objective {
        Objective::Dmd(_) => Some(adapter::fresh(&params.lora, &studio, derive(seed, "lora", 1))?),
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
    let mut objective = on(&params.objective, school, fake.as_ref())?;
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
