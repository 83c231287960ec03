//! `gradient_variance` at work: how much the gradients of distillation objectives scatter, for a fixed student.

use crate::artefacts::adapter;
use crate::runtime::pipeline::Pipeline;
use crate::stages::distill::{TeacherSet, on};
use crate::stages::gradient_table;
use crate::stages::gradient_table::Row;
use anyhow::Result;
use opdflow_api::{Fault, StageContext};
use opdflow_kinds::precision::Precision;
use opdflow_kinds::stages::gradient_variance::Params;
use opdflow_models::finite::is_finite;
use opdflow_models::lora::Lora;
use opdflow_training::distillation::Distillation;
use tch::{Kind, Tensor};

/// Takes the gradients of the objectives over many rollouts of one student that stands still.
///
/// # Errors
/// A fault says whose it is; anything else is a bug.
pub fn run(params: Params, context: &mut StageContext) -> Result<()> {
    let pipeline = Pipeline::open(
        context,
        "base",
        params.micro_batch,
        params.size,
        Precision::default(),
        params.max_sequence_length,
    )?;
    let teacher_set = TeacherSet::of(context, &pipeline)?;
    let seed = context.job().seed;
    let lora = adapter::trainable(context, "student", &params.lora, &pipeline)?;
    let total = params.noise_levels.len() as u64 * params.objectives.len() as u64 * params.samples;
    let mut rows = Vec::new();
    let mut done = 0;
    for level in &params.noise_levels {
        let mut first: Option<Tensor> = None;
        for (name, objective) in &params.objectives {
            let distillation = Distillation {
                sampling: params.sampling(*level),
                canvas: pipeline.canvas,
                model: &*pipeline.network,
                empty: &pipeline.empty,
                lora: &lora,
                teachers: teacher_set.with_guidance(&params.teacher_guidance_scale)?,
                seed,
            };
            let mut objective = on(objective, distillation, None)?;
            let mut spread = Spread::default();
            for k in 0..params.samples {
                context.go_on(done)?;
                lora.parameters().iter_mut().for_each(Tensor::zero_grad);
                objective.accumulate(k, 0)?;
                objective.after(k);
                let gradient = gradient(&lora);
                if !is_finite(&gradient) {
                    let what = format!("the gradient of sample {k} of `{name}` at level {level} is not finite");
                    return Err(Fault::not_finite(what).help("a lower guidance, or adapters that are whole").into());
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
