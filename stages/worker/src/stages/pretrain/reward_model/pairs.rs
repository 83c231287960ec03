//! Preferences: of two images of one prompt the better one gets the larger logit, as PickScore and HPSv2 were trained.

use super::images::{Images, Sort};
use anyhow::Result;
use opdflow_kinds::stages::pretrain::reward_model::Pairs;
use opdflow_models::rng::{Choices, derive};
use opdflow_rewards::Image;
use opdflow_training::objective::{Objective, Report};
use opdflow_training::task::prompts_of_round;
use rayon::iter::{IndexedParallelIterator as _, IntoParallelRefIterator as _, ParallelIterator as _};
use tch::{Kind, Tensor};

/// What scores images for texts, with gradients.
pub trait Scores {
    /// Scores `[N]` of images, each for the text of the same place; the texts begin anew after the last.
    ///
    /// # Errors
    /// A text that the network cannot read.
    fn scores(&self, images: &[&Image], texts: &[&str]) -> Result<Tensor>;
}

/// Bradley and Terry's model on the scores: the first is preferred with the sigmoid of the difference.
pub struct Preferences<'a> {
    pub network: &'a dyn Scores,
    pub images: &'a Images,
    pub pairs: &'a Pairs,
    pub batch: usize,
    pub seed: u64,
}

/// What one of a pair shows.
fn sort(choices: &mut Choices, sampled: bool) -> Sort {
    match choices.unit() {
        u if u < 0.35 => Sort::Right,
        u if u < 0.75 => {
            if sampled {
                Sort::Sample
            } else {
                Sort::Right
            }
        }
        u if u < 0.9 => Sort::Wrong,
        u if u < 0.97 => Sort::Other,
        _ => Sort::Blank,
    }
}

impl Objective for Preferences<'_> {
    fn accumulate(&mut self, round: u64, _update: usize) -> Result<Report> {
        let (all, seed) = (self.images, derive(self.seed, "pairs", round));
        let chosen = prompts_of_round(all.prompts.len(), self.batch, self.seed, round);
        let one = |(at, index): (usize, &usize)| {
            let draw = derive(seed, "pair", at as u64);
            let (mut choices, sampled) = (Choices::new(draw), !all.samples(*index).is_empty());
            let mut candidate =
                |which: u64| all.candidate(*index, sort(&mut choices, sampled), derive(draw, "of", which), true);
            let (first, second) = (candidate(0)?, candidate(1)?);
            let better = (first.worth(self.pairs)? - second.worth(self.pairs)?) / self.pairs.temperature;
            Ok((first.image, second.image, better as f32))
        };
        let drawn = chosen.par_iter().enumerate().map(one).collect::<Result<Vec<_>>>()?;
        let images: Vec<&Image> = drawn.iter().map(|d| &d.0).chain(drawn.iter().map(|d| &d.1)).collect();
        let better = Tensor::from_slice(&drawn.iter().map(|d| d.2).collect::<Vec<f32>>());
        let texts: Vec<&str> = chosen.iter().map(|i| all.prompts[*i].text.as_str()).collect();

        let scores = self.network.scores(&images, &texts)?;
        let better = better.to_device(scores.device());
        let b = texts.len() as i64;
        let apart = scores.narrow(0, 0, b) - scores.narrow(0, b, b);
        // The cross entropy of both answers, in logits: softplus(x) - p x.
        let loss = (apart.softplus() - better.sigmoid() * &apart).mean(Kind::Float);
        loss.backward();
        let right = (&apart * &better).gt(0.0).to_kind(Kind::Float).mean(Kind::Float);
        Ok(vec![("right".into(), right.double_value(&[])), ("loss".into(), loss.double_value(&[]))])
    }
}
