//! TensorBoard's files, written while a run goes on: by a thread of their own, for which nobody waits.

use super::news::Story;
use super::result::Source;
use super::tensorboard::Board;
use crate::runlog::{Line, RunEvent, RunFolder};
use anyhow::{Context as _, Result};
use opdflow_api::Registry;
use opdflow_api::cache::Store;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

/// How long the end of a run waits for what is still to be written.
const PATIENCE: Duration = Duration::from_secs(10);

/// Hears the events of a run and has them written. What goes wrong is told once, and stops nothing else.
#[derive(Debug)]
pub struct Live {
    lines: Option<Sender<Line>>,
    /// What went wrong; closed when all is written.
    trouble: Receiver<String>,
}

impl Live {
    /// Writes below `tensorboard/` in the folder of the run.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(folder: &RunFolder, store: PathBuf, registry: Registry) -> Result<Self> {
        let (lines, heard) = mpsc::channel();
        let (tell, trouble) = mpsc::channel();
        let folder = folder.clone();
        let write = move || {
            if let Err(error) = follow(folder, &store, registry, &heard) {
                let _ = tell.send(format!("{error:#}; the run goes on without TensorBoard's files"));
            }
        };
        let thread = std::thread::Builder::new().name("tensorboard".to_owned());
        thread.spawn(write).context("cannot start a thread for TensorBoard's files")?;
        Ok(Self { lines: Some(lines), trouble })
    }

    /// Hands on an event that happened at `at`.
    pub fn hear(&self, at: f64, event: &RunEvent) {
        let shown = matches!(
            event,
            RunEvent::RunStarted(_)
                | RunEvent::Keyed { .. }
                | RunEvent::Hit { .. }
                | RunEvent::Begun { .. }
                | RunEvent::Metric { .. }
                | RunEvent::Done { .. }
                | RunEvent::Stopped { .. }
                | RunEvent::Failed { .. }
        );
        if let Some(lines) = self.lines.as_ref().filter(|_| shown) {
            // Nobody hears any more after trouble.
            let _ = lines.send(Line { at, event: event.clone() });
        }
    }

    /// What went wrong since the last time that somebody asked.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.try_recv().ok()
    }

    /// No more events come: waits a while until all is written. What went wrong.
    pub fn finish(&mut self) -> Option<String> {
        self.lines = None;
        match self.trouble.recv_timeout(PATIENCE) {
            Ok(trouble) => Some(trouble),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                Some("TensorBoard's files may lack the end of the run: the disk is slow".into())
            }
        }
    }
}

fn follow(folder: RunFolder, store: &std::path::Path, registry: Registry, heard: &Receiver<Line>) -> Result<()> {
    let mut board = Board::new(&folder.path().join("tensorboard"));
    let store = Store::reopen(store)?;
    let source = Source { folder, store, registry, no_prompts: false, images_of_hits: false };
    let mut story = Story::of(source);
    while let Ok(first) = heard.recv() {
        // What is there by now goes out in one piece.
        for line in std::iter::once(first).chain(heard.try_iter().take(1000)) {
            story.take(&line).into_iter().for_each(|news| board.take(news));
        }
        board.flush()?;
    }
    Ok(())
}
