//! `gradient_variance`: how much the gradients of distillation objectives scatter, at a student that stands still.

use crate::adapter::{self, Shape};
use crate::distill::{Objective, Staff, unpaired};
use crate::gradient_table::{self, Row};
use crate::operations::Operations;
use crate::precision::Precision;
use crate::studio::Studio;
use crate::train_teacher::{micro, one};
use crate::{code, model_fit, param};
use anyhow::Result;
use opdflow_models::Solver;
use opdflow_models::finite::is_finite;
use opdflow_models::lora::Lora;
use opdflow_stage::port::{Input, Output};
use opdflow_stage::{
    Code, Description, Environment, Fault, Foreseen, ParamFault, Ports, Resources, Stage, StageContext, Work,
};
use opdflow_training::school::{School, Walk};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

/// The stage kind.
pub struct GradientVariance;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// By name, as `distill` takes them; `dmd` has no gradient of its own.
    #[schemars(extend("minProperties" = 1))]
    objectives: BTreeMap<String, Objective>,
    /// Noise levels of the rollouts.
    #[schemars(length(min = 1), inner(range(min = 0.0, max = 10.0)))]
    levels: Vec<f64>,
    /// Gradients at each level, each of a round of its own.
    #[schemars(range(min = 2, max = 1_000_000))]
    #[serde(default = "samples")]
    samples: u64,
    /// The student's sampling; its solver is replaced by each of `levels`.
    #[serde(default)]
    rollout: Walk,
    /// Guidance scale of each teacher by task; 1 if absent.
    #[schemars(with = "BTreeMap<String, param::Guidance>")]
    #[serde(default)]
    teacher_guidance: BTreeMap<String, f64>,
    #[serde(default)]
    lora: Shape,
    #[serde(default)]
    #[schemars(with = "param::Size")]
    size: Option<i64>,
    #[serde(default = "micro")]
    #[schemars(with = "param::MicroBatch")]
    micro_batch: usize,
    #[serde(default = "one")]
    #[schemars(with = "param::Threads")]
    threads: usize,
}

fn samples() -> u64 {
    32
}

impl Params {
    fn walk(&self, level: f64) -> Walk {
        Walk { solver: Solver::Flow { noise_level: level }, ..self.rollout.clone() }
    }
}

impl Stage for GradientVariance {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "gradient_variance",
            semantics: 2,
            about: "Mean and variance of the gradients of several distillation objectives over many rollouts of one student that stands still, at several noise levels, and how far their means agree (DiffusionOPD, section 3.3).",
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
                    Output::new("markdown", "markdown", "the table"),
                    Output::new("csv", "csv", "the table"),
                    Output::new("json", "json", "the table"),
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
            for level in &params.levels {
                faults.extend(objective.check(&params.walk(*level)).into_iter().map(|f| {
                    ParamFault::new("levels", format!("at level {level}, objective `{name}`: {}", f.message))
                }));
            }
        }
        faults
    }

    fn code(&self, params: &Params, _ports: &Ports) -> Code {
        let objectives: Vec<&str> = params.objectives.values().flat_map(|o| o.code()).copied().collect();
        let own = ["distill", "flow.school", "gradient_table"];
        code::of("gradient_variance", &[code::MODEL, code::TRAINING, &own, &objectives])
    }

    fn work(&self, params: &Params, _folder: &Path, inputs: &Foreseen) -> Option<Work> {
        let model = Operations::of(inputs, params.size)?;
        let lessons: Vec<&str> = inputs.keys().filter_map(|port| port.strip_prefix("prompts.")).collect();
        let guidance = |name: &str| params.teacher_guidance.get(name).copied().unwrap_or(1.0);
        let sample = |o: &Objective| -> f64 {
            lessons.iter().map(|l| o.operations(&model, &params.rollout, guidance(l), false)).sum()
        };
        let samples = params.levels.len() as f64 * params.samples as f64;
        Some(Work { operations: samples * params.objectives.values().map(sample).sum::<f64>(), bytes: None })
    }

    fn wired(&self, params: &Params, ports: &Ports) -> Vec<ParamFault> {
        unpaired(&params.teacher_guidance, ports)
    }

    fn unfit(&self, params: &Params, _folder: &Path, ports: &Ports, inputs: &Foreseen) -> Vec<ParamFault> {
        let fresh = (!ports.contains("student")).then_some(&params.lora);
        model_fit::faults(inputs, params.size, fresh)
    }

    fn environment(&self, _params: &Params) -> Environment {
        Precision::default().environment()
    }

    fn resources(&self, params: &Params) -> Resources {
        Resources { cpus: params.threads, gpu: true }
    }

    fn run(&self, params: Params, context: &mut StageContext) -> Result<()> {
        let studio = Studio::open(context, "base", params.micro_batch, params.size, Precision::default())?;
        let staff = Staff::of(context, &studio)?;
        let seed = context.job().seed;
        let lora = adapter::trainable(context, "student", &params.lora, &studio)?;
        let total = params.levels.len() as u64 * params.objectives.len() as u64 * params.samples;
        let mut rows = Vec::new();
        let mut done = 0;
        for level in &params.levels {
            let mut first: Option<Tensor> = None;
            for (name, objective) in &params.objectives {
                let school = School {
                    walk: params.walk(*level),
                    canvas: studio.canvas,
                    model: &*studio.network,
                    empty: &studio.empty,
                    lora: &lora,
                    lessons: staff.lessons(&params.teacher_guidance)?,
                    seed,
                };
                let mut objective = objective.on(school, None)?;
                let mut spread = Spread::default();
                for k in 0..params.samples {
                    context.go_on(done)?;
                    lora.parameters().iter_mut().for_each(Tensor::zero_grad);
                    objective.accumulate(k, 0)?;
                    objective.after(k);
                    let gradient = gradient(&lora);
                    if !is_finite(&gradient) {
                        let what = format!("the gradient of sample {k} of `{name}` at level {level} is not finite");
                        return Err(Fault::not_finite(what)
                            .help("a lower guidance, or adapters that are whole")
                            .into());
                    }
                    spread.take(&gradient);
                    done += 1;
                    context.progress(done, total, &format!("{name} at {level}"));
                }
                let mean = spread.mean();
                let cosine = first.as_ref().map_or(1.0, |f| cosine(f, &mean));
                rows.push(Row { level: *level, objective: name.clone(), cosine, ..spread.row() });
                first.get_or_insert(mean);
            }
        }
        gradient_table::write(context, &rows)
    }
}

