//! Scores as artefacts, and how a set of images gets them.

use crate::artefacts::json;
use crate::runtime::pause::Paused;
use anyhow::Result;
use opdflow_api::Fault;
use opdflow_kinds::judging::{held_out, reward};
use opdflow_kinds::prompt::record::Record;
use opdflow_rewards::{RewardError, Score};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The mean of one number over the prompts of a set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Its standard error over prompts: images of one prompt are alike, and count as one.
    pub error: f64,
    /// Number of prompts.
    pub n: usize,
    /// Number of images, if there are several of each prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<usize>,
}

impl Mean {
    /// The mean of independent means, each with the same weight.
    fn over(means: &[&Mean]) -> Self {
        let count = means.len().max(1) as f64;
        let mean = means.iter().map(|m| m.mean).sum::<f64>() / count;
        let error = means.iter().map(|m| m.error.powi(2)).sum::<f64>().sqrt() / count;
        Self { mean, error, ..Self::counted(means) }
    }

    /// The mean over all images that these are means over.
    fn pooled(means: &[&Mean]) -> Self {
        let all: usize = means.iter().map(|m| m.images()).sum();
        let all = all.max(1) as f64;
        let mean = means.iter().map(|m| m.mean * m.images() as f64).sum::<f64>() / all;
        let squares: f64 = means.iter().map(|m| (m.error * m.images() as f64).powi(2)).sum();
        Self { mean, error: squares.sqrt() / all, ..Self::counted(means) }
    }

    /// How many prompts and images all of them have.
    fn counted(means: &[&Mean]) -> Self {
        let n: usize = means.iter().map(|m| m.n).sum();
        let images: usize = means.iter().map(|m| m.images()).sum();
        Self { mean: 0.0, error: 0.0, n, images: (images != n).then_some(images) }
    }

    fn images(&self) -> usize {
        self.images.unwrap_or(self.n)
    }

    /// The mean of a number of each image, `each` of every prompt in a row.
    fn of(values: &[f64], each: usize) -> Self {
        if each > 1 {
            let prompts: Vec<f64> = values.chunks(each).map(|images| Self::of(images, 1).mean).collect();
            return Self { images: Some(values.len()), ..Self::of(&prompts, 1) };
        }
        let n = values.len();
        let mean = values.iter().sum::<f64>() / n.max(1) as f64;
        let spread = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n.saturating_sub(1).max(1) as f64;
        Self { mean, error: (spread / n.max(1) as f64).sqrt(), n, images: None }
    }
}

/// Mean scores of a model: set of prompts, then column. A column is a reward's name (its headline: GenEval's official
/// accuracy, the value of any other) or `reward.part`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Columns by set.
    pub sets: BTreeMap<String, BTreeMap<String, Mean>>,
}

impl Scores {
    /// The mean of `column`, on the set of the reward's own name if it has it, else on the first set that has it. What is held
    /// out judges all prompts: its mean is over all sets.
    #[must_use]
    pub fn mean(&self, column: &str) -> Option<Mean> {
        let own = column.split('.').next().unwrap_or(column);
        let all: Vec<&Mean> = self.sets.values().filter_map(|s| s.get(column)).collect();
        match self.sets.get(own).and_then(|s| s.get(column)).or_else(|| all.first().copied()) {
            Some(_) if own == held_out::PORT => Some(Mean::pooled(&all)),
            found => found.cloned(),
        }
    }

    /// Reads scores.
    ///
    /// # Errors
    /// The file is not one that [`Scores::write`] wrote.
    pub fn read(path: &Path) -> Result<Self> {
        json::read(path, "scores")
    }

    /// Writes them.
    ///
    /// # Errors
    /// The disk is full.
    pub fn write(&self, path: &Path) -> Result<()> {
        json::write(path, self)
    }
}

/// Columns of scores, with a value for each image.
pub type Columns = BTreeMap<String, Vec<f64>>;

