//! What every executor does before it starts a stage.

use crate::runlog::RunFolder;
use anyhow::{Context as _, Result};
use opdflow_api::Job;
use std::path::PathBuf;

/// The note of a record that says in which run it was computed.
const RUN: &str = "run";

/// Writes the job into the run's folder; where. What is left there beside results, such as images on the way, is found again by the
/// run's name in the record.
pub(super) fn write_job(folder: &RunFolder, job: &Job) -> Result<PathBuf> {
    let path = folder.job(&job.name);
    let mut job = Job { samples: Some(folder.samples(&job.name)), ..job.clone() };
    job.note.insert(RUN.to_owned(), folder.name());
    let text = serde_json::to_vec_pretty(&job).context("cannot encode the job")?;
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The variables from which libraries read how many threads they may use.
pub(super) fn thread_variables(threads: usize) -> [(&'static str, String); 3] {
    ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"].map(|name| (name, threads.to_string()))
}
