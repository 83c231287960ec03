//! DiffusionNFT: the forward-process objective of an optimal and a pessimal policy around the old one.

pub use opdflow_spec::nft::*;

use crate::State;
use crate::leaves::{self, summed};
use crate::objective::{Objective, Report, named};
use crate::state::numbered;
use crate::teacher::{
    Experience, RolloutCollector, Sampling, condition_of, order_of_round, per_sample, rows_of, share,
};
use anyhow::{Context as _, Result};
use opdflow_models::Solver;
use opdflow_models::lora::Lora;
use opdflow_models::rng::{Choices, derive, normal};
use opdflow_models::rollout::Keep;
use opdflow_models::transfer::send;
use tch::{Kind, Tensor};

/// The advantages that count, same shape.
pub fn counting(mode: Mode, advantage: &Tensor) -> Tensor {
    match mode {
        Mode::All => advantage.shallow_clone(),
        Mode::Positive => advantage.clamp_min(0.0),
        Mode::Negative => advantage.clamp_max(0.0),
        Mode::OneOnly => advantage.gt(0.0).to_kind(Kind::Float),
        Mode::Binary => advantage.sign(),
    }
}

/// Optimality `rho = 1/2 + 1/2 clip(A / clip, -1, 1)`, in `[0, 1]`.
pub fn optimality(advantage: &Tensor, clip: f64) -> Tensor {
    (advantage / clip).clamp(-1.0, 1.0) * 0.5 + 0.5
}

/// The policy loss of each sample, `[B]`: `(rho l+ + (1 - rho) l-) / beta`, with `v+- = (1 -+ beta) v_old +- beta v`,
/// `x0+- = x_t - t v+-` and `l+- = mean (x0+- - x0)^2 / sg(mean |x0+- - x0|)`.
///
/// `x0`, `xt`, `v`, `old`: `[B, C, H, W]`; `t`: `[B]`; `rho`: `[B]`. No gradient flows through `old`.
pub fn loss(x0: &Tensor, xt: &Tensor, t: &Tensor, v: &Tensor, old: &Tensor, rho: &Tensor, beta: f64) -> Tensor {
    let t = t.view([-1, 1, 1, 1]);
    let old = old.detach();
    let branch = |v: Tensor| {
        let miss = xt - &t * v - x0;
        // In f64, as upstream: the weight divides the loss, and near convergence it is small.
        let weight = per_sample(&miss.detach().to_kind(Kind::Double).abs()).clamp_min(1e-5);
        per_sample(&(&miss * &miss)) / weight.to_kind(Kind::Float)
    };
    let plus = branch(&old * (1.0 - beta) + v * beta);
    let minus = branch(&old * (1.0 + beta) - v * beta);
    (rho * plus + (1.0 - rho) * minus) / beta
}

/// A teacher in training with DiffusionNFT.
pub struct Nft<'a> {
    /// Settings of the method.
    pub config: NftConfig,
    /// Base, prompts, reward and rollouts.
    pub collector: RolloutCollector<'a>,
    /// The trained adapter.
    pub lora: &'a Lora,
    /// The sampling adapter.
    pub old: Lora,
    /// The round's images, while its updates last.
    pub seen: Option<Experience>,
}

impl Nft<'_> {
    /// Noise levels that each image is trained at.
    fn times(&self) -> usize {
        let schedule = self.collector.schedule();
        self.config.timesteps.unwrap_or(schedule.trained()).clamp(1, schedule.steps())
    }
}

