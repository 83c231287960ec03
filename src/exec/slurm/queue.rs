//! The queue as all followers of a run see it: asked once for all of them, and not more often than it must be.

use super::ask::{Queued, Silence, queue};
use super::judge::Seen;
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

/// The queue is never asked more often than this.
const LEAST: Duration = Duration::from_secs(1);

/// What the queue answered, and when it was asked.
#[derive(Clone, Debug)]
struct Snapshot {
    at: Instant,
    answer: Arc<Result<Vec<Queued>, Silence>>,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    poll: Duration,
    newest: Mutex<Option<Snapshot>>,
}

/// What is known of a job from the queue.
#[derive(Clone, Debug)]
pub(super) enum Look {
    /// Nobody has asked since; another follower is just asking, or it is too early to ask again.
    NotYet,
    /// Slurm gives no answer, for this reason.
    Silent(Silence),
    /// The job, if the queue has it.
    At(Option<Queued>),
}

impl Look {
    /// For the judge.
    pub(super) fn seen(&self) -> Seen {
        match self {
            Self::NotYet | Self::Silent(_) => Seen::Silent,
            Self::At(None) => Seen::Absent,
            Self::At(Some(job)) => Seen::At(job.state),
        }
    }
}

impl Queue {
    pub(super) fn new(poll: Duration) -> Self {
        Self { poll, newest: Mutex::new(None) }
    }

    /// The answer to a question that was asked after this moment.
    fn after(&self, moment: Instant) -> Option<Arc<Result<Vec<Queued>, Silence>>> {
        let mut newest = match self.newest.try_lock() {
            Ok(newest) => newest,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Asking may take a while, and whoever waits for it could not stop its job.
            Err(TryLockError::WouldBlock) => return None,
        };
        if let Some(known) = &*newest {
            let good = known.at > moment && known.at.elapsed() < self.poll;
            // One that gave no answer is left in peace for as long as an answer would be good.
            let rest = if known.answer.is_err() { self.poll } else { LEAST };
            if good || known.at.elapsed() < rest {
                return (known.at > moment).then(|| known.answer.clone());
            }
        }
        let at = Instant::now();
        let answer = Arc::new(queue());
        *newest = Some(Snapshot { at, answer: answer.clone() });
        Some(answer)
    }

    /// What the queue says of this job, asked after this moment. One of another name is another's: numbers are used again.
    pub(super) fn look(&self, id: u64, name: &str, moment: Instant) -> Look {
        match self.after(moment).as_deref() {
            None => Look::NotYet,
            Some(Err(silence)) => Look::Silent(silence.clone()),
            Some(Ok(jobs)) => Look::At(jobs.iter().find(|job| job.id == id && job.name == name).cloned()),
        }
    }

    /// The jobs of this name that may still do something, asked after this moment. Nothing if nobody has an answer yet.
    ///
    /// # Errors
    /// Slurm gives no answer.
    pub(super) fn named(&self, name: &str, moment: Instant) -> Option<Result<Vec<Queued>, Silence>> {
        let of_name = |job: &&Queued| job.name == name && job.state.lives();
        Some(match &*self.after(moment)? {
            Err(silence) => Err(silence.clone()),
            Ok(jobs) => Ok(jobs.iter().filter(of_name).cloned().collect()),
        })
    }
}
