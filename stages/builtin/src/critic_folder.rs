//! The files of one part of a critic: a folder as published, of which only what would be loaded is taken, or one file.

use crate::model_folder::{bytes_of, parameters, relative};
use opdflow_flow::weights::shard_paths;
use std::path::{Path, PathBuf};

/// What is read of a folder beside its weights.
const SMALL: [&str; 11] = [
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
];

/// The files of a part: each one's path in the part, and where it lies. Sorted.
///
/// # Errors
/// Everything that is missing or plainly not what it should be, a line each.
pub fn files(part: &Path) -> Result<Vec<(PathBuf, PathBuf)>, Vec<String>> {
    if part.is_file() {
        bytes_of(part).map_err(|e| vec![e])?;
        let name = part.file_name().map(PathBuf::from).unwrap_or_default();
        return Ok(vec![(name, part.to_owned())]);
    }
    if !part.is_dir() {
        return Err(vec![format!("{}: there is no such file or folder", part.display())]);
    }
    let mut found: Vec<PathBuf> = SMALL.iter().map(|name| part.join(name)).filter(|p| p.is_file()).collect();
    found.extend(weights(part)?);
    found.sort();
    if found.is_empty() {
        return Err(vec![format!("{}: nothing in this folder would be read", part.display())]);
    }
    Ok(found.into_iter().filter_map(|path| Some((relative(&path, part)?, path))).collect())
}

/// The files of weights in a folder, and the list of several; none if it has none, as a tokenizer's.
fn weights(folder: &Path) -> Result<Vec<PathBuf>, Vec<String>> {
    let is = |path: &Path, end: &str| path.to_string_lossy().ends_with(end);
    let entries = std::fs::read_dir(folder).map_err(|e| vec![format!("{}: {e}", folder.display())])?;
    let names: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    if !names.iter().any(|p| is(p, ".safetensors") || is(p, ".safetensors.index.json")) {
        return Ok(Vec::new());
    }
    let shards = shard_paths(folder, None).map_err(|e| vec![format!("{e:#}")])?;
    let faults: Vec<String> = shards.iter().filter_map(|s| bytes_of(s).err()).collect();
    if !faults.is_empty() {
        return Err(faults);
    }
    let several = shards.len() > 1;
    let lists = names.into_iter().filter(|p| several && is(p, ".safetensors.index.json"));
    Ok(lists.chain(shards).collect())
}

/// Bytes that the weights among these files take in f32, by their headers.
#[must_use]
pub fn bytes(files: &[(PathBuf, PathBuf)]) -> Option<u64> {
    let weights = files.iter().filter(|(at, _)| at.extension().is_some_and(|e| e == "safetensors"));
    weights.map(|(_, path)| Some(4 * parameters(Box::new(std::fs::File::open(path).ok()?))?)).sum()
}
