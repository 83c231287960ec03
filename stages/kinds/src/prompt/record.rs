//! Prompts as artefacts, and in the files of users: one a line.

use crate::prompt::dpg_bench;
use anyhow::{Context as _, Result};
use opdflow_api::Fault;
use opdflow_io::{file, terminal};
use opdflow_rewards::geneval::{Metadata, Tag};
use opdflow_rewards::questions::{self, Question};
use opdflow_rewards::{Subject, quoted};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// The most bytes that a file of prompts may have.
pub const LARGEST: u64 = 1 << 30;

/// The most bytes of one line. The text encoders read 77 and 256 tokens of it.
const LONGEST: usize = 1 << 16;

/// As many lines that are no prompts are named.
const NAMED: usize = 20;

/// What a line may be.
pub const LINES: &str = "a line is plain words, or a JSON object with `text` or `prompt` (and `target`, `geneval`, `questions`), or one of GenEval's (`tag`, `include`, `prompt`) or GenEval 2's (`prompt`, `vqa_list`); or the file is DPG-Bench's CSV";

/// The colours that GenEval tells apart. An object of any other is never found.
const COLOURS: [&str; 10] = ["red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white"];

/// One prompt with what rewards need to know of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The words for the text encoders.
    pub text: String,
    /// The text that the image must show; by default what stands between the first pair of quotation marks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// GenEval's metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geneval: Option<Metadata>,
    /// What is asked about its image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub questions: Vec<Question>,
}

/// A prompt, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The line of the file, from 1.
    pub line: usize,
    /// The prompt.
    pub record: Record,
}

impl Entry {
    /// The text that the image must show, as it was given or as it was found in the words.
    #[must_use]
    pub fn target(&self) -> Option<&str> {
        self.record.target.as_deref()
    }
    /// The task of GenEval, if it is one of its prompts.
    #[must_use]
    pub fn tag(&self) -> Option<Tag> {
        self.record.geneval.as_ref().map(|metadata| metadata.tag)
    }
}

impl Record {
    /// A prompt of words alone.
    #[must_use]
    pub fn plain(text: &str) -> Self {
        let target = quoted(text).filter(|t| !t.trim().is_empty()).map(ToOwned::to_owned);
        Self { text: text.to_owned(), target, geneval: None, questions: Vec::new() }
    }

    /// What a reward may know.
    #[must_use]
    pub fn subject(&self) -> Subject<'_> {
        Subject {
            text: &self.text,
            target: self.target.as_deref(),
            geneval: self.geneval.as_ref(),
            questions: &self.questions,
        }
    }

    /// Reads a line of a user's file: a JSON object of ours, one of GenEval's (`tag`, `include`, ...), one with a prompt and
    /// whatever else, or plain words.
    fn of_line(line: &str) -> Result<Self, String> {
        readable(line)?;
        let record = if line.starts_with('{') { Self::of_json(line)? } else { Self::plain(line) };
        record.whole()
    }

    fn of_json(line: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(line).map_err(|e| format!("not JSON: {e}"))?;
        let keys: Vec<&str> = value.as_object().into_iter().flat_map(|o| o.keys()).map(String::as_str).collect();
        if let Some((key, meant)) = keys.iter().find_map(|key| Some((key, mistyped(key)?))) {
            return Err(format!("`{key}` is not read: did you mean `{meant}`?"));
        }
        let own = ["tag", "include"].iter().any(|key| keys.contains(key));
        let geneval = value.get("geneval").filter(|v| !v.is_null()).or(own.then_some(&value));
        let geneval: Option<Metadata> =
            geneval.map(Metadata::deserialize).transpose().map_err(|e| format!("not GenEval's metadata: {e}"))?;
        let shown = |value: &Value| terminal::cut(&value.to_string(), 80).into_owned();
        let text = match ["text", "prompt"].iter().find_map(|key| value.get(key)) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => return Err(format!("its prompt is {}, expected text", shown(other))),
            None => return Err(format!("it has neither `text` nor `prompt`, but `{}`", keys.join("`, `"))),
        };
        let target = match value.get("target") {
            Some(Value::String(target)) => Some(target.clone()),
            Some(other) if !other.is_null() => return Err(format!("`target` is {}, expected text", shown(other))),
            // GenEval's prompts ask for things, not for words.
            _ => Self::plain(&text).target.filter(|_| geneval.is_none()),
        };
        let questions = asked(&value)?;
        // Nor do prompts that are asked about.
        let target = target.filter(|_| questions.is_empty() || value.get("target").is_some());
        Ok(Self { text, target, geneval, questions })
    }

    /// Itself, if images can be judged by it.
    ///
    /// # Errors
    /// Why they cannot.
    pub fn whole(self) -> Result<Self, String> {
        self.fault().map_or(Ok(self), Err)
    }

    /// Why no image can be judged by it.
    fn fault(&self) -> Option<String> {
        if self.text.trim().is_empty() {
            return Some("the prompt is empty".to_owned());
        }
        if self.target.as_ref().is_some_and(|t| t.trim().is_empty()) {
            return Some("`target` is empty, and every image shows that".to_owned());
        }
        let asked = self.target.is_some() || self.geneval.is_some() || !self.questions.is_empty();
        if !asked && quoted(&self.text).is_some_and(|t| t.trim().is_empty()) {
            return Some("nothing stands between its quotation marks, and every image shows that; write the text there, or give another `target`".to_owned());
        }
        self.geneval.as_ref().and_then(unfit).or_else(|| questions::fault(&self.questions))
    }
}

