//! Artefacts that are one value as JSON.

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// Reads a value. `what`: its name in the message, such as `scores`.
///
/// # Errors
/// The file holds none.
pub fn read<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| format!("{} holds no {what}", path.display()))
}

/// Writes a value.
///
/// # Errors
/// The disk is full.
pub fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    std::fs::write(path, serde_json::to_string_pretty(value)? + "\n").with_context(|| path.display().to_string())
}
