//! Images on the way of a training, in the folder of the run: so that a collapse is seen while it happens.
//!
//! `STAGE/step-000020/00.png` and so on, and `STAGE/samples.jsonl` with a line for each image: its step, its prompt, its reward and the
//! parts of it, and what those rewards give it that only look on.

use crate::artefacts::adapter;
use crate::judging::dealt::Dealing;
use crate::judging::held_out::HeldOut;
use crate::judging::score;
use crate::runtime::images;
use crate::runtime::learn::{Course, Judged};
use crate::runtime::pipeline::Pipeline;
use crate::runtime::unfit;
use anyhow::{Context as _, Result};
use opdflow_api::StageContext;
use opdflow_api::warning::ALIKE;
use opdflow_kinds::model::sampling::ImageSampling;
use opdflow_kinds::prompt::record::Record;
use opdflow_kinds::training::samples::Samples;
use opdflow_models::lora::Lora;
use opdflow_rewards::{Image, Subject, Weighted};
use opdflow_training::objective::Report;
use opdflow_training::train::Learner;
use serde_json::json;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Below this share of what they were at first, differences between the images of different prompts are told of.
const COLLAPSED: f64 = 0.25;

/// The prompts of one task that are shown, with its reward if it has one.
pub struct Shown {
    /// The prompts.
    pub records: Vec<Record>,
    /// What the task is trained with, and how all processes get its scores.
    pub reward: Option<(Weighted, Dealing)>,
}

/// Images on the way of a training.
pub struct Sampled<'a> {
    pipeline: &'a Pipeline,
    lora: &'a Lora,
    shown: Vec<Shown>,
    beside: HeldOut,
    every: u64,
    sampling: ImageSampling,
    folder: Option<PathBuf>,
    /// How far apart the first images were.
    first: Option<f64>,
}

impl<'a> Sampled<'a> {
    /// Images of `lora` every so many of `rounds` rounds. `tasks`: all prompts of each, with its reward; `beside` judges them too.
    pub fn new(
        (pipeline, lora): (&'a Pipeline, &'a Lora),
        (samples, rounds): (&Samples, u64),
        (tasks, beside): (Vec<Shown>, HeldOut),
        sampling: ImageSampling,
        context: &StageContext,
    ) -> Self {
        let picked = samples.picked(&tasks.iter().map(|t| t.records.len()).collect::<Vec<_>>());
        let of = |(number, task): (usize, Shown)| {
            let places = picked.iter().filter(|(task, _)| *task == number);
            Shown { records: places.map(|(_, place)| task.records[*place].clone()).collect(), ..task }
        };
        let shown = tasks.into_iter().enumerate().map(of).filter(|task| !task.records.is_empty()).collect();
        let folder = context.job().samples.clone();
        Self { pipeline, lora, shown, beside, every: samples.every(rounds), sampling, folder, first: None }
    }

    /// Makes the images of `round`, of this adapter. All processes of the stage make them together; the leading one writes.
    fn sample(&mut self, round: u64, lora: &Lora, context: &mut StageContext) -> Result<()> {
        let Some(folder) = self.folder.clone().filter(|_| !self.shown.is_empty()) else { return Ok(()) };
        let records: Vec<Record> = self.shown.iter().flat_map(|task| task.records.iter().cloned()).collect();
        let made = self.pipeline.generate(&records, Some(lora), &self.sampling, |_| context.go_on(0));
        let images = match made {
            Err(_) if context.should_stop() => return Ok(()),
            // The round that follows says it with all that is known of it. Of several processes the others wait for these images, and
            // all end here.
            Err(error) if context.rank().is_none() && unfit::broken(&error, "").is_some() => {
                context.say(format!("round {round}: no images on the way: {error:#}"));
                return Ok(());
            }
            images => images?,
        };
        let beside = self.beside.headlines(&images, &records)?;
        let mut lines = String::new();
        let mut rest = images.as_slice();
        for task in &self.shown {
            let (own, more) = rest.split_at(task.records.len().min(rest.len()));
            let first = images.len() - rest.len();
            rest = more;
            let subjects: Vec<Subject> = task.records.iter().map(Record::subject).collect();
            let score = |(reward, dealing): &(Weighted, Dealing)| dealing.score(reward, own, &subjects);
            let scores = task.reward.as_ref().map(score).transpose().map_err(score::fault)?;
            for (i, record) in task.records.iter().enumerate() {
                let score = scores.as_ref().and_then(|s| s.get(i));
                let line = json!({"step": round, "image": first + i, "prompt": record.text,
                    "reward": score.map(|s| s.value), "parts": score.map(|s| &s.parts),
                    "beside": beside[first + i]});
                lines.push_str(&format!("{line}\n"));
            }
        }
        self.doubt(round, &images, context);
        if context.rank().is_none_or(|rank| rank.leads()) {
            // They are there to be looked at: a disk that is full is said, and training goes on.
            if let Err(error) = keep(&folder, round, &images, &lines) {
                context.say(format!("images on the way could not be kept: {error:#}"));
            }
        }
        Ok(())
    }

