//! The writing end of a run log.

use super::event::{Line, RunEvent};
use super::folder::RunFolder;
use super::needs::keys_line;
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Progress lines of one stage are at least this far apart.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Appends events to the log of a run. While it lives, the log is locked: that is how others see that the run is
/// alive, and the lock goes with the process however it dies.
#[derive(Debug)]
pub struct RunLog {
    file: File,
    /// Where keys are kept beside the log, so that a log that lost lines is known (see `needs.rs`).
    keys: Option<File>,
    progressed: BTreeMap<String, Instant>,
    broken: bool,
}

impl RunLog {
    /// Begins the log in `folder`.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(folder: &RunFolder) -> Result<Self> {
        let path = folder.events();
        let file = File::options().create_new(true).append(true).open(&path);
        let file = file.with_context(|| format!("cannot create {}", path.display()))?;
        // A file system without locks costs `status` the word "running", nothing else.
        let _ = file.try_lock();
        let keys = File::options().create_new(true).append(true).open(folder.keys()).ok();
        Ok(Self { file, keys, progressed: BTreeMap::new(), broken: false })
    }

    /// Appends one event of now. Progress of one stage, its own or another run's, is kept once a second at most, and its last step always.
    ///
    /// # Errors
    /// The first time that the log cannot be written. A run goes on without its log, so later ones are silent.
    pub fn write(&mut self, event: &RunEvent) -> Result<()> {
        self.write_at(now(), event)
    }

    /// The same of a moment, in seconds since 1970.
    ///
    /// # Errors
    /// As there.
    pub fn write_at(&mut self, at: f64, event: &RunEvent) -> Result<()> {
        if self.broken || !self.is_due(event) {
            return Ok(());
        }
        if let (RunEvent::Keyed { key, lineage, .. }, Some(keys)) = (event, &mut self.keys) {
            // One that cannot be written shows later: the log then has a key that is not here.
            let _ = keys.write_all(keys_line(key, lineage).as_bytes());
        }
        let line = Line { at, event: event.clone() };
        let mut text = serde_json::to_vec(&line).context("cannot encode an event")?;
        text.push(b'\n');
        // One write a line: a reader, or a crash, sees at most one torn line, the last.
        self.file
            .write_all(&text)
            .inspect_err(|_| self.broken = true)
            .context("cannot write the run log; the run goes on without it")
    }

    fn is_due(&mut self, event: &RunEvent) -> bool {
        let (stage, last) = match event {
            RunEvent::Progress { stage, step, total, .. } => (stage, step == total),
            RunEvent::Waits { stage, .. } => (stage, false),
            _ => return true,
        };
        let due = last || self.progressed.get(stage).is_none_or(|t| t.elapsed() >= PROGRESS_EVERY);
        if due {
            self.progressed.insert(stage.clone(), Instant::now());
        }
        due
    }
}

/// Now, in seconds since 1970.
#[must_use]
pub fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // To the millisecond.
    (since.as_secs_f64() * 1000.0).round() / 1000.0
}
