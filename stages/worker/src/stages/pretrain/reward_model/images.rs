//! The images that a reward model learns from: drawn ones and those of a model, each with how well it fits its prompt.

use super::alter::{alter, blank};
use crate::judging::score;
use crate::runtime::pipeline::Pipeline;
use anyhow::Result;
use opdflow_api::StageContext;
use opdflow_kinds::judging::recogniser;
use opdflow_kinds::model::sampling::ImageSampling;
use opdflow_kinds::precision::Precision;
use opdflow_kinds::prompt::record::Record;
use opdflow_kinds::stages::pretrain::reward_model::Pairs;
use opdflow_miniature::{Prompt, SIDE, stream};
use opdflow_models::rng::{Choices, derive};
use opdflow_rewards::{Geneval, Image, Looks, Ocr, Reward, Score, Subject};
use std::collections::BTreeMap;

/// An image for a prompt.
#[derive(Clone)]
pub struct Candidate {
    /// The image.
    pub image: Image,
    /// How well it fits: 1, all right; a half, one thing wrong; 0, another image.
    pub fits: f64,
}

impl Candidate {
    /// How good it is: see [`Pairs`].
    pub fn worth(&self, pairs: &Pairs) -> Result<f64> {
        Ok(pairs.fits * self.fits + pairs.looks * looks(&self.image)?)
    }
}

/// The reward `looks` of an image.
pub fn looks(image: &Image) -> Result<f64> {
    let scores = Looks.score(std::slice::from_ref(image), &[Subject::default()]).map_err(score::fault)?;
    Ok(scores.first().map_or(0.0, |score| score.value))
}

/// What an image shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// What the prompt asks for.
    Right,
    /// One thing wrong.
    Wrong,
    /// Another prompt's.
    Other,
    /// Nothing.
    Blank,
    /// What a model made of it.
    Sample,
}

/// Prompts, and images of them.
pub struct Images {
    /// The prompts.
    pub prompts: Vec<Prompt>,
    samples: BTreeMap<String, Vec<Candidate>>,
    seed: u64,
}

impl Images {
    /// Of these prompts, with images of the model on the port `base`, if there is one, of the first `sampled` of them,
    /// `of_each` of each.
    ///
    /// # Errors
    /// The model or the text reader does not load; stopped as asked.
    pub fn new(
        prompts: Vec<Prompt>,
        seed: u64,
        sampled: usize,
        of_each: usize,
        sampling: &ImageSampling,
        context: &mut StageContext,
    ) -> Result<Images> {
        let mut samples = BTreeMap::<String, Vec<Candidate>>::new();
        if context.object("base").is_some() && sampled > 0 {
            let sampling = ImageSampling { seed: derive(seed, "samples", sampling.seed), ..sampling.clone() };
            let some: Vec<&Prompt> = prompts.iter().take(sampled).flat_map(|p| vec![p; of_each]).collect();
            for (prompt, candidate) in some.iter().zip(sample(&some, &sampling, context)?) {
                samples.entry(prompt.text.clone()).or_default().push(candidate);
            }
        }
        Ok(Images { prompts, samples, seed })
    }

    /// Of these prompts, all images drawn.
    #[cfg(test)]
    pub fn drawn(prompts: Vec<Prompt>, seed: u64) -> Images {
        Images { prompts, samples: BTreeMap::new(), seed }
    }

    /// The model's images of prompt `index`.
    pub fn samples(&self, index: usize) -> &[Candidate] {
        self.samples.get(&self.prompts[index].text).map_or(&[], Vec::as_slice)
    }

    /// An image for prompt `index`; `draw` numbers all images that are drawn. With `altered`, about half of them are changed
    /// in how they look.
    ///
    /// # Errors
    /// A prompt that the world cannot draw.
    pub fn candidate(&self, index: usize, sort: Sort, draw: u64, altered: bool) -> Result<Candidate> {
        let seed = derive(self.seed, "candidate", draw);
        let (mut rng, mut choices) = (stream(seed, 0), Choices::new(seed));
        let (prompt, there) = (&self.prompts[index], self.samples(index));
        let mut found = match sort {
            Sort::Sample if !there.is_empty() => there[choices.below(there.len())].clone(),
            Sort::Right | Sort::Sample => Candidate { image: opdflow_miniature::render(prompt, &mut rng)?, fits: 1.0 },
            Sort::Wrong => {
                let wrong = opdflow_miniature::corrupt(prompt, &mut rng)?;
                let fits = if wrong.text == prompt.text { 1.0 } else { 0.5 };
                Candidate { image: opdflow_miniature::render(&wrong, &mut rng)?, fits }
            }
            Sort::Other => {
                let other = &self.prompts[choices.below(self.prompts.len())];
                let fits = if other.text == prompt.text { 1.0 } else { 0.0 };
                Candidate { image: opdflow_miniature::render(other, &mut rng)?, fits }
            }
            Sort::Blank => Candidate { image: blank(SIDE, SIDE, &mut choices), fits: 0.0 },
        };
        let often = if sort == Sort::Sample { 0.4 } else { 0.6 };
        if altered && sort != Sort::Blank && choices.unit() < often {
            let (image, grey) = alter(&found.image, &mut choices);
            // Words are read without colours.
            let fits = if grey && prompt.target.is_none() { found.fits * 0.5 } else { found.fits };
            found = Candidate { image, fits };
        }
        Ok(found)
    }
}

/// An image of the model on `base` for each prompt, with how well it fits by the rules that can tell: GenEval's for shapes,
/// the text reader for words. A landscape counts as right.
fn sample(prompts: &[&Prompt], sampling: &ImageSampling, context: &mut StageContext) -> Result<Vec<Candidate>> {
    let pipeline = Pipeline::open(context, "base", 64, None, Precision::default(), None)?;
    let record = |p: &&Prompt| Record {
        text: p.text.clone(),
        target: p.target.clone(),
        geneval: p.geneval.clone(),
        questions: Vec::new(),
    };
    let records: Vec<Record> = prompts.iter().map(record).collect();
    let images = pipeline.generate(&records, None, sampling, |_| context.go_on(0))?;
    let ocr = Ocr::shared(&recogniser::assets()).map_err(score::fault)?;
    let geneval = Geneval::default();
    let mut found = Vec::with_capacity(images.len());
    for (image, record) in images.into_iter().zip(&records) {
        context.go_on(0)?;
        let judge = |reward: &dyn Reward| -> Result<Option<Score>> {
            Ok(reward.score(std::slice::from_ref(&image), &[record.subject()]).map_err(score::fault)?.pop())
        };
        let part = |score: Option<Score>, whole: &str| {
            score.map_or(0.0, |s| {
                let all = s.parts.get(whole).copied().unwrap_or_default();
                if all >= 1.0 { 1.0 } else { 0.5 * s.value.clamp(0.0, 1.0) }
            })
        };
        let fits = if record.geneval.is_some() {
            part(judge(&geneval)?, "strict")
        } else if record.target.is_some() {
            part(judge(&*ocr)?, "exact")
        } else {
            1.0
        };
        found.push(Candidate { image, fits });
    }
    Ok(found)
}
