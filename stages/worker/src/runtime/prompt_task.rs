//! Prompts with a reward, as the training objectives want them.

use crate::judging::score;
use crate::runtime::pipeline::Pipeline;
use anyhow::{Context as _, Result};
use opdflow_kinds::prompt::record::Record;
use opdflow_models::condition::Condition;
use opdflow_rewards::{Reward as _, Subject, Weighted};
use opdflow_training::task::{RewardValues, Task, TaskSettings};
use tch::Tensor;

/// A task over a list of prompts.
pub struct PromptTask<'a> {
    /// Its name, for metrics.
    pub name: String,
    /// Encoders and decoder.
    pub pipeline: &'a Pipeline,
    /// The prompts.
    pub records: Vec<Record>,
    /// The reward; a distilled task has none.
    pub reward: Option<Weighted>,
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

    fn score(&mut self, latents: &Tensor, prompts: &[usize]) -> Result<Vec<RewardValues>> {
        let reward = self.reward.as_ref().context("a task without a reward cannot be scored")?;
        let images = self.pipeline.decode(latents, |row| self.records[prompts[row]].text.as_str())?;
        let subjects: Vec<Subject> = prompts.iter().map(|&i| self.records[i].subject()).collect();
        let scores = reward.score(&images, &subjects).map_err(score::fault)?;
        score::whole(&self.name, &scores, |i| self.records[prompts[i]].text.as_str())?;
        // A reward that does not apply to a prompt gives all of its images the same.
        let of = |name: &str| scores.iter().map(|s| s.parts.get(name).copied().unwrap_or(0.0)).collect();
        Ok(reward
            .terms()
            .map(|(name, weight)| RewardValues { name: name.to_owned(), weight, values: of(name) })
            .collect())
    }
}
