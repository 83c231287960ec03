//! Reading a component's `config.json`.
//!
//! Unknown keys are ignored, as checkpoints carry many that say nothing about the network. A known key whose value this
//! crate does not implement is an error, never a silent fall-back.

use anyhow::{Context, Result};
use opdflow_io::file;
use serde::de::DeserializeOwned;
use std::path::Path;

/// Reads `path` as JSON into `T`; the error names the file and, where serde knows it, the key and the line.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = file::read_text(path, file::DESCRIPTION).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} does not hold what is expected", path.display()))
}

/// Fails at the first of these sizes that is not at least 1.
///
/// # Errors
/// That size.
pub fn positive(what: &str, sizes: &[(&str, i64)]) -> Result<()> {
    sizes.iter().try_for_each(|(key, value)| supported(what, key, value, *value > 0, "1 or more"))
}

/// Fails with one sentence when a known key holds a value outside of what is implemented.
pub fn supported(what: &str, key: &str, found: impl std::fmt::Display, ok: bool, wanted: &str) -> Result<()> {
    anyhow::ensure!(ok, "{what}: `{key}` is {found}, supported: {wanted}");
    Ok(())
}
