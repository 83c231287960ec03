//! The raw answers of chat models, each with what it was about and what was read from it. What is there is not asked again.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, BufRead as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The reward.
    pub reward: String,
    /// BLAKE3 of all that was asked: model, question, the image's size and pixels.
    pub question: String,
    /// BLAKE3 of the image: width and height as 8 bytes each, little-endian, and its pixels, RGB, row by row.
    pub image: String,
    /// The image's prompt.
    pub prompt: String,
    /// What the server sent, as it is.
    pub answer: String,
    /// The number that was read from it.
    pub value: f64,
    /// The measures beside it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, f64>,
}

/// All answers of a stage, of all its rewards.
#[derive(Debug, Default)]
pub struct Answers {
    known: Mutex<Known>,
    asked: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    all: BTreeMap<(String, String), Answer>,
    /// Those that no other process of the stage was told yet.
    fresh: Vec<Answer>,
}

impl Answers {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a question of this reward.
    #[must_use]
    pub fn get(&self, reward: &str, question: &str) -> Option<Answer> {
        self.known().all.get(&(reward.to_owned(), question.to_owned())).cloned()
    }

    /// Keeps an answer.
    pub fn put(&self, answer: Answer) {
        let mut known = self.known();
        known.fresh.push(answer.clone());
        known.all.insert((answer.reward.clone(), answer.question.clone()), answer);
    }

    /// Keeps answers that another process of the stage was given.
    pub fn take_over(&self, answers: Vec<Answer>) {
        let mut known = self.known();
        known.all.extend(answers.into_iter().map(|a| ((a.reward.clone(), a.question.clone()), a)));
    }

    /// The answers that were kept since this was last asked.
    #[must_use]
    pub fn fresh(&self) -> Vec<Answer> {
        std::mem::take(&mut self.known().fresh)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known().all.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts one more request, of at most `most`. Whether it may be sent.
    pub(crate) fn count(&self, most: Option<u64>) -> bool {
        let more = |n: u64| most.is_none_or(|most| n < most).then_some(n + 1);
        self.asked.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// Reads what [`Self::write`] wrote; each answer is a request that was made.
    ///
    /// # Errors
    /// The file cannot be read, or is not of answers.
    pub fn read(&self, path: &Path) -> io::Result<()> {
        let mut known = self.known();
        for line in io::BufReader::new(std::fs::File::open(path)?).lines() {
            let answer: Answer = serde_json::from_str(&line?)?;
            known.all.insert((answer.reward.clone(), answer.question.clone()), answer);
        }
        self.asked.fetch_max(known.all.len() as u64, Ordering::SeqCst);
        Ok(())
    }

    /// Writes all of them, a line of JSON each, in an order that does not hang on when they came.
    ///
    /// # Errors
    /// The disk.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = io::BufWriter::new(std::fs::File::create(path)?);
        for answer in self.known().all.values() {
            serde_json::to_writer(&mut file, answer)?;
            file.write_all(b"\n")?;
        }
        file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(question: &str, value: f64) -> Answer {
        Answer {
            reward: "j".to_owned(),
            question: question.to_owned(),
            image: "i".to_owned(),
            prompt: "a\n\u{1F600}\"".to_owned(),
            answer: "Final Score: 4".to_owned(),
            value,
            parts: BTreeMap::new(),
        }
    }

    #[test]
    fn there_and_back_to_the_last_bit_and_counted_as_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let answers = Answers::default();
        for (question, value) in [("b", 0.1 + 0.2), ("a", f64::MIN_POSITIVE)] {
            answers.put(answer(question, value));
        }
        assert_eq!(answers.fresh().len(), 2);
        assert!(answers.fresh().is_empty());
        answers.write(&path).unwrap();
        let again = Answers::default();
        again.read(&path).unwrap();
        assert_eq!(again.get("j", "b").unwrap(), answer("b", 0.1 + 0.2));
        assert!(again.get("k", "b").is_none() && again.fresh().is_empty());
        assert!(again.count(Some(3)) && !again.count(Some(3)), "two were asked before");
        std::fs::write(&path, "{}\n").unwrap();
        assert!(again.read(&path).is_err());
    }
}