/// Running mean and variance of vectors (Welford), f64.
#[derive(Default)]
struct Spread {
    n: u64,
    mean: Option<Tensor>,
    squares: f64,
}

impl Spread {
    fn take(&mut self, g: &Tensor) {
        self.n += 1;
        let g = g.to_kind(Kind::Double);
        let mean = self.mean.take().unwrap_or_else(|| g.zeros_like());
        let before = &g - &mean;
        let mean = mean + &before / self.n as f64;
        self.squares += (before * (g - &mean)).sum(Kind::Double).double_value(&[]);
        self.mean = Some(mean);
    }

    fn mean(&self) -> Tensor {
        self.mean.as_ref().map_or_else(Tensor::new, Tensor::shallow_clone)
    }

    fn row(&self) -> Row {
        let variance = self.squares / (self.n.max(2) - 1) as f64;
        let length = self.mean.as_ref().map_or(0.0, |m| m.square().sum(Kind::Double).double_value(&[]));
        let mean = (length - variance / self.n.max(1) as f64).max(0.0).sqrt();
        let spread = variance.sqrt();
        Row { mean, spread, signal: mean / spread, samples: self.n, ..Row::default() }
    }
}

fn gradient(lora: &Lora) -> Tensor {
    let flat = |p: &Tensor| if p.grad().defined() { p.grad().copy().view([-1]) } else { p.zeros_like().view([-1]) };
    Tensor::cat(&lora.parameters().iter().map(flat).collect::<Vec<_>>(), 0)
}

fn cosine(a: &Tensor, b: &Tensor) -> f64 {
    let dot = |a: &Tensor, b: &Tensor| (a * b).sum(Kind::Double).double_value(&[]);
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_spread_by_hand() {
        let mut spread = Spread::default();
        for (x, y) in [(1.0, 0.0), (3.0, 2.0), (2.0, 1.0)] {
            spread.take(&Tensor::from_slice(&[x, y]));
        }
        // Mean (2, 1), variances 1 and 1.
        let row = spread.row();
        assert!((row.spread - 2.0_f64.sqrt()).abs() < 1e-12);
        assert!((row.mean - (5.0_f64 - 2.0 / 3.0).sqrt()).abs() < 1e-12);
        assert!((cosine(&spread.mean(), &Tensor::from_slice(&[4.0, 2.0])) - 1.0).abs() < 1e-12);
    }
}
