//! `distill`: several teachers into one student, on the student's own rollouts.

use crate::adapter::{self, Shape};
use crate::learn::{Plain, learn};
use crate::param_docs::{EMA, LORA, MICRO_BATCH, OPTIMISER, PACE, SIZE, THREADS};
use crate::prompt_task::PromptTask;
use crate::record;
use crate::studio::Studio;
use crate::train_teacher::{micro, one, timing};
use anyhow::Result;
use opdflow_flow::opd::{Lesson, Opd, OpdConfig};
use opdflow_flow::optim::{AdamW, AdamWConfig, EmaConfig};
use opdflow_flow::rng::derive;
use opdflow_flow::train::{Learner, Pace};
use opdflow_stage::port::{Input, Output};
use opdflow_stage::{Description, Fault, Horizon, ParamDoc, ParamFault, Resources, Stage, StageContext};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The stage kind.
pub struct Distill;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    rounds: u64,
    #[serde(default)]
    objective: ObjectiveName,
    #[serde(default)]
    rollout: OpdConfig,
    /// By teacher; 1 where none is given.
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
    size: Option<i64>,
    #[serde(default = "micro")]
    micro_batch: usize,
    #[serde(default = "one")]
    threads: usize,
}

/// The distillation objective.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ObjectiveName {
    /// The closed-form KL of each step; direct matching where the solver adds no noise.
    #[default]
    ClosedFormKl,
}

impl Stage for Distill {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "distill",
            semantics: 1,
            about: "DiffusionOPD: the student samples, and at every state it visits it is pulled to the step that the task's teacher would take. One optimiser step for each full round over all teachers.",
            inputs: const {
                &[
                    Input::one("base", &["model"], "the base that student and teachers share"),
                    Input::many("teachers", &["lora"], "adapters by task"),
                    Input::many("prompts", &["prompts"], "training prompts by task; the same names"),
                ]
            },
            outputs: const {
                &[
                    Output::new("lora", "lora", "the student (averaged weights)"),
                    Output::side("timing", "timing", "seconds of training"),
                ]
            },
            params: &[
                ParamDoc {
                    name: "rounds",
                    about: "optimiser steps, each after every task was visited once; a longer run continues a shorter one",
                },
                ParamDoc { name: "objective", about: "`closed_form_kl`" },
                ParamDoc {
                    name: "rollout",
                    about: "`{solver, steps, prompts, guidance, matching}`: the student's sampling; `prompts` is the number of each task in a round; `matching` is `mean` or `velocity`",
                },
                ParamDoc { name: "teacher_guidance", about: "guidance scale of each teacher by task; 1 if absent" },
                LORA,
                OPTIMISER,
                PACE,
                EMA,
                SIZE,
                MICRO_BATCH,
                THREADS,
            ],
            outside_key: &["micro_batch", "threads"],
            seeded: true,
            numeric: true,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        let mut faults: Vec<ParamFault> =
            params.rollout.solver.fault().into_iter().map(|f| ParamFault::new("rollout.solver", f)).collect();
        if params.rollout.solver == (opdflow_flow::Solver::Dpm { order: 2 }) {
            faults.push(
                ParamFault::new("rollout.solver", "a second-order step has no mean of its own to match")
                    .help("use `dpm: {order: 1}` or `flow`"),
            );
        }
        for (name, value) in [
            ("rounds", params.rounds),
            ("rollout.prompts", params.rollout.prompts as u64),
            ("rollout.steps", params.rollout.steps as u64),
        ] {
            if value == 0 {
                faults.push(ParamFault::new(name, format!("`{name}` is 0, expected at least 1")));
            }
        }
        faults
    }

    fn horizon(&self, params: &Params) -> Option<Horizon> {
        Some(Horizon { param: "rounds", steps: params.rounds })
    }

    fn resources(&self, params: &Params) -> Resources {
        Resources { cpus: params.threads, memory: 1 << 30, gpu: true }
    }

    fn run(&self, params: Params, context: &mut StageContext) -> Result<()> {
        let names = context.names("teachers");
        if names != context.names("prompts") {
            let fault = Fault::user(format!(
                "teachers are {}, but prompts are {}",
                names.join(", "),
                context.names("prompts").join(", ")
            ));
            return Err(fault.help("give `teachers` and `prompts` the same names").into());
        }
        if let Some(unknown) = params.teacher_guidance.keys().find(|n| !names.contains(n)) {
            return Err(Fault::user(format!("`teacher_guidance.{unknown}` names no teacher"))
                .help(format!("teachers are {}", names.join(", ")))
                .into());
        }
        let studio = Studio::open(context, "base", params.micro_batch, params.size)?;
        let seed = context.job().seed;
        let teachers = names
            .iter()
            .map(|n| adapter::input(context, &format!("teachers.{n}"), &studio))
            .collect::<Result<Vec<_>>>()?;
        let tasks = names
            .iter()
            .map(|n| {
                Ok(PromptTask {
                    name: n.clone(),
                    studio: &studio,
                    records: record::read(&context.input(&format!("prompts.{n}"))?)?,
                    reward: None,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let lora = params.lora.fresh(&studio, derive(seed, "lora", 0))?;
        let lessons = names.iter().zip(&teachers).zip(&tasks).map(|((name, teacher), task)| {
            let guidance = params.teacher_guidance.get(name).copied().unwrap_or(1.0);
            Lesson { teacher, guidance, task }
        });
        let mut objective = Opd {
            config: params.rollout.clone(),
            canvas: studio.canvas,
            model: &studio.pipeline.transformer,
            empty: &studio.empty,
            lora: &lora,
            lessons: lessons.collect(),
            seed,
        };
        let optimiser = AdamW::new(params.optimiser.clone(), lora.parameters());
        let mut learner = Learner::new(lora.parameters(), optimiser, params.ema.clone(), params.pace);
        learn(context, &mut learner, &mut objective, &mut Plain, params.rounds, 1)?;
        adapter::save(&lora, learner.average(), studio.base, &context.output("lora"))?;
        timing(context)
    }
}