/// Whether this is text that may be read as a prompt.
fn readable(text: &str) -> Result<(), String> {
    if text.len() > LONGEST {
        return Err(format!("{} bytes, expected at most {LONGEST}", text.len()));
    }
    match text.chars().find(|c| c.is_control() && *c != '\t') {
        Some(c) => Err(format!("a control character, U+{:04X}, is in it", u32::from(c))),
        None => Ok(()),
    }
}

/// The questions of a line: ours (`questions`), or GenEval 2's (`vqa_list` of pairs, `skills` in the same order).
fn asked(value: &Value) -> Result<Vec<Question>, String> {
    if let Some(own) = value.get("questions").filter(|v| !v.is_null()) {
        return Vec::deserialize(own).map_err(|e| format!("`questions`: {e}"));
    }
    let Some(pairs) = value.get("vqa_list") else { return Ok(Vec::new()) };
    let pairs = Vec::<(String, String)>::deserialize(pairs).map_err(|e| format!("`vqa_list`: {e}"))?;
    let skills =
        value.get("skills").map(Vec::<String>::deserialize).transpose().map_err(|e| format!("`skills`: {e}"))?;
    if pairs.is_empty() || skills.as_ref().is_some_and(|skills| skills.len() != pairs.len()) {
        return Err("`vqa_list` is empty, or `skills` is not as long".to_owned());
    }
    let mut skills = skills.unwrap_or_default().into_iter();
    let one =
        |(question, answer)| Question { question, answer, about: skills.next().unwrap_or_default(), after: Vec::new() };
    Ok(pairs.into_iter().map(one).collect())
}

/// The name that is meant by one that is nearly it: what is not read is lost without a word.
fn mistyped(key: &str) -> Option<&'static str> {
    let known = ["target", "geneval", "include", "exclude", "questions"];
    if known.contains(&key) {
        return None;
    }
    known.into_iter().find(|name| strsim::osa_distance(&key.to_lowercase(), name) <= 2)
}

/// Why GenEval cannot judge an image by this.
fn unfit(metadata: &Metadata) -> Option<String> {
    if metadata.include.is_empty() {
        return Some("`include` is empty: nothing is asked for".to_owned());
    }
    for (i, clause) in metadata.include.iter().enumerate() {
        let at = format!("include[{i}]");
        if clause.count == 0 {
            return Some(format!("`{at}.count` is 0, expected 1 or more"));
        }
        if clause.position.is_some_and(|(_, of)| of >= i) {
            return Some(format!("`{at}.position` refers to a clause that is not before it"));
        }
        if let Some(colour) = clause.color.as_deref().filter(|c| !COLOURS.contains(c)) {
            return Some(format!("`{at}.color` is `{colour}`, expected one of {}", COLOURS.join(", ")));
        }
    }
    let nought = metadata.exclude.iter().position(|clause| clause.count == 0)?;
    Some(format!("`exclude[{nought}].count` is 0, which no image keeps; expected 1 or more"))
}

/// Reads prompts that this program wrote.
///
/// # Errors
/// The file cannot be read, holds no prompt, or a line is not valid; the line is named.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let text = file::read_text(path, LARGEST).with_context(|| format!("reading prompts from {}", path.display()))?;
    let entries = entries(path, &text).map_err(|faults| Fault::user(faults.join("\n")).help(LINES))?;
    Ok(entries.into_iter().map(|e| e.record).collect())
}

