//! AdamW, gradient clipping and the running average of weights, with state that can be saved.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

/// Settings of AdamW (decoupled weight decay; PyTorch's `torch.optim.AdamW`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWConfig {
    /// Learning rate, positive.
    pub lr: f64,
    /// Decay of the running mean of gradients.
    pub beta1: f64,
    /// Decay of the running mean of squared gradients.
    pub beta2: f64,
    /// Weight decay per step, times `lr`.
    pub weight_decay: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Largest norm of the whole gradient; a longer one is scaled down to it.
    pub clip: f64,
}

impl Default for AdamWConfig {
    /// The values of Flow-GRPO, DiffusionNFT and DiffusionOPD.
    fn default() -> Self {
        Self { lr: 3e-4, beta1: 0.9, beta2: 0.999, weight_decay: 1e-4, eps: 1e-8, clip: 1.0 }
    }
}

/// What moves parameters along their gradients.
pub trait Optimiser {
    /// Forgets the gradients.
    fn zero_grad(&mut self);
    /// Moves the parameters, with the learning rate times `factor`. Returns the norm of the whole gradient before
    /// clipping. Where it is not finite, nothing moves.
    fn step(&mut self, factor: f64) -> f64;
    /// What a continued run needs, by name.
    fn state(&self) -> Vec<(String, Tensor)>;
    /// Takes over what [`Optimiser::state`] gave.
    ///
    /// # Errors
    /// Something is missing or of another shape.
    fn restore(&mut self, state: &crate::State) -> anyhow::Result<()>;
}

/// AdamW over a list of parameters. Moments are f32 whatever the parameters are.
pub struct AdamW {
    config: AdamWConfig,
    params: Vec<Tensor>,
    mean: Vec<Tensor>,
    square: Vec<Tensor>,
    step: u64,
}

impl AdamW {
    /// An optimiser of `params`: leaves that require gradients, in an order that the caller keeps.
    #[must_use]
    pub fn new(config: AdamWConfig, params: Vec<Tensor>) -> Self {
        let zeros = || params.iter().map(|p| Tensor::zeros(p.size(), (Kind::Float, p.device()))).collect();
        Self { config, mean: zeros(), square: zeros(), params, step: 0 }
    }

    /// Steps taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Norm of the whole gradient, before clipping. One synchronisation with the device.
    #[must_use]
    pub fn grad_norm(&self) -> f64 {
        let norms: Vec<Tensor> = self
            .params
            .iter()
            .map(Tensor::grad)
            .filter(Tensor::defined)
            .map(|g| g.norm().to_kind(Kind::Float))
            .collect();
        if norms.is_empty() { 0.0 } else { Tensor::stack(&norms, 0).norm().double_value(&[]) }
    }
}

impl Optimiser for AdamW {
    fn zero_grad(&mut self) {
        for p in &mut self.params {
            p.zero_grad();
        }
    }

    fn step(&mut self, factor: f64) -> f64 {
        let norm = self.grad_norm();
        if !norm.is_finite() {
            return norm;
        }
        let c = &self.config;
        let scale = (c.clip / (norm + 1e-6)).min(1.0);
        self.step += 1;
        let (bias1, bias2) = (1.0 - c.beta1.powf(self.step as f64), 1.0 - c.beta2.powf(self.step as f64));
        let lr = c.lr * factor;
        no_grad(|| {
            for ((p, m), v) in self.params.iter_mut().zip(&mut self.mean).zip(&mut self.square) {
                let g = p.grad();
                if !g.defined() {
                    continue;
                }
                let g = g.to_kind(Kind::Float) * scale;
                let _ = m.g_mul_scalar_(c.beta1).g_add_(&(&g * (1.0 - c.beta1)));
                let _ = v.g_mul_scalar_(c.beta2).g_add_(&(&g * &g * (1.0 - c.beta2)));
                let denominator = (&*v / bias2).sqrt() + c.eps;
                let update = (&*m / bias1) / denominator * lr;
                let _ = p.g_mul_scalar_(1.0 - lr * c.weight_decay);
                let _ = p.g_sub_(&update.to_kind(p.kind()));
            }
        });
        norm
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut out = vec![("adamw.step".to_owned(), Tensor::from_slice(&[self.step.cast_signed()]))];
        for (i, (m, v)) in self.mean.iter().zip(&self.square).enumerate() {
            out.push((format!("adamw.mean.{i:04}"), m.shallow_clone()));
            out.push((format!("adamw.square.{i:04}"), v.shallow_clone()));
        }
        out
    }

    fn restore(&mut self, state: &crate::State) -> anyhow::Result<()> {
        self.step = state.get("adamw.step")?.int64_value(&[0]).cast_unsigned();
        for (i, (m, v)) in self.mean.iter_mut().zip(&mut self.square).enumerate() {
            state.copy_into(&format!("adamw.mean.{i:04}"), m)?;
            state.copy_into(&format!("adamw.square.{i:04}"), v)?;
        }
        Ok(())
    }
}

