//! A training that ends by its own score on validation prompts: its candidates are scored as they come, and the rule is asked.

use crate::artefacts::{adapter, json};
use crate::judging::set::Set;
use crate::runtime::learn::{Course, Judged};
use crate::runtime::pause::paused;
use crate::runtime::pipeline::Pipeline;
use anyhow::Result;
use opdflow_api::StageContext;
use opdflow_kinds::training::until::{Standing, Until};
use opdflow_models::lora::Lora;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The metric of the scores.
pub const METRIC: &str = "validation";

/// The file of a checkpoint that keeps them.
const FILE: &str = "validation.json";

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The rule with what it needs.
pub struct Rule<'a> {
    /// When it ends.
    pub until: Until,
    /// Rounds between scorings.
    pub every: u64,
    /// What samples the images.
    pub pipeline: &'a Pipeline,
    /// At least one; the score is the mean of theirs.
    pub judges: Vec<Set>,
    /// What the scores hold for beside the training itself: the prompts' content and the sampling. Another run of the same lineage may
    /// have scored by something else.
    pub of: String,
}

impl Rule<'_> {
    /// The score of an adapter, or nothing if the stage was asked to stop meanwhile.
    fn score(&self, folder: &Path, context: &StageContext) -> Result<Option<f64>> {
        let lora: Lora = adapter::load(folder, self.pipeline, "candidates")?;
        let mut sum = 0.0;
        for judge in &self.judges {
            let watch = |_| context.go_on(0);
            match judge.judged((self.pipeline, Some(&lora), &self.until.sampling), None, watch) {
                Err(error) if context.should_stop() && paused(&error).is_none() => return Ok(None),
                judged => sum += mean(judge.values(&judged?.1)),
            }
        }
        Ok(Some(sum / self.judges.len().max(1) as f64))
    }

    /// Images of one scoring.
    fn images(&self) -> usize {
        self.judges.iter().map(|judge| judge.records.len()).sum()
    }
}

/// What a checkpoint keeps.
#[derive(Serialize, Deserialize)]
struct Kept {
    of: String,
    scores: BTreeMap<u64, f64>,
}

/// The scores of a training's candidates, in the folder `candidates`, by a rule if there is one.
pub struct Validated<'a> {
    rule: Option<Rule<'a>>,
    candidates: PathBuf,
    scores: BTreeMap<u64, f64>,
}

impl<'a> Validated<'a> {
    /// Comes after the course that keeps the candidates.
    pub fn new(rule: Option<Rule<'a>>, context: &StageContext) -> Self {
        Self { rule, candidates: context.output("candidates"), scores: BTreeMap::new() }
    }

    /// Where the candidate of a round lies.
    pub fn candidate(&self, round: u64) -> PathBuf {
        self.candidates.join(format!("step-{round:06}"))
    }

    /// How many images were scored in `rounds` rounds.
    pub fn scored(&self, rounds: u64) -> u64 {
        self.rule.as_ref().map_or(0, |rule| (rounds / rule.every) * rule.images() as u64)
    }

    /// Why training ended at round `end`, in words; nothing without a rule.
    pub fn words(&self, end: u64) -> Option<String> {
        let rule = self.rule.as_ref()?;
        let Standing { best, ended } = rule.until.standing(&self.scores);
        let Some((round, best)) = best else {
            return Some(format!(
                "the rule scored nothing: training ended at round {end}, and it scores every {}",
                rule.every
            ));
        };
        let how = match ended {
            Some(at) => format!("the rule ended it at round {at}"),
            None => format!("the rule did not end it before its last round, {end}"),
        };
        Some(format!("{how}: best {best:.4} at round {round}"))
    }

    /// Takes away the candidates after round `end`: the training went on from a run that had gone further.
    ///
    /// # Errors
    /// The disk.
    pub fn cut(&self, end: u64) -> Result<()> {
        for (round, folder) in crate::artefacts::candidates::listed(&self.candidates)? {
            if round > end {
                std::fs::remove_dir_all(folder)?;
            }
        }
        Ok(())
    }
}

impl Course for Validated<'_> {
    /// Scores what is not scored yet: the newest candidate, and those of a run without the rule that this one goes on from.
    fn judge(&mut self, done: u64, context: &mut StageContext) -> Result<Judged> {
        let Some(rule) = &self.rule else { return Ok(Judged::GoOn) };
        let mut round = rule.every;
        while round <= done {
            if !self.scores.contains_key(&round) {
                let Some(score) = rule.score(&self.candidate(round), context)? else { return Ok(Judged::Interrupted) };
                context.metric(round, METRIC, score)?;
                self.scores.insert(round, score);
            }
            let so_far = self.scores.range(..=round).map(|(round, score)| (*round, *score)).collect();
            if let Some(end) = rule.until.standing(&so_far).ended {
                return Ok(Judged::End(end));
            }
            round += rule.every;
        }
        Ok(Judged::GoOn)
    }

    fn save(&self, folder: &Path) -> Result<()> {
        let Some(rule) = &self.rule else { return Ok(()) };
        json::write(&folder.join(FILE), &Kept { of: rule.of.clone(), scores: self.scores.clone() })
    }

    fn load(&mut self, folder: &Path) -> Result<()> {
        let (Some(rule), path) = (&self.rule, folder.join(FILE)) else { return Ok(()) };
        if path.exists() {
            let Kept { of, scores } = json::read(&path, "validation scores")?;
            if of == rule.of {
                // Only those of scorings that this rule makes: it may score less often than the one before.
                self.scores = scores.into_iter().filter(|(round, _)| round.is_multiple_of(rule.every)).collect();
            }
        }
        Ok(())
    }
}
