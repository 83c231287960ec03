//! Candidates: adapters kept on the way of a training, a folder `step-000020` and so on each.

use crate::artefacts::adapter;
use crate::artefacts::origin::Origin;
use crate::runtime::learn::Course;
use anyhow::{Context as _, Result};
use opdflow_api::{Fault, StageContext};
use opdflow_kinds::model::folder;
use opdflow_models::lora::Lora;
use opdflow_training::objective::Report;
use opdflow_training::train::Learner;
use std::path::{Path, PathBuf};

/// Adapters of averaged weights, kept every so many rounds.
pub struct Candidates<'a> {
    lora: &'a Lora,
    origin: Origin,
    every: u64,
    folder: PathBuf,
}

impl<'a> Candidates<'a> {
    /// Those of `lora`, whose parameters are the learner's first, on the output `candidates`.
    pub fn of(lora: &'a Lora, origin: Origin, every: u64, context: &StageContext) -> Self {
        Self { lora, origin, every, folder: context.output("candidates") }
    }

    fn keep(&self, learner: &Learner) -> Result<()> {
        let own = &learner.average()[..self.lora.parameters().len()];
        adapter::save(self.lora, own, &self.origin, &self.folder.join(format!("step-{:06}", learner.rounds())))
    }

    /// Keeps the last one, where training ends between two.
    ///
    /// # Errors
    /// As for [`adapter::save`].
    pub fn last(&self, learner: &Learner) -> Result<()> {
        if learner.rounds().is_multiple_of(self.every) { Ok(()) } else { self.keep(learner) }
    }
}

impl Course for Candidates<'_> {
    fn after(&mut self, _: u64, _: &Report, learner: &Learner, _: &mut StageContext) -> Result<()> {
        if learner.rounds().is_multiple_of(self.every) { self.keep(learner) } else { Ok(()) }
    }

    fn save(&self, folder: &Path) -> Result<()> {
        if self.folder.exists() { folder::copy(&self.folder, &folder.join("candidates"), |_| true) } else { Ok(()) }
    }

    fn load(&mut self, folder: &Path) -> Result<()> {
        let saved = folder.join("candidates");
        if saved.exists() { folder::copy(&saved, &self.folder, |_| true) } else { Ok(()) }
    }
}

/// Candidates in a folder, by step: the step and where the adapter is.
///
/// # Errors
/// The folder cannot be read, or there is none in it.
pub fn listed(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let step = name.strip_prefix("step-").and_then(|n| n.parse().ok());
        found.push((step.with_context(|| format!("`{name}` is no candidate"))?, path));
    }
    if found.is_empty() {
        return Err(Fault::user("there is no candidate").into());
    }
    found.sort();
    Ok(found)
}
