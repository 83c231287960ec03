//! The aesthetic head: a linear stack on CLIP's embedding of the image, fitted to looks.

use super::images::{Images, Sort, looks};
use super::towers::Towers;
use anyhow::Result;
use opdflow_models::rng::{Choices, derive};
use opdflow_reward_models::head::Head;
use opdflow_training::objective::{Objective, Report};
use opdflow_training::task::prompts_of_round;
use rayon::iter::{IndexedParallelIterator as _, IntoParallelRefIterator as _, ParallelIterator as _};
use tch::{Kind, Tensor};

/// The head's marks over the reward `looks`: 0 to 10, as people gave them to the published one.
const MARKS: f64 = 10.0;

/// The squared error of the head's marks.
pub struct Marks<'a> {
    pub towers: &'a Towers,
    pub head: &'a Head,
    /// Whether the tower that sees learns too.
    pub whole: bool,
    pub images: &'a Images,
    pub batch: usize,
    pub seed: u64,
}

impl Objective for Marks<'_> {
    fn accumulate(&mut self, round: u64, _update: usize) -> Result<Report> {
        let (all, seed) = (self.images, derive(self.seed, "marks", round));
        let chosen = prompts_of_round(all.prompts.len(), self.batch, self.seed, round);
        let one = |(at, index): (usize, &usize)| {
            let draw = derive(seed, "image", at as u64);
            let sort = if Choices::new(draw).unit() < 0.5 { Sort::Sample } else { Sort::Right };
            let image = all.candidate(*index, sort, draw, true)?.image;
            let mark = MARKS * looks(&image)?;
            Ok((image, mark as f32))
        };
        let drawn = chosen.par_iter().enumerate().map(one).collect::<Result<Vec<_>>>()?;
        let (images, marks): (Vec<_>, Vec<f32>) = drawn.into_iter().unzip();
        let seen = self.towers.see(&images)?;
        let seen = if self.whole { seen } else { seen.detach() };
        let marks = Tensor::from_slice(&marks).to_device(seen.device());
        let loss = (self.head.forward(&seen).squeeze_dim(1) - marks).square().mean(Kind::Float);
        loss.backward();
        Ok(vec![("loss".into(), loss.double_value(&[]))])
    }
}