    /// Warns where the images of different prompts have become alike.
    fn doubt(&mut self, round: u64, images: &[Image], context: &StageContext) {
        let Some(apart) = apart(images) else { return };
        let first = *self.first.get_or_insert(apart);
        if apart < COLLAPSED * first {
            context.say(format!(
                "round {round}: images of different prompts differ by {apart:.4} of 1, at first by {first:.4}"
            ));
            context.warn_again(ALIKE, "images of different prompts have become alike, which is how a reward is cheated: look at the images on the way");
        }
    }
}

/// How far apart images are: the mean difference of their pixels, over all pairs, from 0 to 1. Nothing of fewer than two.
fn apart(images: &[Image]) -> Option<f64> {
    let pairs = images.iter().enumerate().flat_map(|(i, a)| images[i + 1..].iter().map(move |b| (a, b)));
    let of = |(a, b): (&Image, &Image)| {
        let sum: u64 = a.rgb.iter().zip(&b.rgb).map(|(x, y)| u64::from(x.abs_diff(*y))).sum();
        sum as f64 / 255.0 / a.rgb.len().max(1) as f64
    };
    let all: Vec<f64> = pairs.map(of).collect();
    (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
}

/// Puts the images of a round into the folder, whole or not at all, and then their lines. Those of the same round, of an attempt that
/// was lost, make way.
fn keep(folder: &Path, round: u64, images: &[Image], lines: &str) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let (part, whole) = (folder.join("part"), folder.join(format!("step-{round:06}")));
    for old in [&part, &whole] {
        if old.exists() {
            std::fs::remove_dir_all(old).with_context(|| old.display().to_string())?;
        }
    }
    std::fs::create_dir(&part).with_context(|| part.display().to_string())?;
    for (i, image) in images.iter().enumerate() {
        images::write_png(&part.join(format!("{i:02}.png")), image)?;
    }
    std::fs::rename(&part, &whole).with_context(|| whole.display().to_string())?;
    let path = folder.join("samples.jsonl");
    let file = std::fs::File::options().create(true).append(true).open(&path);
    file.and_then(|mut file| file.write_all(lines.as_bytes())).with_context(|| path.display().to_string())
}

impl Course for Sampled<'_> {
    /// Before the first round the images are those of where the training begins.
    fn judge(&mut self, done: u64, context: &mut StageContext) -> Result<Judged> {
        if done == 0 {
            self.sample(0, self.lora, context)?;
        }
        Ok(Judged::GoOn)
    }

    fn after(&mut self, _: u64, _: &Report, learner: &Learner, context: &mut StageContext) -> Result<()> {
        if !learner.rounds().is_multiple_of(self.every) || self.folder.is_none() {
            return Ok(());
        }
        // What the training would end with here, as candidates are.
        let average = adapter::with_values(self.lora, learner.average());
        self.sample(learner.rounds(), &average, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn even(level: u8) -> Image {
        Image::new(2, 2, vec![level; 12]).unwrap()
    }

    #[test]
    fn images_are_as_far_apart_as_their_pixels() {
        assert_eq!(apart(&[even(3)]), None);
        assert_eq!(apart(&[even(3), even(3)]), Some(0.0));
        // Differences of 51, 102 and 51 of 255.
        let found = apart(&[even(0), even(51), even(102)]).unwrap();
        assert!((found - 4.0 / 15.0).abs() < 1e-12, "{found}");
    }

    #[test]
    fn a_round_that_is_made_again_takes_the_place_of_the_lost_one() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("samples/t");
        keep(&folder, 20, &[even(1), even(2), even(3)], "{\"step\":20}\n").unwrap();
        std::fs::create_dir(folder.join("part")).unwrap();
        keep(&folder, 20, &[even(1), even(2)], "{\"step\":20}\n").unwrap();
        let count = |name: &str| std::fs::read_dir(folder.join(name)).unwrap().count();
        assert_eq!(count("step-000020"), 2);
        assert!(!folder.join("part").exists());
        assert_eq!(std::fs::read_to_string(folder.join("samples.jsonl")).unwrap().lines().count(), 2);
    }
}
