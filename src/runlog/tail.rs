//! Reading a run log while it grows.

use super::RunFolder;
use super::event::{FORMAT, Line, RunEvent};
use anyhow::{Context as _, Result, ensure};
use std::fs::File;
use std::io::Read as _;

/// The end of a run log: gives each line once.
#[derive(Debug)]
pub struct Tail {
    file: File,
    /// The beginning of a line whose end is not yet written.
    rest: Vec<u8>,
}

impl Tail {
    /// Begins at the first line.
    ///
    /// # Errors
    /// There is no log.
    pub fn open(folder: &RunFolder) -> Result<Self> {
        let path = folder.events();
        let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { file, rest: Vec::new() })
    }

    /// What was written since the last time. Lines that are no event known here are passed over.
    ///
    /// # Errors
    /// The log cannot be read, or a newer program writes it.
    pub fn news(&mut self) -> Result<Vec<Line>> {
        self.file.read_to_end(&mut self.rest).context("cannot read the run log")?;
        let whole = self.rest.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
        let lines: Vec<Line> =
            self.rest[..whole].split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice(l).ok()).collect();
        self.rest.drain(..whole);
        for line in &lines {
            if let RunEvent::RunStarted(started) = &line.event {
                ensure!(
                    started.format <= FORMAT,
                    "the run log has format {}, this program knows up to {FORMAT}: update the program",
                    started.format
                );
            }
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn each_line_comes_once_and_whole() {
        let home = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(home.path(), "r").unwrap();
        let mut log = File::create(folder.events()).unwrap();
        let mut tail = Tail::open(&folder).unwrap();
        let line = |text: &str| format!("{{\"at\":1,\"event\":{{\"warned\":{{\"text\":\"{text}\"}}}}}}\n");
        assert!(tail.news().unwrap().is_empty());
        let (first, second) = (line("a"), line("b"));
        log.write_all((first + &second[..20]).as_bytes()).unwrap();
        assert_eq!(tail.news().unwrap().len(), 1);
        assert!(tail.news().unwrap().is_empty());
        log.write_all(format!("{}rubbish\n", &second[20..]).as_bytes()).unwrap();
        assert_eq!(tail.news().unwrap()[0].event, RunEvent::Warned { text: "b".into() });
        log.write_all(b"{\"at\":1,\"event\":{\"run_started\":{\"format\":9,\"version\":\"\",\"recipe\":\"\",\"path\":\"\",\"text\":null,\"seed\":0,\"argv\":[],\"pid\":1,\"slots\":1,\"gpus\":0,\"store\":\"\",\"stages\":[]}}}\n").unwrap();
        assert!(tail.news().unwrap_err().to_string().contains("format 9"));
    }
}