/// The prompts of a file's text with their lines, blank lines left out; `path` is for messages.
///
/// # Errors
/// Every line that is no prompt, by its number (the first twenty, and how many more); no prompt at all.
pub fn entries(path: &Path, text: &str) -> Result<Vec<Entry>, Vec<String>> {
    let at = path.display();
    if text.trim_start().starts_with('[') && serde_json::from_str::<Vec<Value>>(text).is_ok() {
        return Err(vec![format!("{at} is a JSON list, expected a prompt a line; `jq -c '.[]'` writes it so")]);
    }
    if text.starts_with(dpg_bench::HEAD) {
        let whole = |item: dpg_bench::Item| {
            let record = Record { text: item.text, target: None, geneval: None, questions: item.questions };
            let sound = readable(&record.text).and_then(|()| record.whole());
            Ok(Entry { line: item.row, record: sound.map_err(|why| (item.row, why))? })
        };
        let found = dpg_bench::read(text).and_then(|items| items.into_iter().map(whole).collect());
        return found.map_err(|(row, why)| vec![format!("{at}: row {row} of DPG-Bench: {why}")]);
    }
    let (mut entries, mut faults, mut more) = (Vec::new(), Vec::new(), 0);
    for (i, line) in text.lines().enumerate() {
        let (number, line) = (i + 1, line.trim());
        if line.is_empty() {
            continue;
        }
        match Record::of_line(line) {
            Ok(record) => entries.push(Entry { line: number, record }),
            Err(why) if faults.len() < NAMED => {
                faults.push(format!("{at}:{number}: not a prompt: {}", terminal::cut(&why, 500)));
            }
            Err(_) => more += 1,
        }
    }
    if more > 0 {
        faults.push(format!("{at}: and {more} more lines"));
    }
    if faults.is_empty() && entries.is_empty() {
        faults.push(format!("{at} holds no prompt"));
    }
    if faults.is_empty() { Ok(entries) } else { Err(faults) }
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

    fn of(text: &str) -> Result<Vec<Entry>, Vec<String>> {
        entries(Path::new("p"), text)
    }

    #[test]
    fn kinds_of_lines() {
        let found = of("a dog\r\n\n{\"text\":\"x\",\"target\":\"y\"}\n{\"tag\":\"single_object\",\"include\":[{\"class\":\"cow\",\"count\":1}],\"prompt\":\"a photo of a cow\"}\n{\"prompt\": \"a 6\\\" sign, \\\"HI\\\"\", \"id\": 7}\n").unwrap();
        let shown: Vec<_> = found.iter().map(|e| (e.line, e.record.text.as_str(), e.target(), e.tag())).collect();
        assert_eq!(
            shown,
            [
                (1, "a dog", None, None),
                (3, "x", Some("y"), None),
                (4, "a photo of a cow", None, Some(Tag::SingleObject)),
                (5, "a 6\" sign, \"HI\"", Some("HI"), None)
            ]
        );
    }

    #[test]
    fn every_line_that_is_no_prompt_is_named() {
        let geneval = |include: &str, exclude: &str| {
            format!("{{\"tag\":\"counting\",\"prompt\":\"x\",\"include\":{include},\"exclude\":{exclude}}}")
        };
        for (line, why) in [
            ("a sign that says \"\"", "nothing stands between its quotation marks"),
            ("a sign that says “ ”", "nothing stands between its quotation marks"),
            ("{\"text\":\"a sign\",\"target\":\" \"}", "`target` is empty"),
            ("{\"text\":\"  \"}", "the prompt is empty"),
            ("{\"txt\":1}", "neither `text` nor `prompt`, but `txt`"),
            ("{\"prompt\":[1]}", "its prompt is [1], expected text"),
            ("{\"prompt\":\"x\",\"traget\":\"y\"}", "`traget` is not read: did you mean `target`?"),
            ("{\"prompt\":\"x\",\"target\":3}", "`target` is 3, expected text"),
            ("{\"prompt\":\"x\",\"include\":[]}", "not GenEval's metadata: missing field `tag`"),
            ("{\"prompt\": \"x\"", "not JSON: EOF"),
            (&geneval("[]", "[]"), "`include` is empty"),
            (&geneval("[{\"class\":\"cow\",\"count\":0}]", "[]"), "`include[0].count` is 0"),
            (&geneval("[{\"class\":\"cow\",\"count\":-1}]", "[]"), "invalid value: integer `-1`"),
            (&geneval("[{\"class\":\"cow\",\"count\":1,\"color\":\"gray\"}]", "[]"), "`include[0].color` is `gray`"),
            (&geneval("[{\"class\":\"cow\",\"count\":1,\"position\":[\"above\",0]}]", "[]"), "not before it"),
            (
                &geneval("[{\"class\":\"cow\",\"count\":1}]", "[{\"class\":\"cow\",\"count\":0}]"),
                "`exclude[0].count` is 0",
            ),
            ("a \u{1b}[2Jdog", "a control character, U+001B"),
            ("a dog\ra cat", "a control character, U+000D"),
            (&"x".repeat(70_000), "70000 bytes, expected at most 65536"),
        ] {
            let faults = of(&format!("a dog\n{line}\na cat\n")).unwrap_err();
            assert!(faults.len() == 1 && faults[0].starts_with("p:2: not a prompt: "), "{faults:?}");
            assert!(faults[0].contains(why), "{faults:?}");
        }
        // All at once, and no end of them.
        let faults = of(&"a dog\n{\n".repeat(50)).unwrap_err();
        assert!(faults.len() == 21 && faults[19].starts_with("p:40: ") && faults[20] == "p: and 30 more lines");
        let bad = format!("{{\"prompt\": [\"{}\"]}}", "x".repeat(60_000));
        assert!(of(&bad).unwrap_err()[0].len() < 700);
        assert_eq!(of(" \n\n").unwrap_err(), ["p holds no prompt"]);
        assert!(of("[\n{\"prompt\": \"a\"}\n]").unwrap_err()[0].contains("is a JSON list"));
        assert_eq!(of("[photo] a dog").unwrap().len(), 1);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        let records = [Record::plain("a sign „A“"), Record::plain("a dog")];
        write(&path, &records).unwrap();
        assert_eq!(read(&path).unwrap(), records);
        assert_eq!(records[0].target.as_deref(), Some("A"));
    }
}