/// Settings of the running average of weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EmaConfig {
    /// Largest decay, in `[0, 1)`.
    pub decay: f64,
    /// Optimiser steps between updates.
    pub every: u64,
}

impl Default for EmaConfig {
    fn default() -> Self {
        Self { decay: 0.9, every: 1 }
    }
}

/// A running average of parameters: `decay_k = min((1 + k) / (10 + k), decay)` at step `k` (Flow-GRPO).
pub struct Ema {
    config: EmaConfig,
    average: Vec<Tensor>,
}

impl Ema {
    /// An average that starts as a copy of `params`.
    #[must_use]
    pub fn new(config: EmaConfig, params: &[Tensor]) -> Self {
        Self { config, average: params.iter().map(|p| p.detach().copy()).collect() }
    }

    /// Takes in `params` after optimiser step `k`, counted from 0.
    pub fn update(&mut self, k: u64, params: &[Tensor]) {
        if !(k + 1).is_multiple_of(self.config.every.max(1)) {
            return;
        }
        let decay = ((1.0 + k as f64) / (10.0 + k as f64)).min(self.config.decay);
        no_grad(|| {
            for (a, p) in self.average.iter_mut().zip(params) {
                let _ = a.g_mul_scalar_(decay).g_add_(&(p.detach() * (1.0 - decay)));
            }
        });
    }

    /// The averages, in the order of the parameters.
    pub fn average(&self) -> &[Tensor] {
        &self.average
    }

    /// The averages, by name.
    #[must_use]
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.average.iter().enumerate().map(|(i, a)| (format!("ema.{i:04}"), a.shallow_clone())).collect()
    }

    /// Takes over what [`Self::state`] gave.
    ///
    /// # Errors
    /// Something is missing or of another shape.
    pub fn restore(&mut self, state: &crate::State) -> anyhow::Result<()> {
        for (i, a) in self.average.iter_mut().enumerate() {
            state.copy_into(&format!("ema.{i:04}"), a)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn adamw_is_pytorchs() {
        // torch: p = tensor([1., -2.]); AdamW(lr=.1, weight_decay=.01); three steps on loss = (p ** 2).sum()
        let p = Tensor::from_slice(&[1.0_f32, -2.0]).set_requires_grad(true);
        let mut opt = AdamW::new(
            AdamWConfig { lr: 0.1, weight_decay: 0.01, clip: 1e9, ..Default::default() },
            vec![p.shallow_clone()],
        );
        for _ in 0..3 {
            opt.zero_grad();
            (&p * &p).sum(Kind::Float).backward();
            opt.step(1.0);
        }
        // By hand, in f64, from the published update.
        let mut expected = [1.0_f64, -2.0];
        for e in &mut expected {
            let (mut m, mut v) = (0.0, 0.0);
            for t in 1..=3 {
                let g = 2.0 * *e;
                m = 0.9 * m + 0.1 * g;
                v = 0.999 * v + 0.001 * g * g;
                *e *= 1.0 - 0.1 * 0.01;
                *e -= 0.1 * (m / (1.0 - 0.9_f64.powi(t))) / ((v / (1.0 - 0.999_f64.powi(t))).sqrt() + 1e-8);
            }
        }
        for (a, e) in Vec::<f32>::try_from(p.detach()).unwrap().iter().zip(expected) {
            assert!((f64::from(*a) - e).abs() < 1e-6, "{a} {e}");
        }
    }

    #[test]
    fn a_long_gradient_is_cut_and_a_broken_one_moves_nothing() {
        let p = Tensor::zeros([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let mut opt = AdamW::new(AdamWConfig::default(), vec![p.shallow_clone()]);
        (&p * f64::NAN).sum(Kind::Float).backward();
        assert!(opt.step(1.0).is_nan());
        assert_eq!(p.detach().abs().sum(Kind::Float).double_value(&[]), 0.0);
        assert_eq!(opt.steps(), 0);
        opt.zero_grad();
        (&p * 300.0 + &p * &p).sum(Kind::Float).backward();
        assert!((opt.step(1.0) - 300.0 * 2.0_f64.sqrt()).abs() < 1e-3);
        assert!((opt.mean[0].norm().double_value(&[]) - 0.1).abs() < 1e-6, "moments see the clipped gradient");
    }

    #[test]
    fn ema_warms_up() {
        let p = vec![Tensor::from_slice(&[0.0_f32])];
        let mut ema = Ema::new(EmaConfig { decay: 0.9, every: 1 }, &p);
        ema.update(0, &[Tensor::from_slice(&[1.0_f32])]); // decay 1/10
        assert!((ema.average()[0].double_value(&[0]) - 0.9).abs() < 1e-6);
    }
}
