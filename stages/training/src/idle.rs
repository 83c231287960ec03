//! Adapters that do nothing: of zeros, or with velocities that are the base's.

use crate::distillation::Distillation;
use anyhow::Result;
use opdflow_models::field::{Field, Guidance};
use opdflow_models::lora::Lora;
use tch::{Kind, Tensor, no_grad};

/// Velocities closer than this share of the base's mean size are the base's: rounding is some 1e-6 of it.
const SAME: f64 = 1e-5;

/// Whether an adapter changes no weight at all: in each of its pairs one side is zero, or the scale is.
#[must_use]
pub fn changes_nothing(lora: &Lora) -> bool {
    let zero = |t: &Tensor| no_grad(|| t.detach().any().int64_value(&[]) == 0);
    let idle = |module: &String| {
        lora.pair(module).is_none_or(|pair| lora.scale(pair) == 0.0 || zero(&pair.b) || zero(&pair.a))
    };
    lora.modules().all(idle)
}

/// How far the velocities of task `index`'s teacher are from the base's, with the same guidance, on the first prompt
/// and noise of round 0: the mean distance over the mean size. Costs one forward of each.
///
/// # Errors
/// A prompt that cannot be encoded.
pub fn distance(distillation: &Distillation, index: usize) -> Result<f64> {
    let _off = tch::no_grad_guard();
    let batch = distillation.batch(index, 0)?;
    let (x, condition) = (batch.start.narrow(0, 0, 1), batch.condition.narrow(0, 1));
    let sigma = distillation.schedule().sigma(0);
    let guidance = Guidance { scale: distillation.teachers[index].guidance, empty: distillation.empty };
    let base = Field { model: distillation.model, lora: None, guidance };
    let size = |t: &Tensor| t.abs().mean(Kind::Float).double_value(&[]);
    let plain = base.velocity_at(&x, sigma, &condition);
    let apart = distillation.teacher(index).velocity_at(&x, sigma, &condition) - &plain;
    Ok(size(&apart) / size(&plain).max(f64::MIN_POSITIVE))
}

/// Whether a [`distance`] is no more than rounding.
#[must_use]
pub fn is_same(distance: f64) -> bool {
    distance < SAME
}

#[cfg(test)]
mod tests {
    use super::*;
    use opdflow_models::lora::LoraConfig;
    use opdflow_models::nn::LinearShape;
    use tch::Device;

    #[test]
    fn a_fresh_adapter_changes_nothing_and_one_number_makes_it_change() {
        let linears = ["x.attn.to_q", "x.attn.to_k"].map(|name| LinearShape { name: name.into(), d_in: 4, d_out: 3 });
        let lora = Lora::init(&LoraConfig::joint_attention(2, 4.0), &linears, 1, Device::Cpu).unwrap();
        assert!(changes_nothing(&lora));
        let pair = lora.pair("x.attn.to_k").unwrap();
        no_grad(|| drop(pair.b.get(1).get(0).fill_(1e-30)));
        assert!(!changes_nothing(&lora));
        no_grad(|| drop(pair.a.shallow_clone().zero_()));
        assert!(changes_nothing(&lora));
    }
}
