//! AdamW, gradient clipping and the running average of weights, with state that can be saved.

pub use opdflow_spec::optim::*;

use tch::{Device, Kind, Tensor, no_grad};

/// What moves parameters along their gradients.
pub trait Optimizer {
    /// Forgets the gradients.
    fn zero_grad(&mut self);
    /// Moves the parameters, with the learning rate times `factor`. Returns the norm of the whole gradient before
    /// clipping. Where it is not finite, nothing moves.
    fn step(&mut self, factor: f64) -> f64;
    /// The learning rate, of which [`Optimizer::step`] takes a multiple.
    fn lr(&self) -> f64;
    /// What a continued run needs, by name.
    fn state(&self) -> Vec<(String, Tensor)>;
    /// Takes over what [`Optimizer::state`] gave.
    ///
    /// # Errors
    /// Something is missing or of another shape.
    fn restore(&mut self, state: &crate::State) -> anyhow::Result<()>;
}

/// AdamW over a list of parameters on one device. Moments are f32 whatever the parameters are; those of all parameters
/// lie one after another in one tensor, so that a step takes a handful of kernels on a GPU and two more for each
/// parameter, not a dozen for each.
pub struct AdamW {
    config: AdamWConfig,
    params: Vec<Tensor>,
    mean: Tensor,
    square: Tensor,
    step: u64,
}

impl AdamW {
    /// An optimizer of `params`: leaves that require gradients, in an order that the caller keeps.
    #[must_use]
    pub fn new(config: AdamWConfig, params: Vec<Tensor>) -> Self {
        let numbers: i64 = params.iter().map(|p| p.numel() as i64).sum();
        let device = params.first().map_or(Device::Cpu, Tensor::device);
        let zeros = || Tensor::zeros([numbers], (Kind::Float, device));
        Self { config, mean: zeros(), square: zeros(), params, step: 0 }
    }

    /// Steps taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Of a tensor with as many numbers as all parameters, the part of each, in its shape.
    fn parts<'a>(&'a self, flat: &'a Tensor) -> impl Iterator<Item = Tensor> + 'a {
        self.params.iter().scan(0, |from, p| {
            let n = p.numel() as i64;
            *from += n;
            Some(flat.narrow(0, *from - n, n).view(&p.size()[..]))
        })
    }

