//! Prompts as artefacts: one JSON object a line.

use anyhow::{Context as _, Result};
use opdflow_rewards::Subject;
use opdflow_stage::Fault;
use opdflow_world::geneval::Metadata;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One prompt with what rewards need to know of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The words for the text encoders.
    pub text: String,
    /// The text that the picture must show; by default what stands between the first pair of double quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// GenEval's metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geneval: Option<Metadata>,
}

impl Record {
    /// A prompt of words alone.
    #[must_use]
    pub fn plain(text: &str) -> Self {
        let target =
            text.split('"').nth(1).filter(|t| !t.is_empty() && text.matches('"').count() > 1).map(ToOwned::to_owned);
        Self { text: text.to_owned(), target, geneval: None }
    }

    /// What a reward may know.
    #[must_use]
    pub fn subject(&self) -> Subject<'_> {
        Subject { text: &self.text, target: self.target.as_deref(), geneval: self.geneval.as_ref() }
    }

    /// Reads a line of a user's file: a JSON object of ours, one of GenEval's (`prompt`, `include`, ...), or plain words.
    fn of_line(line: &str) -> Result<Self, serde_json::Error> {
        if !line.starts_with('{') {
            return Ok(Self::plain(line));
        }
        let value: serde_json::Value = serde_json::from_str(line)?;
        if value.get("text").is_some() {
            return serde_json::from_value(value);
        }
        let metadata: Metadata = serde_json::from_value(value)?;
        Ok(Self { text: metadata.prompt.clone(), target: None, geneval: Some(metadata) })
    }
}

/// Reads prompts, blank lines skipped.
///
/// # Errors
/// The file cannot be read, holds no prompt, or a line is not valid; the line is named.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading prompts from {}", path.display()))?;
    parse(path, &text)
}

/// The same of text that is already here; `path` is for messages.
///
/// # Errors
/// As for [`read`].
pub fn parse(path: &Path, text: &str) -> Result<Vec<Record>> {
    Ok(lines(path, text)?.into_iter().map(|(_, record)| record).collect())
}

/// The same, each with the number of its line.
///
/// # Errors
/// As for [`read`].
pub fn lines(path: &Path, text: &str) -> Result<Vec<(usize, Record)>> {
    let mut records = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let record = Record::of_line(line).map_err(|e| {
            Fault::user(format!("{}:{}: not a prompt: {e}", path.display(), i + 1)).help(
                "a line is plain words, or a JSON object with `text` (and `target`, `geneval`), or one of GenEval's",
            )
        })?;
        records.push((i + 1, record));
    }
    if records.is_empty() {
        return Err(Fault::user(format!("{} holds no prompt", path.display())).into());
    }
    Ok(records)
}

/// Writes prompts.
///
/// # Errors
/// The disk is full.
pub fn write(path: &Path, records: &[Record]) -> Result<()> {
    let mut text = String::new();
    for record in records {
        text.push_str(&serde_json::to_string(record)?);
        text.push('\n');
    }
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_stands_between_the_first_double_quotes() {
        assert_eq!(Record::plain("a sign \"Open\" by \"night\"").target.as_deref(), Some("Open"));
        assert_eq!(Record::plain("a 6\" nail").target, None);
        assert_eq!(Record::plain("a dog").target, None);
    }

    #[test]
    fn three_kinds_of_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p");
        std::fs::write(&path, "a dog\n\n{\"text\":\"x\",\"target\":\"y\"}\n{\"tag\":\"single_object\",\"include\":[{\"class\":\"cow\",\"count\":1}],\"prompt\":\"a photo of a cow\"}\n").unwrap();
        let records = read(&path).unwrap();
        assert_eq!(records.iter().map(|r| r.text.as_str()).collect::<Vec<_>>(), ["a dog", "x", "a photo of a cow"]);
        assert!(records[2].geneval.is_some());
        std::fs::write(&path, "a dog\n{\"txt\":1}\n").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("p:2"), "{error}");
    }
}
