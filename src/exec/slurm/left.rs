//! Jobs of stages whose run is no more: they work on, publish what they make, and stop when asked.

use super::ask::{self, Queued, Silence, queue};
use super::script::{job_name, wish};

/// A job that an earlier run submitted and that is still in the queue.
#[derive(Clone, Debug)]
pub struct LeftJob {
    /// The stage.
    pub stage: String,
    /// The job's number.
    pub id: u64,
    queued: Queued,
}

/// Of these jobs, by stage, key and number, those that may still do something.
///
/// # Errors
/// Slurm gives no answer: nothing is known then.
pub fn left(jobs: &[(String, String, u64)]) -> Result<Vec<LeftJob>, Silence> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let queue = queue()?;
    let of = |(stage, key, id): &(String, String, u64)| {
        // Numbers are used again, names with a key in them are not.
        let queued = queue.iter().find(|q| q.id == *id && q.name == job_name(key, stage) && q.state.lives())?;
        Some(LeftJob { stage: stage.clone(), id: *id, queued: queued.clone() })
    };
    Ok(jobs.iter().filter_map(of).collect())
}

impl LeftJob {
    /// Asks it to stop at a checkpoint; with `now` cancels it.
    pub fn stop(&self, now: bool) {
        // Beside its files, for a controller that is away.
        let _ = std::fs::write(wish(&self.queued.files, self.id), "");
        if now {
            let _ = ask::kill(self.id);
        } else {
            ask::withdraw(self.id);
            ask::signal(self.id);
        }
    }

    /// Whether it may still do something. An answer that does not come is no end.
    #[must_use]
    pub fn lives(&self) -> bool {
        let same = |q: &Queued| q.id == self.id && q.name == self.queued.name && q.state.lives();
        queue().map_or(true, |jobs| jobs.iter().any(same))
    }
}
