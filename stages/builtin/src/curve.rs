//! Curves as artefacts: a model's scores at steps of its training.

use crate::score::Scores;
use anyhow::{Context as _, Result};
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
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| format!("{} holds no curve", path.display()))
    }

    /// Writes it.
    ///
    /// # Errors
    /// The disk is full.
    pub fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, serde_json::to_string_pretty(self)? + "\n").with_context(|| path.display().to_string())
    }
}
