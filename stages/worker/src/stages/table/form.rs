//! The numbers of a table, before anything is printed.

use super::budget::Budget;
use super::differences::Differences;
use super::multiples::Multiples;
use super::published::Comparison;
use super::row::Row;
use serde::Serialize;
use std::collections::BTreeMap;

/// A whole table.
#[derive(Clone, Debug, Serialize)]
pub struct Form {
    pub title: String,
    pub columns: Vec<String>,
    /// Columns that enter the average.
    pub averaged: Vec<String>,
    pub rows: Vec<Row>,
    /// Share of a teacher's gain over the base that the student keeps, by column.
    pub kept: BTreeMap<String, f64>,
    /// The same seed by seed, where student and teacher have the same several.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub kept_by_seed: BTreeMap<String, Vec<f64>>,
    /// Gradients of the rows that are compared with each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Operations of the rows in terms of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiples: Option<Multiples>,
    /// By how much one row differs from the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub differences: Option<Differences>,
    /// Published numbers of the same rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<Comparison>,
}

impl Form {
    /// The largest number of seeds that a cell stands for.
    #[must_use]
    pub fn seeds(&self) -> usize {
        self.rows.iter().flat_map(|r| r.cells.iter().flatten()).filter_map(|c| c.seeds).max().unwrap_or(1)
    }
}

/// `(student - base) / (teacher - base)`; not a number where the teacher gained nothing.
#[must_use]
pub fn kept(base: f64, teacher: f64, student: f64) -> f64 {
    if teacher > base { (student - base) / (teacher - base) } else { f64::NAN }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::row::average;
    use super::*;
    use crate::report::seeds::Cell;

    pub fn form() -> Form {
        let cell = |mean| Some(Cell { mean, error: 0.01, n: 100, seeds: None, interval: None });
        let row = |title: &str, seconds, cells| Row {
            title: title.to_owned(),
            seconds,
            cpu_seconds: None,
            gpu_seconds: None,
            gradients: None,
            operations: None,
            cells,
            average: None,
        };
        let mut rows = vec![
            row("base", None, vec![cell(0.4), cell(0.5)]),
            row("ocr_teacher", Some(61.4), vec![cell(0.4), cell(0.9)]),
            row("student", Some(100.0), vec![cell(0.6), cell(0.8)]),
        ];
        average(&mut rows, &[0, 1]);
        Form {
            title: "A title".into(),
            columns: vec!["geneval".into(), "ocr".into()],
            averaged: vec!["geneval".into(), "ocr".into()],
            rows,
            kept: BTreeMap::from([("ocr".to_owned(), kept(0.5, 0.9, 0.8))]),
            kept_by_seed: BTreeMap::new(),
            budget: None,
            multiples: None,
            differences: None,
            published: None,
        }
    }

    #[test]
    fn averages_by_hand() {
        let got: Vec<f64> = form().rows.iter().map(|r| r.average.unwrap()).collect();
        for (a, e) in got.iter().zip([0.0, 0.5, 0.875]) {
            assert!((a - e).abs() < 1e-12, "{got:?}");
        }
        assert!((form().kept["ocr"] - 0.75).abs() < 1e-12);
        assert!(kept(0.5, 0.4, 0.6).is_nan());
    }
}
