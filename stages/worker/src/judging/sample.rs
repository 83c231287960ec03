//! What each image scored, a JSON line an image: the artefact `samples`.

use crate::judging::score::{Columns, Mean, Scores, means};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// One image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Which of its prompt's images it is, from 0 on, if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<usize>,
    /// By column.
    pub scores: BTreeMap<String, f64>,
    /// The set of prompts.
    pub set: String,
    /// GenEval's task, if the prompt has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The prompt.
    pub text: String,
}

impl Sample {
    /// As a line of the artefact, its end among it.
    ///
    /// # Errors
    /// It is no JSON: a bug.
    pub fn line(&self) -> Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }
}

/// The images of one model, set by set.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    sets: BTreeMap<String, Vec<Sample>>,
}

impl Samples {
    /// Of images in the order of the artefact.
    #[must_use]
    pub fn of(samples: impl IntoIterator<Item = Sample>) -> Self {
        let mut sets: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
        for sample in samples {
            sets.entry(sample.set.clone()).or_default().push(sample);
        }
        Self { sets }
    }

    /// Reads the artefact.
    ///
    /// # Errors
    /// The file is not one that `evaluate` wrote.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let line = |line: &str| serde_json::from_str(line).context("a line of `samples` is not an image's scores");
        Ok(Self::of(text.lines().map(line).collect::<Result<Vec<Sample>>>()?))
    }

    /// Whether these are the images that `scores` is of: both have the same means.
    #[must_use]
    pub fn are_of(&self, scores: &Scores) -> bool {
        let alike = |(set, samples): (&String, &Vec<Sample>)| {
            let own = scored(samples, |i, column| samples[i].scores.get(column).copied());
            scores.sets.get(set).is_some_and(|theirs| {
                own.len() == theirs.len()
                    && own.iter().all(|(column, mean)| theirs.get(column).is_some_and(|of| near(mean.mean, of.mean)))
            })
        };
        self.sets.len() == scores.sets.len() && self.sets.iter().all(alike)
    }

    /// The scores of these images less those of `other`, image by image, with standard errors over prompts; nothing if they are not of the
    /// same prompts, as many of each.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Option<Scores> {
        let mut scores = Scores::default();
        for (set, own) in &self.sets {
            let theirs = other.sets.get(set)?;
            let alike = |(a, b): (&Sample, &Sample)| (&a.text, a.image, &a.task) == (&b.text, b.image, &b.task);
            if own.len() != theirs.len() || !own.iter().zip(theirs).all(alike) {
                return None;
            }
            let difference = |i: usize, column: &str| Some(own[i].scores.get(column)? - theirs[i].scores.get(column)?);
            scores.sets.insert(set.clone(), scored(own, difference));
        }
        (self.sets.len() == other.sets.len()).then_some(scores)
    }
}

/// The means of what `value` gives each of these images in each of their columns, in those that all have.
fn scored(samples: &[Sample], value: impl Fn(usize, &str) -> Option<f64>) -> BTreeMap<String, Mean> {
    let mut columns = Columns::new();
    for column in samples.first().into_iter().flat_map(|sample| sample.scores.keys()) {
        if let Some(values) = (0..samples.len()).map(|i| value(i, column)).collect() {
            columns.insert(column.clone(), values);
        }
    }
    let tasks: Vec<Option<&str>> = samples.iter().map(|sample| sample.task.as_deref()).collect();
    let each = 1 + samples.iter().filter_map(|sample| sample.image).max().unwrap_or(0);
    means(&columns, &tasks, each)
}

/// Equal but for what writing and reading a number may cost.
fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(1.0)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Images of one set, each with its prompt and its score of `ocr`.
    pub fn samples(set: &str, scores: &[(&str, f64)]) -> Samples {
        Samples::of(scores.iter().map(|(text, score)| Sample {
            image: None,
            scores: BTreeMap::from([("ocr".to_owned(), *score)]),
            set: set.to_owned(),
            task: None,
            text: (*text).to_owned(),
        }))
    }

    #[test]
    fn differences_are_prompt_by_prompt() {
        // Prompts differ by far more than models do: .1, .2 and .3 less, whatever the prompt is worth.
        let better = samples("ocr", &[("a", 0.2), ("b", 0.9), ("c", 0.6)]);
        let worse = samples("ocr", &[("a", 0.1), ("b", 0.7), ("c", 0.3)]);
        let found = better.minus(&worse).unwrap().mean("ocr").unwrap();
        // A standard deviation of .1, over the root of 3.
        assert!((found.mean - 0.2).abs() < 1e-12 && (found.error - 0.1 / 3f64.sqrt()).abs() < 1e-12, "{found:?}");
        assert_eq!(found.n, 3);
    }

    #[test]
    fn images_of_one_prompt_and_geneval_s_tasks_are_those_of_the_scores() {
        let sample = |image, task: &str, value| Sample {
            image: Some(image),
            scores: BTreeMap::from([("geneval".to_owned(), value)]),
            set: "geneval".to_owned(),
            task: Some(task.to_owned()),
            text: task.to_owned(),
        };
        let of = |values: [f64; 4]| {
            let [a, b, c, d] = values;
            let samples = [(0, "colors", a), (1, "colors", b), (0, "position", c), (1, "position", d)];
            Samples::of(samples.map(|(image, task, value)| sample(image, task, value)))
        };
        let found = of([1.0, 1.0, 1.0, 0.0]).minus(&of([0.0, 1.0, 0.0, 0.0])).unwrap();
        for (column, mean, n) in
            [("geneval", 0.5, 2), ("geneval.colors", 0.5, 1), ("geneval.position", 0.5, 1), ("geneval.tasks", 0.5, 2)]
        {
            let found = found.mean(column).unwrap();
            assert!((found.mean - mean).abs() < 1e-12 && found.n == n, "{column}: {found:?}");
        }
    }

    #[test]
    fn other_prompts_are_no_pairs() {
        let own = samples("ocr", &[("a", 0.2), ("b", 0.9)]);
        for other in [
            samples("ocr", &[("a", 0.2), ("c", 0.9)]),
            samples("ocr", &[("a", 0.2)]),
            samples("geneval", &[("a", 0.2), ("b", 0.9)]),
            Samples::default(),
        ] {
            assert!(own.minus(&other).is_none() && other.minus(&own).is_none());
        }
    }

    #[test]
    fn images_are_known_by_their_means() {
        let own = samples("ocr", &[("a", 0.2), ("b", 0.9)]);
        let scores = samples("ocr", &[("a", 0.0), ("b", 0.0)]).minus(&own).unwrap();
        let negative = samples("ocr", &[("a", -0.2), ("b", -0.9)]);
        assert!(negative.are_of(&scores) && !own.are_of(&scores));
        assert!(
            !samples("geneval", &[("a", -0.2), ("b", -0.9)]).are_of(&scores) && !Samples::default().are_of(&scores)
        );
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let own = samples("ocr", &[("a \"b\"\n", 0.1)]);
        let line = own.sets["ocr"][0].line().unwrap();
        assert_eq!(line, "{\"scores\":{\"ocr\":0.1},\"set\":\"ocr\",\"text\":\"a \\\"b\\\"\\n\"}\n");
        assert_eq!(serde_json::from_str::<Sample>(&line).unwrap(), own.sets["ocr"][0]);
    }
}
