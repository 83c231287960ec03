//! The files of one part of a reward model: a folder as published, of which only what would be loaded is taken, or one
//! file.

use crate::model::model_folder::{bytes_of, parameters, relative};
use opdflow_io::file;
use opdflow_spec::weights::shard_paths;
use std::path::{Path, PathBuf};

/// What is read of a folder beside its weights.
const SMALL: [&str; 14] = [
    "config.json",
    "open_clip_config.json",
    "med_config.json",
    "vit_config.json",
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

/// Files: each one's path in the part, and where it lies.
pub type Files = Vec<(PathBuf, PathBuf)>;

/// The files of a part at `path`: each one's path in the part, and where it lies. Sorted. Weights are among them if
/// `weighty`.
///
/// # Errors
/// Everything that is missing or plainly not what it should be, a line each.
pub fn files(path: &Path, weighty: bool) -> Result<Files, Vec<String>> {
    if !path.is_dir() && file::is_named(path) {
        bytes_of(path).map_err(|e| vec![e])?;
        if is_pickle(path) {
            return Err(vec![pickle(path)]);
        }
        let name = path.file_name().map(PathBuf::from).unwrap_or_default();
        return Ok(vec![(name, path.to_owned())]);
    }
    if !path.is_dir() {
        return Err(vec![format!("{}: there is no such file or folder", path.display())]);
    }
    let mut found: Vec<PathBuf> = SMALL.iter().map(|name| path.join(name)).filter(|p| file::is_named(p)).collect();
    let unfit: Vec<String> = found.iter().filter_map(|file| bytes_of(file).err()).collect();
    if !unfit.is_empty() {
        return Err(unfit);
    }
    if weighty {
        found.extend(weights(path)?);
    }
    found.sort();
    if found.is_empty() {
        return Err(vec![format!("{}: nothing in this folder would be read", path.display())]);
    }
    Ok(found.into_iter().filter_map(|file| Some((relative(&file, path)?, file))).collect())
}

/// The weights in a folder: its only safetensors file whatever its name, else the set under one of the names that
/// transformers uses, with the list of its files.
fn weights(folder: &Path) -> Result<Vec<PathBuf>, Vec<String>> {
    let entries = std::fs::read_dir(folder).map_err(|e| vec![format!("{}: {e}", folder.display())])?;
    let mut all: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    all.sort();
    let is_list = |path: &Path| path.to_string_lossy().ends_with(".safetensors.index.json");
    let single = all.iter().filter(|p| p.extension().is_some_and(|e| e == "safetensors")).collect::<Vec<_>>();
    let shards = match (&single[..], all.iter().find(|p| is_pickle(p))) {
        ([only], _) if !all.iter().any(|p| is_list(p)) => vec![(*only).clone()],
        ([], Some(found)) => return Err(vec![pickle(found)]),
        _ => shard_paths(folder, None).map_err(|e| vec![format!("{e:#}")])?,
    };
    let faults: Vec<String> = shards.iter().filter_map(|s| bytes_of(s).err()).collect();
    if !faults.is_empty() {
        return Err(faults);
    }
    let several = shards.len() > 1;
    Ok(all.into_iter().filter(|p| several && is_list(p)).chain(shards).collect())
}

fn is_pickle(path: &Path) -> bool {
    path.extension().is_some_and(|e| ["pt", "pth", "bin"].iter().any(|p| e == *p))
}

fn pickle(path: &Path) -> String {
    let what =
        "a pickle, which can run any code, is not read; scripts/rewards_to_safetensors.py turns it into safetensors";
    format!("{}: {what}", path.display())
}

/// Bytes that the weights among these files take in f32, by their headers.
#[must_use]
pub fn bytes(files: &[(PathBuf, PathBuf)]) -> Option<u64> {
    let weights = files.iter().filter(|(at, _)| at.extension().is_some_and(|e| e == "safetensors"));
    weights.map(|(_, path)| Some(4 * parameters(Box::new(file::open(path).ok()?))?)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(folder: &Path, weighty: bool) -> Vec<String> {
        files(folder, weighty).unwrap().into_iter().map(|(at, _)| at.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn only_what_would_be_read_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str| std::fs::write(dir.path().join(name), "x").unwrap();
        assert!(files(dir.path(), false).unwrap_err()[0].contains("nothing in this folder"));
        ["README.md", "vocab.json", "config.json"].into_iter().for_each(put);
        assert_eq!(named(dir.path(), false), ["config.json", "vocab.json"]);
        put("pytorch_model.bin");
        assert!(files(dir.path(), true).unwrap_err()[0].contains("rewards_to_safetensors.py"));
        put("any.safetensors");
        assert_eq!(named(dir.path(), true), ["any.safetensors", "config.json", "vocab.json"]);
        assert_eq!(named(dir.path(), false), ["config.json", "vocab.json"], "a tokenizer is read without weights");
        // Of several, the set under a known name; a list counts with its files.
        put("model.safetensors");
        assert_eq!(named(dir.path(), true), ["config.json", "model.safetensors", "vocab.json"]);
        let list = r#"{"weight_map": {"a": "any.safetensors", "b": "two.safetensors"}}"#;
        std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
        std::fs::write(dir.path().join("model.safetensors.index.json"), list).unwrap();
        assert!(files(dir.path(), true).unwrap_err()[0].contains("two.safetensors"));
        put("two.safetensors");
        let all = ["any.safetensors", "config.json", "model.safetensors.index.json", "two.safetensors", "vocab.json"];
        assert_eq!(named(dir.path(), true), all);
    }

    #[test]
    fn one_file_is_a_part_too() {
        let dir = tempfile::tempdir().unwrap();
        let (good, bad) = (dir.path().join("head.safetensors"), dir.path().join("head.pth"));
        for path in [&good, &bad] {
            std::fs::write(path, "x").unwrap();
        }
        assert_eq!(files(&good, true).unwrap(), [(PathBuf::from("head.safetensors"), good.clone())]);
        assert!(files(&bad, true).unwrap_err()[0].contains("head.pth: a pickle"));
        assert!(files(&dir.path().join("none"), true).unwrap_err()[0].contains("no such file or folder"));
    }
}
