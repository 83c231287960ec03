//! Several seeds as one number: their mean, and its interval.

use crate::judging::score::{Mean, Scores};
use anyhow::Result;
use opdflow_api::port::meant;
use opdflow_api::{Fault, StageContext};
use serde::Serialize;

/// One number.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cell {
    pub mean: f64,
    /// Standard error of the mean: over prompts, or over seeds if there are several.
    pub error: f64,
    /// Prompts.
    pub n: usize,
    /// How many seeds, if several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seeds: Option<usize>,
    /// Half of the 95 % interval of the mean over seeds (Student's t), if there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<f64>,
}

impl Cell {
    /// Half of the mean's 95 % interval: over seeds, or of one seed over prompts. Of one prompt there is none.
    #[must_use]
    pub fn half(&self) -> Option<f64> {
        self.interval.or_else(|| (self.n > 1).then_some(NORMAL * self.error))
    }
}

/// The inputs below `port` that `name` stands for, as [`meant`] says. `asks`: who names it, for the message.
///
/// # Errors
/// There is none.
pub fn connected(context: &StageContext, port: &str, name: &str, asks: &str) -> Result<Vec<String>> {
    let members = context.members(port);
    let found = meant(&members, name);
    if found.is_empty() {
        let names: Vec<&str> = members.iter().map(|m| m.name.as_str()).collect();
        let fault = Fault::user(format!("{asks} `{name}`, but nothing is connected as `{port}.{name}`"));
        return Err(fault.help(format!("connected are {}", names.join(", "))).into());
    }
    Ok(found.into_iter().map(|n| format!("{port}.{n}")).collect())
}

/// A column of one model, over its seeds; none where no scores have it.
pub fn column<'a>(scores: impl IntoIterator<Item = &'a Scores>, column: &str) -> Option<Cell> {
    cell(&scores.into_iter().filter_map(|s| s.mean(column)).collect::<Vec<_>>())
}

/// One mean of several. Of one seed it is that mean with its standard error over prompts; of several, the mean of their
/// means, with its standard error over the seeds. `None` if there is none.
fn cell(means: &[Mean]) -> Option<Cell> {
    let first = means.first()?;
    if means.len() == 1 {
        return Some(Cell { mean: first.mean, error: first.error, n: first.n, seeds: None, interval: None });
    }
    let values: Vec<f64> = means.iter().map(|m| m.mean).collect();
    let (mean, error) = mean_and_error(&values);
    let interval = Some(student(values.len() - 1) * error);
    Some(Cell { mean, error, n: first.n, seeds: Some(values.len()), interval })
}

/// The mean of two or more values, and its standard error.
fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, (variance / count).sqrt())
}

/// The mean of a number over one or more seeds and, of several, half of its 95 % interval.
pub fn interval(values: &[f64]) -> (f64, Option<f64>) {
    if let [one] = values {
        return (*one, None);
    }
    let (mean, error) = mean_and_error(values);
    (mean, Some(student(values.len() - 1) * error))
}

/// The 97.5 % point of Student's t: half of a 95 % interval, in standard errors. `freedom` is at least 1.
pub fn student(freedom: usize) -> f64 {
    const FEW: [f64; 10] =
        [12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157, 2.228139];
    if let Some(point) = FEW.get(freedom.saturating_sub(1)) {
        return *point;
    }
    // Cornish and Fisher's expansion about the normal point.
    let (z, v) = (NORMAL, freedom as f64);
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    z + first / v + second / (v * v) + third / v.powi(3)
}

/// The same of a normal distribution.
pub const NORMAL: f64 = 1.959964;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn students_points_are_those_of_the_tables() {
        for (freedom, point) in
            [(1, 12.706), (2, 4.303), (4, 2.776), (10, 2.228), (11, 2.201), (20, 2.086), (120, 1.980)]
        {
            assert!((student(freedom) - point).abs() < 6e-4, "{freedom}: {}", student(freedom));
        }
    }

    #[test]
    fn an_interval_by_hand() {
        let of = |mean| Mean { mean, error: 0.02, n: 256, images: None };
        let (a, b, c) = (of(0.5), of(0.6), of(0.7));
        let one = cell(std::slice::from_ref(&a)).unwrap();
        assert_eq!((one.mean, one.error, one.interval), (0.5, 0.02, None));
        // Standard deviation 0.1, over the root of 3, times 4.303.
        let all = cell(&[a, b, c]).unwrap();
        assert!((all.mean - 0.6).abs() < 1e-12 && (all.interval.unwrap() - 0.248_414).abs() < 1e-5, "{all:?}");
        assert_eq!(all.seeds, Some(3));
        assert!(cell(&[]).is_none());
    }
}
