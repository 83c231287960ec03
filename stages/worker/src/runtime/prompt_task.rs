//! Prompts with a reward, as the training objectives want them.

use crate::judging::dealt::{BATCH, Dealing, at};
use crate::judging::score;
use crate::runtime::beside::beside;
use crate::runtime::pipeline::Pipeline;
use anyhow::{Context as _, Result};
use opdflow_kinds::prompt::record::Record;
use opdflow_models::condition::Condition;
use opdflow_rewards::{Image, Reward as _, Subject, Weighted};
use opdflow_training::task::{RewardValues, Sample, Task, TaskSettings};
use std::ops::Range;

/// A task over a list of prompts.
pub struct PromptTask<'a> {
    /// Its name, for metrics.
    pub name: String,
    /// Encoders and decoder.
    pub pipeline: &'a Pipeline,
    /// The prompts.
    pub records: Vec<Record>,
    /// The reward, for images of this process, and how all get its scores; a distilled task has none.
    pub reward: Option<(Weighted, Dealing)>,
    /// Settings of its rounds.
    pub settings: TaskSettings,
}

impl Task for PromptTask<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn settings(&self) -> TaskSettings {
        self.settings
    }

    fn prompts(&self) -> usize {
        self.records.len()
    }

    fn condition(&self, prompts: &[usize]) -> Result<Condition> {
        let words: Vec<&str> = prompts.iter().map(|&i| self.records[i].text.as_str()).collect();
        self.pipeline.embed(&words)
    }

    fn judged_together(&self) -> usize {
        BATCH
    }

    /// Images are decoded here and judged on a thread beside.
    fn score(&mut self, prompts: &[usize], own: Range<usize>, sample: &mut Sample) -> Result<Vec<RewardValues>> {
        let (reward, dealing) = self.reward.as_ref().context("a task without a reward cannot be scored")?;
        let subjects: Vec<Subject> = prompts.iter().map(|&i| self.records[i].subject()).collect();
        let text = |row: usize| self.records[prompts[row]].text.as_str();
        let judge = |images: &[Image], first: usize| {
            let scores = reward.score(images, &subjects[first..first + images.len()]);
            scores.map_err(|error| at(error, first))
        };
        let mut first = own.start;
        let judged = beside(own.start, judge, |hand| {
            sample(&mut |latents| {
                let images = self.pipeline.decode_own(latents, first, |row| text(first + row))?;
                first += images.len();
                hand(images)
            })
        })?;
        let scores = dealing.gathered(reward.name(), judged).map_err(score::fault)?;
        score::whole(&self.name, &scores, |i| self.records[prompts[i]].text.as_str())?;
        // A reward that does not apply to a prompt gives all of its images the same.
        let of = |name: &str| scores.iter().map(|s| s.parts.get(name).copied().unwrap_or(0.0)).collect();
        Ok(reward
            .terms()
            .map(|(name, weight)| RewardValues { name: name.to_owned(), weight, values: of(name) })
            .collect())
    }
}