impl Objective for Nft<'_> {
    fn updates(&self, round: u64) -> usize {
        let Sampling { prompts, group_size: group, .. } = self.collector.sampling;
        let wanted = self.collector.settings(round).updates.unwrap_or(self.config.updates);
        wanted.clamp(1, (prompts * group).max(1))
    }

    fn rate(&self, round: u64) -> f64 {
        self.collector.settings(round).rate
    }

    fn gradients(&self) -> u64 {
        let Sampling { prompts, group_size: group, .. } = self.collector.sampling;
        (prompts * group * self.times()) as u64
    }

    fn accumulate(&mut self, round: u64, update: usize) -> Result<Report> {
        let mut report = Report::new();
        if update == 0 {
            let (config, solver) = (&self.config, Solver::Dpm { order: self.config.order });
            let mut seen = self.collector.collect(&self.old, &solver, None, config.advantage_std, Keep::Last, round)?;
            report = std::mem::take(&mut seen.report);
            self.seen = Some(seen);
        }
        let seen = self.seen.as_ref().context("an update before its round's rollout")?;
        let (collector, canvas, seed) = (&self.collector, self.collector.canvas, self.collector.seed);
        let (x0, rho) =
            (seen.rollout.last(), optimality(&counting(self.config.mode, &seen.advantage), self.config.advantage_clip));
        let (schedule, times, total) = (collector.schedule(), self.times(), x0.size()[0] as usize);
        // Every image meets the levels in an order of its own, the smallest among them.
        let mut choices = Choices::new(derive(seed, "times", round));
        let orders: Vec<Vec<usize>> = (0..total).map(|_| choices.permutation(schedule.steps())).collect();
        let updates = self.updates(round);
        let order = order_of_round(total, updates, seed, round);
        let images = share(&order, update, updates);
        let scale = 1.0 / (images.len().max(1) as f64 * times as f64);
        let micros: Vec<(i64, i64)> = canvas.micros(images.len() as i64).collect();
        let work: Vec<(usize, &[i64])> = (0..times)
            .flat_map(|m| micros.iter().map(move |&(at, count)| (m, &images[at as usize..(at + count) as usize])))
            .collect();
        let noise = |m: usize| normal(&x0.size(), derive(seed, "noise", round * 1000 + m as u64), canvas.device);
        // That of one level at a time.
        let mut drawn: Option<(usize, Tensor)> = None;
        let told = leaves::over(canvas.ranks, &self.lora.parameters(), &work, |&(m, own)| {
            let noise = match drawn.take() {
                Some((level, noise)) if level == m => noise,
                _ => noise(m),
            };
            let cut = |x: &Tensor| rows_of(x, own);
            let t: Vec<f32> = own.iter().map(|i| schedule.sigma(orders[*i as usize][m]) as f32).collect();
            let t = send(&Tensor::from_slice(&t), canvas.device);
            let (x0, rho, condition) = (cut(x0), cut(&rho), condition_of(&seen.condition, own));
            let at = t.view([-1, 1, 1, 1]);
            let xt = (1.0 - &at) * &x0 + &at * cut(&noise);
            drawn = Some((m, noise));
            let (old, reference) = {
                let _off = tch::no_grad_guard();
                (
                    collector.field(Some(&self.old)).velocity(&xt, &t, &condition),
                    collector.field(None).velocity(&xt, &t, &condition),
                )
            };
            let trained = collector.field(Some(self.lora)).seen(&xt, &t, &condition, canvas.gradient_checkpointing);
            let v = &trained.velocity;
            let by_sample = loss(&x0, &xt, &t, v, &old, &rho, self.config.beta) * self.config.advantage_clip;
            let away = per_sample(&(v - &reference).square());
            let loss = (by_sample.sum(Kind::Float) + away.sum(Kind::Float) * self.config.kl) * scale;
            trained.backward(&loss);
            Ok(vec![summed(&by_sample, scale), summed(&away, scale)])
        })?;
        report.extend(named(METRICS, [leaves::sum(&told, 0), leaves::sum(&told, 1)]));
        Ok(report)
    }

    fn after(&mut self, round: u64) {
        self.seen = None;
        let steps: u64 = (0..=round).map(|round| self.updates(round) as u64).sum();
        let d = self.config.decay.at(steps);
        self.old.lerp_(self.lora, 1.0 - d).expect("both adapters are of one shape");
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        numbered("old", &self.old.parameters())
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        for (i, mut p) in self.old.parameters().into_iter().enumerate() {
            state.copy_into(&format!("old.{i:04}"), &mut p)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn noise(seed: u64) -> Tensor {
        normal(&[4, 2, 3, 3], seed, Device::Cpu)
    }

    #[test]
    fn both_branches_meet_when_the_policies_agree() {
        let (x0, v, t) = (noise(1), noise(2), Tensor::from_slice(&[0.2_f32, 0.5, 0.9, 1.0]));
        let xt = noise(3);
        let of = |rho: f64| loss(&x0, &xt, &t, &v, &v, &Tensor::full([4], rho, (Kind::Float, Device::Cpu)), 1.0);
        assert!((of(0.0) - of(1.0)).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn middling_images_teach_nothing() {
        let (x0, xt, t) = (noise(1), noise(3), Tensor::from_slice(&[0.2_f32, 0.5, 0.9, 1.0]));
        let old = noise(2);
        for (rho, zero) in [(0.5, true), (1.0, false)] {
            let v = old.copy().set_requires_grad(true);
            loss(&x0, &xt, &t, &v, &old, &Tensor::full([4], rho, (Kind::Float, Device::Cpu)), 0.5)
                .sum(Kind::Float)
                .backward();
            let g = v.grad().abs().max().double_value(&[]);
            assert_eq!(g < 1e-6, zero, "{rho} {g}");
        }
    }

    #[test]
    fn by_hand() {
        // One number: x0 1, x_t 3, t .5, v 2, v_old 4, beta .5, rho .75.
        // v+ = 3, v- = 5; misses 3 - 1.5 - 1 = .5 and 3 - 2.5 - 1 = -.5; l = .25 / .5 = .5 each; (.375 + .125) / .5 = 1.
        let one = |x: f64| Tensor::full([1, 1, 1, 1], x, (Kind::Float, Device::Cpu));
        let l = loss(
            &one(1.0),
            &one(3.0),
            &Tensor::from_slice(&[0.5_f32]),
            &one(2.0),
            &one(4.0),
            &Tensor::from_slice(&[0.75_f32]),
            0.5,
        );
        assert!((l.double_value(&[0]) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn modes_by_hand() {
        let of = |mode: Mode| Vec::<f32>::try_from(counting(mode, &Tensor::from_slice(&[-2.0_f32, 0.0, 0.5]))).unwrap();
        assert_eq!(of(Mode::All), [-2.0, 0.0, 0.5]);
        assert_eq!(of(Mode::Positive), [0.0, 0.0, 0.5]);
        assert_eq!(of(Mode::Negative), [-2.0, 0.0, 0.0]);
        assert_eq!(of(Mode::OneOnly), [0.0, 0.0, 1.0]);
        assert_eq!(of(Mode::Binary), [-1.0, 0.0, 1.0]);
    }

    #[test]
    fn optimality_is_cut_to_zero_and_one() {
        let rho = Vec::<f32>::try_from(optimality(&Tensor::from_slice(&[-9.0_f32, -2.5, 0.0, 5.0]), 5.0)).unwrap();
        assert_eq!(rho, [0.0, 0.25, 0.5, 1.0]);
    }
}