/// Every column of what the reward of this name gave the images of these prompts.
///
/// # Errors
/// A score that is not finite.
pub fn columns(name: &str, scores: &[Score], records: &[Record]) -> Result<Columns> {
    whole(name, scores, |i| records[i].text.as_str())?;
    let mut columns = Columns::new();
    for score in scores {
        let head = reward::shown(name).and_then(|part| score.parts.get(part)).copied().unwrap_or(score.value);
        columns.entry(name.to_owned()).or_default().push(head);
        columns.entry(format!("{name}.reward")).or_default().push(score.value);
        for (part, value) in &score.parts {
            columns.entry(format!("{name}.{part}")).or_default().push(*value);
        }
    }
    Ok(columns)
}

/// What it means that a reward could not judge: a fault of what the user gave it, or of the machine that could not read its
/// files. Images and subjects that do not fit each other are a bug of the stage's.
#[must_use]
pub fn fault(error: RewardError) -> anyhow::Error {
    let message = error.to_string();
    match error {
        RewardError::NotFinite { .. } => not_finite(message).into(),
        RewardError::Parted(_) => Fault::machine(message).into(),
        RewardError::Away { .. } | RewardError::Stopped(_) => Paused { words: message, fault: None }.into(),
        RewardError::Spent { .. } => {
            let fault = Fault::user(message.clone());
            let fault = fault.help("raise it: it is in no key, and the same command goes on with the answers so far");
            Paused { words: message, fault: Some(fault) }.into()
        }
        RewardError::Lengths { .. } | RewardError::Image { .. } => error.into(),
        _ => Fault { message, ..Fault::about(&error.into()) }.into(),
    }
}

fn not_finite(message: String) -> Fault {
    Fault::not_finite(message)
        .help("see that the reward's own weights are whole; nothing is chosen or trained by such a score")
}

/// Fails at the first score that is not finite, in its value or in one of its measures. `prompt` gives the prompt of an
/// image.
///
/// # Errors
/// The reward, the image and its prompt.
pub fn whole<'a>(reward: &str, scores: &[Score], prompt: impl Fn(usize) -> &'a str) -> Result<()> {
    for (i, score) in scores.iter().enumerate() {
        if let Some((part, value)) = score.broken() {
            let of = part.map_or_else(|| format!("`{reward}`"), |part| format!("`{part}` of `{reward}`"));
            return Err(not_finite(format!("{of} gave image {i}, of the prompt {:?}, {value}", prompt(i))).into());
        }
    }
    Ok(())
}

/// GenEval's task of each prompt, where it has one.
pub fn tasks(records: &[Record]) -> Vec<Option<&'static str>> {
    records.iter().map(|record| record.geneval.as_ref().map(|metadata| metadata.tag.name())).collect()
}

