//! CLIP's own training: each image must be nearest to its caption among all of the batch, and each caption to its image.

use super::images::{Images, Sort};
use super::towers::Towers;
use anyhow::Result;
use opdflow_miniature::stream;
use opdflow_models::rng::{Choices, derive};
use opdflow_training::objective::{Objective, Report};
use opdflow_training::task::prompts_of_round;
use rayon::iter::{IndexedParallelIterator as _, IntoParallelRefIterator as _, ParallelIterator as _};
use tch::{Kind, Tensor};

/// Contrast over a batch (Radford et al. 2021), with one more caption for each image that has one thing wrong (Yuksekgonul
/// et al. 2023). Equal captions in a batch share the mark.
pub struct Contrast<'a> {
    pub towers: &'a Towers,
    pub images: &'a Images,
    pub batch: usize,
    pub seed: u64,
}

/// Share of the images that are a model's, where it has made some that fit.
const SAMPLED: f64 = 0.4;

impl Objective for Contrast<'_> {
    fn accumulate(&mut self, round: u64, _update: usize) -> Result<Report> {
        let (all, seed) = (self.images, derive(self.seed, "contrast", round));
        let chosen = prompts_of_round(all.prompts.len(), self.batch, self.seed, round);
        let one = |(at, index): (usize, &usize)| {
            let draw = derive(seed, "image", at as u64);
            let fitting = all.samples(*index).iter().any(|s| s.fits >= 1.0);
            let sampled = fitting && Choices::new(draw).unit() < SAMPLED;
            let mut found = all.candidate(*index, if sampled { Sort::Sample } else { Sort::Right }, draw, true)?;
            if found.fits < 1.0 {
                found = all.candidate(*index, Sort::Right, draw, false)?;
            }
            let wrong = opdflow_miniature::corrupt(&all.prompts[*index], &mut stream(draw, 1))?;
            Ok((found.image, wrong.text))
        };
        let drawn = chosen.par_iter().enumerate().map(one).collect::<Result<Vec<_>>>()?;
        let (images, wrong): (Vec<_>, Vec<String>) = drawn.into_iter().unzip();
        let captions: Vec<&str> = chosen.iter().map(|i| all.prompts[*i].text.as_str()).collect();
        let texts: Vec<&str> = captions.iter().copied().chain(wrong.iter().map(String::as_str)).collect();

        let (seen, read) = (self.towers.see(&images)?, self.towers.read(&texts)?);
        let logits = seen.matmul(&read.tr()) * self.towers.scale();
        let equal: Vec<f32> =
            captions.iter().flat_map(|own| texts.iter().map(move |text| f32::from(u8::from(own == text)))).collect();
        let (b, both) = (captions.len() as i64, texts.len() as i64);
        let equal = Tensor::from_slice(&equal).view([b, both]).to_device(logits.device());
        let of_images = cross_entropy(&logits, &equal);
        let of_texts = cross_entropy(&logits.narrow(1, 0, b).tr(), &equal.narrow(1, 0, b).tr());
        let loss = (of_images + of_texts) / 2.0;
        loss.backward();
        let best = logits.argmax(1, true);
        let right = equal.gather(1, &best, false).mean(Kind::Float);
        Ok(vec![
            ("right".into(), right.double_value(&[])),
            ("scale".into(), self.towers.scale().double_value(&[])),
            ("loss".into(), loss.double_value(&[])),
        ])
    }
}

/// Of rows of logits against rows of marks, which are shared evenly.
fn cross_entropy(logits: &Tensor, marks: &Tensor) -> Tensor {
    let marks = marks / marks.sum_dim_intlist([1i64].as_slice(), true, Kind::Float);
    -(marks * logits.log_softmax(1, Kind::Float))
        .sum_dim_intlist([1i64].as_slice(), false, Kind::Float)
        .mean(Kind::Float)
}
