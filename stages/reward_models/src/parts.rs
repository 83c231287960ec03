//! The parts of a reward model on disk.

use anyhow::{Context, Result, bail, ensure};
use opdflow_models::weights::Weights;
pub use opdflow_spec::reward_models::{CLIP, ModelPart};
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

/// The folder of a part below that of its reward model.
///
/// # Errors
/// It is not there, or empty.
pub fn folder(reward_model: &Path, part: &ModelPart) -> Result<PathBuf> {
    let at = reward_model.join(part.name);
    let filled = std::fs::read_dir(&at).is_ok_and(|mut files| files.next().is_some());
    ensure!(filled, "{}: the part `{}` is missing: {}", reward_model.display(), part.name, part.about);
    Ok(at)
}

/// The weights in a part's folder, as f32: its only safetensors file whatever its name, or else the set under one of the
/// names that transformers uses.
///
/// # Errors
/// There are none, or they cannot be read.
pub fn weights(folder: &Path, device: Device) -> Result<Weights> {
    let (found, pickles) = (with_ending(folder, &["safetensors"])?, with_ending(folder, &["pt", "pth", "bin"])?);
    match (&found[..], &pickles[..]) {
        ([only], _) => Weights::load(only, device, Kind::Float),
        ([], [pickle, ..]) => bail!(
            "{}: a pickle, which can run any code, is not read here; scripts/rewards_to_safetensors.py turns it into safetensors",
            pickle.display()
        ),
        _ => Weights::load(folder, device, Kind::Float),
    }
}

/// The files of a folder that end so, sorted.
fn with_ending(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().and_then(|e| e.to_str()).is_some_and(|e| endings.contains(&e)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: ModelPart = ModelPart { name: "head", about: "one safetensors file", weights: true, optional: false };

    #[test]
    fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = || folder(dir.path(), &HEAD).unwrap_err().to_string();
        assert!(missing().ends_with("the part `head` is missing: one safetensors file"), "{}", missing());
        std::fs::create_dir(dir.path().join("head")).unwrap();
        assert!(missing().contains("is missing"), "an empty folder is no part");
        let head = dir.path().join("head");
        std::fs::write(head.join("readme.md"), "").unwrap();
        assert_eq!(folder(dir.path(), &HEAD).unwrap(), head);
        let no = || format!("{:#}", weights(&head, Device::Cpu).err().unwrap());
        assert!(no().contains("no weights here"), "{}", no());
        std::fs::write(head.join("head.pth"), "").unwrap();
        assert!(no().contains("head.pth: a pickle") && no().contains("rewards_to_safetensors.py"), "{}", no());
        std::fs::write(head.join("head.safetensors"), "").unwrap();
        assert!(no().contains("not a readable safetensors file"), "{}", no());
    }
}