/// The means of columns over images, `each` of every prompt in a row; of GenEval also that of each of its tasks, which [`tasks`] gives by
/// image, and the mean over these, which is the summary of the benchmark's own script.
#[must_use]
pub fn means(columns: &Columns, tasks: &[Option<&str>], each: usize) -> BTreeMap<String, Mean> {
    let mut means: BTreeMap<String, Mean> =
        columns.iter().map(|(name, values)| (name.clone(), Mean::of(values, each))).collect();
    let Some(correct) = columns.get("geneval") else { return means };
    let mut by_task: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (value, task) in correct.iter().zip(tasks) {
        if let Some(task) = task {
            by_task.entry(task).or_default().push(*value);
        }
    }
    let tasks: BTreeMap<&str, Mean> =
        by_task.into_iter().map(|(task, values)| (task, Mean::of(&values, each))).collect();
    if !tasks.is_empty() {
        means.insert("geneval.tasks".to_owned(), Mean::over(&tasks.values().collect::<Vec<_>>()));
    }
    means.extend(tasks.into_iter().map(|(task, mean)| (format!("geneval.{task}"), mean)));
    means
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geneval_s_summary_is_the_mean_over_its_tasks() {
        // Three images of one task, all right, and one of another, wrong: 3 / 4 of the images, 1 / 2 of the tasks.
        let record = |tag: &str| -> Record {
            let asked = format!(r#"{{"tag": "{tag}", "include": [{{"class": "dog", "count": 1}}]}}"#);
            serde_json::from_str(&format!(r#"{{"text": "x", "geneval": {asked}}}"#)).unwrap()
        };
        let records = ["counting", "counting", "counting", "position"].map(record);
        let columns = BTreeMap::from([("geneval".to_owned(), vec![1.0, 1.0, 1.0, 0.0])]);
        let found = means(&columns, &tasks(&records), 1);
        let of = |name: &str| found[name].mean;
        assert_eq!((of("geneval"), of("geneval.tasks")), (0.75, 0.5));
        assert_eq!((of("geneval.counting"), of("geneval.position")), (1.0, 0.0));
        assert!(!found.contains_key("geneval.colors"), "no prompt asks for it");
        assert_eq!(means(&columns, &[], 1).len(), 1);
    }

    #[test]
    fn mean_and_its_error() {
        let m = Mean::of(&[1.0, 2.0, 3.0, 4.0], 1);
        assert!((m.mean - 2.5).abs() < 1e-12);
        assert!((m.error - (5.0_f64 / 3.0 / 4.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn images_of_one_prompt_count_as_one() {
        // Two prompts, whose means are 0.25 and 0.75: their variance is 1/8, and the mean's half of it.
        let columns = BTreeMap::from([("geneval".to_owned(), vec![0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0])]);
        let record = r#"{"text": "x", "geneval": {"tag": "colors", "include": [{"class": "dog", "count": 1}]}}"#;
        let records: Vec<Record> = (0..8).map(|_| serde_json::from_str(record).unwrap()).collect();
        let found = means(&columns, &tasks(&records), 4);
        for name in ["geneval", "geneval.colors", "geneval.tasks"] {
            let m = &found[name];
            assert!((m.mean - 0.5).abs() < 1e-12 && (m.error - 0.25).abs() < 1e-12, "{name}: {m:?}");
            assert_eq!((m.n, m.images), (2, Some(8)), "{name}");
        }
        // Copies of what one image of each prompt shows tell nothing more.
        let copies = Mean::of(&[1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0], 2);
        assert_eq!(copies.error, Mean::of(&[1.0, 2.0, 3.0, 4.0], 1).error);
        // What earlier versions wrote has no number of images.
        let read: Mean = serde_json::from_str(r#"{"mean": 0.5, "error": 0.1, "n": 4}"#).unwrap();
        assert_eq!((read.images, read.images()), (None, 4));
    }

    #[test]
    fn a_score_that_is_not_finite_names_image_and_prompt() {
        let mut scores = vec![Score::new(0.5, [("sharp", 1.0)]); 3];
        let of = |scores: &[Score]| whole("looks", scores, |i| ["a", "b", "c"][i]).map_err(|e| e.to_string());
        assert!(of(&scores).is_ok());
        scores[2].parts.insert("sharp".to_owned(), f64::NAN);
        assert!(of(&scores).unwrap_err().contains("`sharp` of `looks` gave image 2, of the prompt \"c\", NaN"));
        scores[1].value = f64::INFINITY;
        assert!(of(&scores).unwrap_err().contains("`looks` gave image 1, of the prompt \"b\", inf"));
    }

    #[test]
    fn what_is_held_out_is_a_mean_over_all_sets() {
        let set =
            |mean, error, n| BTreeMap::from([("held_out.clipscore".to_owned(), Mean { mean, error, n, images: None })]);
        let scores =
            Scores { sets: BTreeMap::from([("a".into(), set(1.0, 0.3, 10)), ("b".into(), set(4.0, 0.2, 20))]) };
        let found = scores.mean("held_out.clipscore").unwrap();
        // (10 + 80) / 30; the root of (3^2 + 4^2) over 30.
        assert!((found.mean - 3.0).abs() < 1e-12 && (found.error - 5.0 / 30.0).abs() < 1e-12 && found.n == 30);
    }

    #[test]
    fn a_column_comes_from_its_own_set_first() {
        let set = |v: f64| BTreeMap::from([("ocr".to_owned(), Mean { mean: v, error: 0.0, n: 1, images: None })]);
        let scores = Scores { sets: BTreeMap::from([("geneval".into(), set(0.1)), ("ocr".into(), set(0.9))]) };
        assert!((scores.mean("ocr").unwrap().mean - 0.9).abs() < 1e-12);
        assert!(scores.mean("looks").is_none());
    }
}
