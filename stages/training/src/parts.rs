//! A rollout part by part, so that the images of one part are judged while the next is sampled.
//!
//! A part is whole batches, and has the noise of its place among all rows: what is sampled does not hang on the parts.

use anyhow::Result;
use opdflow_models::condition::Condition;
use opdflow_models::field::Field;
use opdflow_models::rollout::{Keep, Rollout, RolloutOptions, rollout};
use opdflow_ranks::Ranks;
use std::collections::BTreeMap;
use std::ops::Range;
use tch::Tensor;

/// The rows of a rollout, dealt to the processes of a stage in parts.
pub struct Parts<'a> {
    /// All rows' starting noise, `[B, C, H, W]`.
    start: &'a Tensor,
    /// Rows of a part.
    unit: usize,
    ranks: Ranks,
    /// Noise of all rows, by step, where it was drawn.
    drawn: BTreeMap<usize, Tensor>,
    done: Vec<Rollout>,
}

impl<'a> Parts<'a> {
    /// Rows from `start`, `unit` at a time.
    #[must_use]
    pub fn new(start: &'a Tensor, unit: usize, ranks: Ranks) -> Self {
        Self { start, unit: unit.max(1), ranks, drawn: BTreeMap::new(), done: Vec::new() }
    }

    /// The rows of this process.
    #[must_use]
    pub fn own(&self) -> Range<usize> {
        self.ranks.own_rows(self.start.size()[0] as usize, self.unit)
    }

    /// Samples the rows of this process along `along`, which is of one process alone, and hands the last states of each part on,
    /// `[b, C, H, W]`. `draw` gives the standard normal noise of a step for all rows.
    ///
    /// # Errors
    /// What `seen` says.
    pub fn sample(
        &mut self,
        field: &Field,
        condition: &Condition,
        along: &RolloutOptions,
        draw: &dyn Fn(usize) -> Tensor,
        seen: &mut dyn FnMut(&Tensor) -> Result<()>,
    ) -> Result<()> {
        for at in self.own().step_by(self.unit) {
            let (at, count) = (at as i64, self.unit.min(self.own().end - at) as i64);
            let drawn = &mut self.drawn;
            let mut noise = |j: usize| drawn.entry(j).or_insert_with(|| draw(j)).narrow(0, at, count);
            let own = (condition.narrow(at, count), self.start.narrow(0, at, count));
            let part = rollout(field, &own.0, &own.1, along, &mut noise)?;
            seen(part.last())?;
            self.done.push(part);
        }
        Ok(())
    }

    /// The trajectories of all rows, also of those that other processes have sampled.
    ///
    /// # Errors
    /// Another process is gone.
    pub fn whole(mut self, along: &RolloutOptions, draw: &dyn Fn(usize) -> Tensor) -> Result<Rollout> {
        if self.ranks.world() == 1 && self.done.len() == 1 {
            return Ok(self.done.remove(0));
        }
        let steps = if along.keep == Keep::All { along.schedule.steps() } else { 0 };
        let states = (0..=steps).map(|j| self.rows(|part| &part.states[j])).collect::<Result<_>>()?;
        let means = (0..steps).map(|j| self.rows(|part| &part.means[j])).collect::<Result<_>>()?;
        let noise = |j: usize| match along.step(j).std > 0.0 {
            true => self.drawn.remove(&j).unwrap_or_else(|| draw(j)),
            false => Tensor::new(),
        };
        Ok(Rollout { states, means, noises: (0..steps).map(noise).collect() })
    }

    /// One tensor of each part, put together over parts and processes.
    fn rows<'p>(&'p self, of: impl Fn(&'p Rollout) -> &'p Tensor) -> Result<Tensor> {
        let own: Vec<&Tensor> = self.done.iter().map(of).collect();
        let own = if own.is_empty() { self.start.narrow(0, 0, 0) } else { Tensor::cat(&own, 0) };
        self.ranks.gather_rows(&own, self.start.size()[0] as usize, self.unit)
    }
}
