//! The one training loop. Pretraining, teachers and distillation differ in their [`Objective`] alone.

pub use opdflow_models::finite::NotFinite;
pub use opdflow_spec::train::*;

use crate::objective::{Objective, Report};
use crate::optim::{Ema, EmaConfig, Optimizer};
use crate::{State, state::numbered};
use anyhow::Result;
use opdflow_models::finite::first_broken;
use tch::Tensor;

/// Parameters with what moves them.
pub struct Learner {
    params: Vec<Tensor>,
    optimizer: Box<dyn Optimizer>,
    ema: Ema,
    lr_schedule: LrSchedule,
    rounds: u64,
}

impl Learner {
    /// A learner of `params`, leaves that require gradients, which `optimizer` moves.
    #[must_use]
    pub fn new(
        params: Vec<Tensor>,
        optimizer: impl Optimizer + 'static,
        ema: EmaConfig,
        lr_schedule: LrSchedule,
    ) -> Self {
        let ema = Ema::new(ema, &params);
        Self { params, optimizer: Box::new(optimizer), ema, lr_schedule, rounds: 0 }
    }

    /// Rounds done.
    #[must_use]
    pub fn rounds(&self) -> u64 {
        self.rounds
    }

    /// Running averages of the parameters, in their order.
    pub fn average(&self) -> &[Tensor] {
        self.ema.average()
    }

    /// One round: for each of its updates gradients, clip, step, average.
    ///
    /// # Errors
    /// What the objective says; a gradient, a reported number or a parameter that is not finite ([`NotFinite`]), with the
    /// numbers of the round. The learner is of no use then.
    pub fn round(&mut self, objective: &mut dyn Objective) -> Result<Report> {
        let (k, updates) = (self.rounds, objective.updates(self.rounds));
        let before: u64 = (0..k).map(|round| objective.updates(round) as u64).sum();
        let mut report = Report::new();
        let factor = self.lr_schedule.factor(k) * objective.rate(k);
        for update in 0..updates {
            self.optimizer.zero_grad();
            let part = objective.accumulate(k, update)?;
            let norm = self.optimizer.step(factor);
            let broken = |what: String| NotFinite { what: format!("{what} of round {k}"), report: part.clone() };
            if !norm.is_finite() {
                return Err(broken("the gradient".to_owned()).into());
            }
            if let Some((name, _)) = part.iter().find(|(_, value)| !value.is_finite()) {
                return Err(broken(format!("`{name}`")).into());
            }
            if first_broken(&self.params).is_some() {
                return Err(broken("a weight after the step".to_owned()).into());
            }
            self.ema.update(before + update as u64 + 1, &self.params);
            report.extend(part);
            report.push((GRAD_NORM.to_owned(), norm));
        }
        report.push((LR.to_owned(), self.optimizer.lr() * factor));
        objective.after(k);
        self.rounds += 1;
        Ok(report)
    }

    /// All that a continued run needs.
    #[must_use]
    pub fn state(&self, objective: &dyn Objective) -> Vec<(String, Tensor)> {
        let mut state = numbered("param", &self.params);
        state.extend(self.optimizer.state());
        state.extend(self.ema.state());
        state.extend(objective.state());
        state.push(("rounds".to_owned(), Tensor::from_slice(&[self.rounds.cast_signed()])));
        state
    }

    /// Takes over what [`Self::state`] gave.
    ///
    /// # Errors
    /// Something is missing or of another shape.
    pub fn restore(&mut self, state: &State, objective: &mut dyn Objective) -> Result<()> {
        for (i, p) in self.params.iter_mut().enumerate() {
            state.copy_into(&format!("param.{i:04}"), p)?;
        }
        self.optimizer.restore(state)?;
        self.ema.restore(state)?;
        objective.restore(state)?;
        self.rounds = state.get("rounds")?.int64_value(&[0]).cast_unsigned();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::{AdamW, AdamWConfig};
    use tch::Kind;

    /// Pulls one number towards 3 with a pull that depends on the round.
    struct Pull(Tensor);

    impl Objective for Pull {
        fn accumulate(&mut self, round: u64, _: usize) -> Result<Report> {
            let loss = (&self.0 - 3.0).square().sum(Kind::Float) * (1.0 + round as f64);
            loss.backward();
            Ok(vec![("loss".into(), loss.double_value(&[]))])
        }
    }

    fn learner() -> (Learner, Pull) {
        let p = Tensor::from_slice(&[0.0_f32]).set_requires_grad(true);
        let optimizer = AdamW::new(AdamWConfig { lr: 0.1, ..Default::default() }, vec![p.shallow_clone()]);
        (
            Learner::new(
                vec![p.shallow_clone()],
                optimizer,
                EmaConfig::default(),
                LrSchedule { warmup: 3, ..Default::default() },
            ),
            Pull(p),
        )
    }

    #[test]
    fn a_continued_run_is_the_straight_run() {
        let (mut straight, mut pull) = learner();
        for _ in 0..10 {
            straight.round(&mut pull).unwrap();
        }
        let (mut first, mut pull) = learner();
        for _ in 0..4 {
            first.round(&mut pull).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        State::write(&path, first.state(&pull)).unwrap();
        let (mut second, mut pull) = learner();
        second.restore(&State::read(&path).unwrap(), &mut pull).unwrap();
        for _ in 4..10 {
            second.round(&mut pull).unwrap();
        }
        for (a, b) in straight.params.iter().chain(straight.average()).zip(second.params.iter().chain(second.average()))
        {
            assert_eq!(a.double_value(&[0]).to_bits(), b.double_value(&[0]).to_bits());
        }
    }

    #[test]
    fn a_broken_gradient_stops_the_loop() {
        struct Broken(Tensor);
        impl Objective for Broken {
            fn accumulate(&mut self, _: u64, _: usize) -> Result<Report> {
                (&self.0 * f64::INFINITY).sum(Kind::Float).backward();
                Ok(vec![("loss".into(), f64::INFINITY)])
            }
        }
        let (mut learner, pull) = learner();
        let error = learner.round(&mut Broken(pull.0)).unwrap_err();
        assert!(error.downcast_ref::<NotFinite>().is_some(), "{error}");
    }

    #[test]
    fn a_loss_and_a_step_that_are_not_finite_stop_it_too() {
        // The gradient is whole, the number that goes with it is not.
        struct Odd(Tensor, f64);
        impl Objective for Odd {
            fn accumulate(&mut self, _: u64, _: usize) -> Result<Report> {
                self.0.sum(Kind::Float).backward();
                Ok(vec![("loss".into(), self.1)])
            }
        }
        let (mut learner, pull) = learner();
        let error = learner.round(&mut Odd(pull.0, f64::NAN)).unwrap_err().to_string();
        assert!(error.starts_with("`loss` of round 0 is not finite"), "{error}");
        // A step so long that the weights overflow.
        let p = Tensor::from_slice(&[0.0_f32]).set_requires_grad(true);
        let optimizer = AdamW::new(AdamWConfig { lr: 1e39, ..Default::default() }, vec![p.shallow_clone()]);
        let mut learner = Learner::new(vec![p.shallow_clone()], optimizer, EmaConfig::default(), LrSchedule::default());
        let error = learner.round(&mut Odd(p, 1.0)).unwrap_err().to_string();
        assert!(error.starts_with("a weight after the step of round 0 is not finite"), "{error}");
    }
}
