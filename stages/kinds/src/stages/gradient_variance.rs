//! `gradient_variance`: how much the gradients of distillation objectives scatter, for a fixed student.

use crate::cost::operations::Operations;
use crate::model::model_fit;
use crate::model::shape::Shape;
use crate::param::{micro, one};
use crate::precision::Precision;
use crate::stages::distill::{Objective, unpaired};
use crate::{code, param};
use opdflow_api::port::{Input, Output};
use opdflow_api::{Code, Description, Environment, Foreseen, ParamFault, Ports, Resources, Stage, Work};
use opdflow_spec::Solver;
use opdflow_spec::distillation::StudentSampling;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The stage kind.
pub struct GradientVariance;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the schema has the words of a parameter's own type")]
pub struct Params {
    /// By name, as `distill` takes them; `dmd` has no gradient of its own.
    #[schemars(extend("minProperties" = 1))]
    pub objectives: BTreeMap<String, Objective>,
    /// Noise levels of the rollouts.
    #[schemars(length(min = 1), inner(range(min = 0.0, max = 10.0)))]
    #[schemars(extend("x-formerly" = ["levels"]))]
    pub noise_levels: Vec<f64>,
    /// Gradients at each level, each of a round of its own.
    #[schemars(range(min = 2, max = 1_000_000))]
    #[serde(default = "samples")]
    pub samples: u64,
    /// The student's sampling; its solver is replaced by each of `noise_levels`.
    #[serde(default)]
    pub rollout: StudentSampling,
    /// Guidance scale of each teacher by task; 1 if absent.
    #[schemars(with = "BTreeMap<String, param::Guidance>")]
    #[serde(default)]
    #[schemars(extend("x-formerly" = ["teacher_guidance"]))]
    pub teacher_guidance_scale: BTreeMap<String, f64>,
    #[serde(default)]
    pub lora: Shape,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "param::MaxSequenceLength")]
    pub max_sequence_length: Option<usize>,
    #[serde(default)]
    #[schemars(with = "param::Size")]
    pub size: Option<i64>,
    #[serde(default = "micro")]
    #[schemars(with = "param::MicroBatch")]
    pub micro_batch: usize,
    #[serde(default = "one")]
    #[schemars(with = "param::Threads")]
    pub threads: usize,
}

fn samples() -> u64 {
    32
}

impl Params {
    /// The rollout at a noise level.
    #[must_use]
    pub fn sampling(&self, level: f64) -> StudentSampling {
        StudentSampling { solver: Solver::Flow { noise_level: level }, ..self.rollout.clone() }
    }
}

impl Stage for GradientVariance {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "gradient_variance",
            semantics: 2,
            about: "Mean and variance of the gradients of several distillation objectives over many rollouts of one fixed student, at several noise levels, and how far their means agree (DiffusionOPD, section 3.3).",
            inputs: const {
                &[
                    Input::one("base", &["model"], "the base that student and teachers share"),
                    Input::many("teachers", &["lora"], "adapters by task"),
                    Input::many("prompts", &["prompts"], "training prompts by task; the same names"),
                    Input::optional("student", &["lora"], "the student; a fresh adapter if absent"),
                ]
            },
            outputs: const {
                &[
                    Output::new("markdown", "markdown", "the table").result().file("md"),
                    Output::new("csv", "csv", "the table").result().file("csv"),
                    Output::new("json", "json", "the table").file("json"),
                ]
            },
            outside_key: &["micro_batch", "threads"],
            seeded: true,
            numeric: true,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        let mut faults = Vec::new();
        for (name, objective) in &params.objectives {
            if matches!(objective, Objective::Dmd(_)) {
                faults.push(ParamFault::new(
                    format!("objectives.{name}"),
                    "distribution matching depends on a second network, so that its gradient at a fixed student says nothing",
                ));
            }
            for level in &params.noise_levels {
                faults.extend(objective.check(&params.sampling(*level)).into_iter().map(|f| {
                    ParamFault::new("noise_levels", format!("at level {level}, objective `{name}`: {}", f.message))
                }));
            }
        }
        faults
    }

    fn code(&self, params: &Params, _ports: &Ports) -> Code {
        let objectives: Vec<&str> = params.objectives.values().flat_map(|o| o.code()).copied().collect();
        let own = ["distill", "training.distillation", "gradient_table"];
        code::of("gradient_variance", &[code::MODEL, code::TRAINING, code::UPDATES, &own, &objectives])
    }

    fn work(&self, params: &Params, _folder: &Path, inputs: &Foreseen) -> Option<Work> {
        let model = Operations::of(inputs, params.size)?;
        let teachers: Vec<&str> = inputs.keys().filter_map(|port| port.strip_prefix("prompts.")).collect();
        let guidance = |name: &str| params.teacher_guidance_scale.get(name).copied().unwrap_or(1.0);
        let student = params.rollout.guidance(model.base());
        let sample = |o: &Objective| -> f64 {
            teachers.iter().map(|l| o.operations(&model, &params.rollout, [student, guidance(l)], false)).sum()
        };
        let samples = params.noise_levels.len() as f64 * params.samples as f64;
        Some(Work { operations: samples * params.objectives.values().map(sample).sum::<f64>(), bytes: None })
    }

    fn wired(&self, params: &Params, ports: &Ports) -> Vec<ParamFault> {
        let length = param::length_of_embeddings(params.max_sequence_length, ports);
        unpaired(&params.teacher_guidance_scale, ports).into_iter().chain(length).collect()
    }

    fn unfit(&self, params: &Params, _folder: &Path, ports: &Ports, inputs: &Foreseen) -> Vec<ParamFault> {
        let fresh = (!ports.contains("student")).then_some(&params.lora);
        model_fit::faults(inputs, params.size, fresh)
    }

    fn environment(&self, _params: &Params) -> Environment {
        Precision::default().environment()
    }

    fn resources(&self, params: &Params) -> Resources {
        Resources { cpus: params.threads, gpu: true, several: true }
    }
}
