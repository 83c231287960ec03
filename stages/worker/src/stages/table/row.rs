//! A row of a table: one model with its numbers.

use crate::report::seeds::Cell;
use serde::Serialize;

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
    /// Gradients of its training, each of one image at one noise level.
    pub gradients: Option<u64>,
    /// Floating-point operations of its training, where the table is asked for them and they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations: Option<f64>,
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
