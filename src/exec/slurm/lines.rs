//! What a job says of itself: the events of its stage, and when each of its starts begins and ends. All of it is in one file, in the
//! order in which it happened, so that an end is never seen before the last events.

use opdflow_api::Event;
use serde::{Deserialize, Serialize};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// The stage said something.
    Event(Event),
    /// A start of the job begins.
    Begins(Begins),
    /// A start of the job ends.
    Ends(Ends),
}

/// A start of a job. Slurm may start a job again under the same number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begins {
    /// The node.
    pub host: String,
    /// The process there.
    pub pid: u32,
}

/// How the stage's program ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// Its exit code.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether it was asked to stop, and by what.
    pub asked: Option<Asked>,
}

/// What asked a job to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// Slurm: its time limit is near.
    Limit,
    /// A signal to end: somebody who cancels it, a job that goes first, `opdflow stop`.
    Signal,
    /// The file that its run leaves beside its events.
    File,
}

/// As it is written.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mark {
    Begins(Begins),
    Ends(Ends),
}

#[derive(Serialize, Deserialize)]
struct Written {
    job: Mark,
}

impl Line {
    /// The line as text, if it is one of the job itself.
    pub(super) fn text(mark: &Self) -> Option<Vec<u8>> {
        let job = match mark {
            Self::Begins(begins) => Mark::Begins(begins.clone()),
            Self::Ends(ends) => Mark::Ends(ends.clone()),
            Self::Event(_) => return None,
        };
        // A start that was killed may have left half a line.
        Some([b"\n".to_vec(), serde_json::to_vec(&Written { job }).ok()?, b"\n".to_vec()].concat())
    }

    fn of(line: &[u8]) -> Option<Self> {
        if let Ok(event) = serde_json::from_slice::<Event>(line) {
            return Some(Self::Event(event));
        }
        match serde_json::from_slice::<Written>(line).ok()?.job {
            Mark::Begins(begins) => Some(Self::Begins(begins)),
            Mark::Ends(ends) => Some(Self::Ends(ends)),
        }
    }
}

/// The file of one job, as far as it was read.
#[derive(Debug)]
pub struct Reading {
    path: PathBuf,
    offset: u64,
    rest: Vec<u8>,
}

impl Reading {
    /// Begins at the first line. The file may come later.
    #[must_use]
    pub fn of(path: PathBuf) -> Self {
        Self { path, offset: 0, rest: Vec::new() }
    }

    /// What came since the last time. Lines that are none known here are passed over.
    pub fn news(&mut self) -> Vec<Line> {
        // Opened anew: on a file system of a network that is when one sees what others wrote.
        let mut bytes = Vec::new();
        let read = std::fs::File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.offset))?;
            file.read_to_end(&mut bytes)
        });
        // What was read before an error counts.
        let _ = read;
        self.offset += bytes.len() as u64;
        self.rest.extend(bytes);
        let whole = self.rest.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let lines = self.rest[..whole].split(|b| *b == b'\n').filter_map(Line::of).collect();
        self.rest.drain(..whole);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn lines_come_once_and_half_ones_harm_no_whole_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.12.events");
        let mut reading = Reading::of(path.clone());
        assert!(reading.news().is_empty(), "it is not there yet");
        let mut file = std::fs::File::options().create(true).append(true).open(&path).unwrap();
        let begins = Line::Begins(Begins { host: "n1".into(), pid: 7 });
        let ends = Line::Ends(Ends { code: Some(75), signal: None, asked: Some(Asked::Limit) });
        file.write_all(&Line::text(&begins).unwrap()).unwrap();
        file.write_all(b"{\"event\":\"started\",\"step\":0}\n{\"event\":\"checkpo").unwrap();
        assert_eq!(reading.news(), [begins.clone(), Line::Event(Event::Started { step: 0 })]);
        // Killed there; the next start of the job.
        file.write_all(&Line::text(&begins).unwrap()).unwrap();
        file.write_all(b"a stray print\n{\"job\":{\"from_the_future\":1}}\n").unwrap();
        file.write_all(&Line::text(&ends).unwrap()).unwrap();
        assert_eq!(reading.news(), [begins, ends]);
        assert!(reading.news().is_empty());
    }
}