    /// The gradients one after another, f32; zeros where there is none.
    fn gradient(&self) -> Tensor {
        let one = |p: &Tensor| {
            let g = p.grad();
            let g = if g.defined() { g } else { Tensor::zeros_like(p) };
            g.to_kind(Kind::Float).flatten(0, -1)
        };
        Tensor::cat(&self.params.iter().map(one).collect::<Vec<_>>(), 0)
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

impl Optimizer for AdamW {
    fn lr(&self) -> f64 {
        self.config.lr
    }

    fn zero_grad(&mut self) {
        for p in &mut self.params {
            p.zero_grad();
        }
    }

    fn step(&mut self, factor: f64) -> f64 {
        let norm = self.grad_norm();
        if !norm.is_finite() || self.params.is_empty() {
            return norm;
        }
        let c = self.config.clone();
        let scale = (c.max_grad_norm / (norm + 1e-6)).min(1.0);
        self.step += 1;
        let (bias1, bias2) = (1.0 - c.beta1.powf(self.step as f64), 1.0 - c.beta2.powf(self.step as f64));
        let lr = c.lr * factor;
        no_grad(|| {
            let g = self.gradient() * scale;
            let _ = self.mean.g_mul_scalar_(c.beta1).g_add_(&(&g * (1.0 - c.beta1)));
            let _ = self.square.g_mul_scalar_(c.beta2).g_add_(&(&g * &g * (1.0 - c.beta2)));
            let denominator = (&self.square / bias2).sqrt() + c.eps;
            let update = (&self.mean / bias1) / denominator * lr;
            for (p, update) in self.params.iter().zip(self.parts(&update)).filter(|(p, _)| p.grad().defined()) {
                // A handle of its own to the same numbers.
                let mut p = p.shallow_clone();
                let _ = p.g_mul_scalar_(1.0 - lr * c.weight_decay);
                let _ = p.g_sub_(&update.to_kind(p.kind()));
            }
        });
        norm
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut out = vec![("adamw.step".to_owned(), Tensor::from_slice(&[self.step.cast_signed()]))];
        for (i, (m, v)) in self.parts(&self.mean).zip(self.parts(&self.square)).enumerate() {
            out.push((format!("adamw.mean.{i:04}"), m));
            out.push((format!("adamw.square.{i:04}"), v));
        }
        out
    }

    fn restore(&mut self, state: &crate::State) -> anyhow::Result<()> {
        self.step = state.get("adamw.step")?.int64_value(&[0]).cast_unsigned();
        for (i, (mut m, mut v)) in self.parts(&self.mean).zip(self.parts(&self.square)).enumerate() {
            state.copy_into(&format!("adamw.mean.{i:04}"), &mut m)?;
            state.copy_into(&format!("adamw.square.{i:04}"), &mut v)?;
        }
        Ok(())
    }
}

/// A running average of parameters: `decay_k = min((1 + k) / (10 + k), decay)` after `k` steps, `repeat` times (Flow-GRPO's `ema.py`).
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

    /// Takes in `params` once `k` optimizer steps are taken.
    pub fn update(&mut self, k: u64, params: &[Tensor]) {
        if !(k + 1).is_multiple_of(self.config.every.max(1)) {
            return;
        }
        let once = ((1.0 + k as f64) / (10.0 + k as f64)).min(self.config.decay);
        // Of the same weights one after another, so that it is one average with a power of the decay.
        let decay = once.powi(self.config.repeat.max(1).cast_signed());
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

    /// Parameters side by side move as each would alone, to the bit; one without a gradient stays.
    #[test]
    fn parameters_do_not_see_each_other() {
        let fresh = |sizes: &[&[i64]]| -> Vec<Tensor> {
            let numbers = |s: &&[i64]| Tensor::arange(s.iter().product::<i64>(), (Kind::Float, Device::Cpu)).view(*s);
            sizes.iter().map(|s| (numbers(s) * 0.37 - 1.0).sin().set_requires_grad(true)).collect()
        };
        let train = |params: &[&Tensor]| {
            let config = AdamWConfig { lr: 0.05, max_grad_norm: 1e9, ..Default::default() };
            let mut opt = AdamW::new(config, params.iter().map(|p| p.shallow_clone()).collect());
            for k in 0..5 {
                opt.zero_grad();
                for p in params.iter().filter(|p| p.size() != [4]) {
                    ((*p * f64::from(k + 1)).cos() * *p).sum(Kind::Float).backward();
                }
                opt.step(1.0);
            }
        };
        let sizes: [&[i64]; 4] = [&[3, 5], &[4], &[17], &[2, 2, 9]];
        let (together, alone) = (fresh(&sizes), fresh(&sizes));
        train(&together.iter().collect::<Vec<_>>());
        for p in alone.iter().filter(|p| p.size() != [4]) {
            train(&[p]);
        }
        let untouched = fresh(&sizes);
        for ((t, a), u) in together.iter().zip(&alone).zip(&untouched) {
            assert!(t.equal(a), "{:?}", t.size());
            assert_eq!(t.equal(u), t.size() == [4]);
        }
    }

    #[test]
    fn adamw_is_pytorchs() {
        // torch: p = tensor([1., -2.]); AdamW(lr=.1, weight_decay=.01); three steps on loss = (p ** 2).sum()
        let p = Tensor::from_slice(&[1.0_f32, -2.0]).set_requires_grad(true);
        let mut opt = AdamW::new(
            AdamWConfig { lr: 0.1, weight_decay: 0.01, max_grad_norm: 1e9, ..Default::default() },
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
        assert!((opt.mean.norm().double_value(&[]) - 0.1).abs() < 1e-6, "moments see the clipped gradient");
    }

    #[test]
    fn ema_warms_up() {
        let p = vec![Tensor::from_slice(&[0.0_f32])];
        let mut ema = Ema::new(EmaConfig::default(), &p);
        ema.update(1, &[Tensor::from_slice(&[1.0_f32])]); // decay 2/11
        assert!((ema.average()[0].double_value(&[0]) - 9.0 / 11.0).abs() < 1e-6);
    }

    /// GRPO-Guard's configuration on 16 GPUs: every eighth step four micro-batches average the same weights, with 0.9 each,
    /// or 0.656 in one; DiffusionOPD's takes three, 0.729.
    #[test]
    fn ema_takes_the_same_weights_in_as_often_as_published() {
        let of = |repeat: u32, steps: u64| {
            let mut ema = Ema::new(EmaConfig { decay: 0.9, every: 8, repeat }, &[Tensor::from_slice(&[1.0_f32])]);
            (1..=steps).for_each(|k| ema.update(k, &[Tensor::from_slice(&[0.0_f32])]));
            ema.average()[0].double_value(&[0])
        };
        // After the 7th step (1 + 7) / (10 + 7); after the 87th the decay is 88 / 97, and 0.9 wins.
        assert!((of(1, 6) - 1.0).abs() < 1e-6 && (of(1, 7) - 8.0 / 17.0).abs() < 1e-6, "{}", of(1, 7));
        for (repeat, decay) in [(1, 0.9), (3, 0.729), (4, 0.6561)] {
            let ratio = of(repeat, 95) / of(repeat, 94);
            assert!((ratio - decay).abs() < 1e-3, "{repeat}: {ratio}");
        }
    }
}
