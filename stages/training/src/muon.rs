//! Muon: momentum whose direction is made orthogonal, for matrices; AdamW for everything else.
//!
//! Used for pretraining from nothing, where it needs about a third of AdamW's steps; never for adapters, whose
//! factors are not matrices in their own right. After K. Jordan et al., "Muon: an optimizer for hidden layers", 2024.

pub use opdflow_spec::muon::*;

use crate::State;
use crate::optim::{AdamW, Optimizer};
use anyhow::Result;
use tch::{Tensor, no_grad};

/// Muon over named parameters.
pub struct Muon {
    config: MuonConfig,
    matrices: Vec<Tensor>,
    momentum: Vec<Tensor>,
    rest: AdamW,
}

impl Muon {
    /// An optimizer of `params`. Tensors of two or more dimensions (convolutions as `[out, in * kernel]`) are
    /// matrices, unless `plain` says that one is a table or a vector in disguise.
    #[must_use]
    pub fn new(config: MuonConfig, params: &[(String, Tensor)], plain: impl Fn(&str) -> bool) -> Self {
        let (matrices, rest): (Vec<_>, Vec<_>) =
            params.iter().partition(|(n, t)| t.dim() >= 2 && t.size()[1..].iter().product::<i64>() > 1 && !plain(n));
        let own = |list: Vec<&(String, Tensor)>| list.into_iter().map(|(_, t)| t.shallow_clone()).collect::<Vec<_>>();
        let (matrices, rest) = (own(matrices), own(rest));
        let momentum = matrices.iter().map(Tensor::zeros_like).collect();
        Self { rest: AdamW::new(config.adamw.clone(), rest), matrices, momentum, config }
    }
}

/// The nearest orthogonal matrix, roughly: five steps of a quintic Newton-Schulz iteration, which brings all
/// singular values into about `[0.7, 1.2]`. `g`: `[rows, columns]`.
fn orthogonal(g: &Tensor) -> Tensor {
    let (a, b, c) = (3.4445, -4.7750, 2.0315);
    let tall = g.size()[0] > g.size()[1];
    let mut x = g / (g.norm() + 1e-7);
    if tall {
        x = x.tr();
    }
    for _ in 0..5 {
        let square = x.matmul(&x.tr());
        let poly = &square * b + square.matmul(&square) * c;
        x = &x * a + poly.matmul(&x);
    }
    if tall { x.tr() } else { x }
}

impl Optimizer for Muon {
    fn lr(&self) -> f64 {
        self.config.lr
    }

    fn zero_grad(&mut self) {
        for p in &mut self.matrices {
            p.zero_grad();
        }
        self.rest.zero_grad();
    }

    fn step(&mut self, factor: f64) -> f64 {
        let norms: Vec<Tensor> =
            self.matrices.iter().map(Tensor::grad).filter(Tensor::defined).map(|g| g.norm()).collect();
        let norm = if norms.is_empty() { 0.0 } else { Tensor::stack(&norms, 0).norm().double_value(&[]) };
        let rest = self.rest.grad_norm();
        let whole = norm.hypot(rest);
        if !whole.is_finite() {
            return whole;
        }
        let lr = self.config.lr * factor;
        let scale = (self.config.max_grad_norm / (whole + 1e-6)).min(1.0);
        no_grad(|| {
            for (p, m) in self.matrices.iter_mut().zip(&mut self.momentum) {
                let g = p.grad();
                if !g.defined() {
                    continue;
                }
                let g = g * scale;
                let _ = m.g_mul_scalar_(self.config.momentum).g_add_(&g);
                // Nesterov: look one step ahead.
                let ahead = (&g + &*m * self.config.momentum).flatten(1, -1);
                let (rows, columns) = (ahead.size()[0] as f64, ahead.size()[1] as f64);
                let step = orthogonal(&ahead).view_as(p) * (lr * (rows / columns).max(1.0).sqrt());
                let _ = p.g_mul_scalar_(1.0 - lr * self.config.weight_decay);
                let _ = p.g_sub_(&step);
            }
        });
        self.rest.step(factor);
        whole
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut out = self.rest.state();
        out.extend(crate::state::numbered("muon.momentum", &self.momentum));
        out
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.rest.restore(state)?;
        for (i, m) in self.momentum.iter_mut().enumerate() {
            state.copy_into(&format!("muon.momentum.{i:04}"), m)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opdflow_models::rng::normal;
    use tch::{Device, Kind};

    #[test]
    fn the_step_is_nearly_orthogonal() {
        for shape in [[8, 32], [32, 8], [16, 16]] {
            let step = orthogonal(&normal(&shape, 3, Device::Cpu));
            let (_, values, _) = step.svd(true, false);
            let (low, high) = (values.min().double_value(&[]), values.max().double_value(&[]));
            assert!(low > 0.3 && high < 1.3, "{low} {high}");
        }
    }

    #[test]
    fn it_solves_a_small_regression() {
        let w = Tensor::zeros([4, 6], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let b = Tensor::zeros([4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let mut opt = Muon::new(
            MuonConfig::default(),
            &[("w".into(), w.shallow_clone()), ("b".into(), b.shallow_clone())],
            |_| false,
        );
        let (x, truth) = (normal(&[64, 6], 1, Device::Cpu), normal(&[4, 6], 2, Device::Cpu));
        let y = x.matmul(&truth.tr());
        let loss = || (x.matmul(&w.tr()) + &b - &y).square().mean(Kind::Float);
        let before = loss().double_value(&[]);
        for k in 0..300 {
            opt.zero_grad();
            loss().backward();
            opt.step(1.0 - f64::from(k) / 300.0);
        }
        let after = loss().double_value(&[]);
        assert!(after < before * 0.1, "{before} {after}");
    }
}
