//! Curves as artefacts: a model's scores at steps of its training.

use crate::artefacts::json;
use crate::judging::score::Scores;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Scores at some steps, in their order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// At least one; the last is the end of the training.
    pub points: Vec<Point>,
}

/// One candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Rounds of its training.
    pub step: u64,
    /// Its scores.
    pub scores: Scores,
}

impl Curve {
    /// Reads a curve.
    ///
    /// # Errors
    /// The file is not one that [`Curve::write`] wrote.
    pub fn read(path: &Path) -> Result<Self> {
        json::read(path, "curve")
    }

    /// Writes it.
    ///
    /// # Errors
    /// The disk is full.
    pub fn write(&self, path: &Path) -> Result<()> {
        json::write(path, self)
    }
}
