//! The numbers of a table, before anything is printed.

use super::budget::Budget;
use super::published::Comparison;
pub use crate::seeds::Cell;
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
    /// Gradients of the rows that are compared with each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
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

/// One model.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub title: String,
    /// Wall seconds of training, if it was trained.
    pub seconds: Option<f64>,
    /// CPU seconds of training, if they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Seconds in which training held a GPU, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_seconds: Option<f64>,
    /// Gradients of its training, each of one picture at one noise level.
    pub gradients: Option<u64>,
    pub cells: Vec<Option<Cell>>,
    /// Mean of the min-max normalised columns, 0 to 1.
    pub average: Option<f64>,
}

/// Fills in the averages: each of `columns` is mapped so that its lowest row is 0 and its highest 1 (0.5 where all are
/// equal), and the row's average is the mean of these. A row that lacks a column has none.
pub fn average(rows: &mut [Row], columns: &[usize]) {
    if columns.is_empty() {
        return;
    }
    let range = |c: usize| {
        let values = rows.iter().filter_map(|r| r.cells[c].map(|x| x.mean));
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
    };
    let ranges: Vec<(f64, f64)> = columns.iter().map(|&c| range(c)).collect();
    for row in rows {
        let normalised: Option<Vec<f64>> = columns
            .iter()
            .zip(&ranges)
            .map(|(&c, (low, high))| row.cells[c].map(|x| if high > low { (x.mean - low) / (high - low) } else { 0.5 }))
            .collect();
        row.average = normalised.map(|n| n.iter().sum::<f64>() / n.len() as f64);
    }
}

/// `(student - base) / (teacher - base)`; not a number where the teacher gained nothing.
#[must_use]
pub fn kept(base: f64, teacher: f64, student: f64) -> f64 {
    if teacher > base { (student - base) / (teacher - base) } else { f64::NAN }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn form() -> Form {
        let cell = |mean| Some(Cell { mean, error: 0.01, n: 100, seeds: None, interval: None });
        let row = |title: &str, seconds, cells| Row {
            title: title.to_owned(),
            seconds,
            cpu_seconds: None,
            gpu_seconds: None,
            gradients: None,
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
            budget: None,
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
