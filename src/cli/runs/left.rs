//! What of a run is still at work after its own process is gone: processes of this machine, and jobs of a cluster.

use crate::exec::slurm::left::{LeftJob, left};
use crate::exec::{Orphan, orphan};
use crate::report::{Standing, Summary};
use crate::runlog::RunFolder;

/// What is left of a run.
#[derive(Debug, Default)]
pub(super) struct Left {
    pub(super) orphans: Vec<Orphan>,
    pub(super) jobs: Vec<LeftJob>,
    /// Why nothing is known of its jobs, and of which stages they are.
    pub(super) unknown: Option<(String, Vec<String>)>,
}

impl Left {
    /// Of the stages that were at work when it was last heard of.
    pub(super) fn of(summary: &Summary, folder: &RunFolder) -> Self {
        let running = || summary.stages.iter().filter(|s| s.state == Standing::Running);
        // Numbers of another host's processes say nothing here; those of jobs are the cluster's.
        let here = || running().filter(|_| !summary.started.is_elsewhere());
        let orphans = here().filter_map(|s| orphan(folder, &s.name, s.pid?)).collect();
        let job = |s: &crate::report::StageSummary| {
            Some((s.name.clone(), s.key?.to_string(), s.job.as_ref()?.parse::<u64>().ok()?))
        };
        let submitted: Vec<_> = running().filter_map(job).collect();
        match left(&submitted) {
            Ok(jobs) => Self { orphans, jobs, unknown: None },
            Err(silence) => {
                let stages = submitted.into_iter().map(|(stage, ..)| stage).collect();
                Self { orphans, jobs: Vec::new(), unknown: Some((silence.to_string(), stages)) }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.orphans.is_empty() && self.jobs.is_empty()
    }

    /// Whether a stage is among them.
    pub(super) fn has(&self, stage: &str) -> bool {
        self.place(stage).is_some()
    }

    /// Whether nobody can say if a stage is among them.
    pub(super) fn is_unknown(&self, stage: &str) -> bool {
        self.unknown.as_ref().is_some_and(|(_, stages)| stages.iter().any(|s| s == stage))
    }

    /// Where a stage that is among them works: `process 12`, `job 12`.
    pub(super) fn place(&self, stage: &str) -> Option<String> {
        let process = self.orphans.iter().find(|o| o.stage == stage).map(|o| format!("process {}", o.pid));
        process.or_else(|| self.jobs.iter().find(|j| j.stage == stage).map(|j| format!("job {}", j.id)))
    }

    /// All of them, each with where it works.
    pub(super) fn stages(&self) -> Vec<(&str, u64)> {
        let processes = self.orphans.iter().map(|o| (o.stage.as_str(), u64::from(o.pid)));
        processes.chain(self.jobs.iter().map(|j| (j.stage.as_str(), j.id))).collect()
    }

    /// Asks them to stop at their next checkpoints; with `now` ends them.
    pub(super) fn stop(&self, folder: &RunFolder, now: bool) {
        self.orphans.iter().for_each(|stage| stage.stop(folder, now));
        self.jobs.iter().for_each(|job| job.stop(now));
    }

    /// Whether one of them still works.
    pub(super) fn lives(&self, folder: &RunFolder) -> bool {
        self.orphans.iter().any(|stage| stage.lives(folder)) || self.jobs.iter().any(LeftJob::lives)
    }

    /// What is known of a run that ended without a word, and the way out.
    pub(super) fn died(&self, summary: &Summary) -> String {
        let then = if self.jobs.is_empty() { "waits for them and goes on" } else { "goes on with them" };
        let way_out = format!("`opdflow stop` ends them, and the same command as before {then}");
        match (self.orphans.len() + self.jobs.len(), &self.unknown) {
            (0, Some((why, stages))) => format!(
                "died without a last word; whether jobs of {} of its stages are still at work is not known ({why}); its command goes on with them",
                stages.len()
            ),
            (0, None) if summary.started.is_elsewhere() => format!(
                "died without a last word, as {}; run its command again to go on: it waits for stages that may still be at work there",
                summary.started.process()
            ),
            (0, None) => "died without a last word; run its command again to go on".to_owned(),
            (1, _) => {
                format!("died without a last word; a stage of it is still at work: {}", way_out.replace("them", "it"))
            }
            (n, _) => format!("died without a last word; {n} of its stages are still at work: {way_out}"),
        }
    }
}
