//! `reward_model` at work: a network that judges images, of the user's own files.

use crate::artefacts::outside;
use crate::judging::reward_set;
use anyhow::{Context as _, Result};
use opdflow_api::cache::{Digest, TreeEntry};
use opdflow_api::{Fault, StageContext};
use opdflow_kinds::model::bundle::PartFiles;
use opdflow_kinds::model::folder::listing_digest;
use opdflow_kinds::model::reward_model_folder::Files;
use opdflow_kinds::stages::reward_model::{OCR, Params};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::Device;

/// Places the parts of a network that judges, and opens it once to see that it is whole.
///
/// # Errors
/// A fault says whose it is; anything else is a bug.
pub fn run(params: Params, context: &mut StageContext) -> Result<()> {
    if params.bundled() {
        let folder = context.output("reward_model").join(&params.reward).join("detector");
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        return std::fs::write(folder.join(reward_set::BUNDLED.0), reward_set::BUNDLED.1)
            .context("writing the reward model");
    }
    let folder = context.job().folder.clone();
    let unpacked = tempfile::tempdir().context("a folder for the parts of the program")?;
    let files = gathered(&params, &folder, unpacked.path())?;
    let made = tempfile::tempdir().context("a folder for what goes with the files")?;
    let reader = reader(&params, made.path())?;
    try_out(&params.reward, &files, reader.as_deref())?;
    let mut listed: Vec<(String, PathBuf)> = files
        .iter()
        .flat_map(|(part, files)| {
            let root = Path::new(&params.reward).join(part);
            files.iter().map(move |(at, path)| (root.join(at).to_string_lossy().into_owned(), path.clone()))
        })
        .collect();
    listed.extend(reader.map(|path| (format!("{}/{}", params.reward, reward_set::READER), path)));
    let stored = context.adopt("reward_model", &listed)?;
    let theirs = params.parts(&folder);
    for part in theirs.keys() {
        let found = part_digest(&stored, &format!("{}/{part}/", params.reward));
        outside::expect(context, part, found, &folder.join(&params.files[*part]))?;
    }
    Ok(())
}

/// The files of all parts: those of the user, with paths that start at `folder`, and those of the program, unpacked below `unpacked`.
///
/// # Errors
/// A file is missing: the user's fault.
pub fn gathered(params: &Params, folder: &Path, unpacked: &Path) -> Result<BTreeMap<String, Files>> {
    let mut files: BTreeMap<String, Files> = BTreeMap::new();
    for (part, own) in params.bundled_parts() {
        files.insert(part.to_owned(), unpack(&own, &unpacked.join(part))?);
    }
    for (part, found) in params.parts(folder) {
        files.insert(part.to_owned(), found.map_err(|missing| Fault::user(missing.join("\n")))?);
    }
    Ok(files)
}

/// The file beside the parts of `ocr` that says how text is found and read.
fn reader(params: &Params, folder: &Path) -> Result<Option<PathBuf>> {
    if params.reward != OCR {
        return Ok(None);
    }
    let path = folder.join(reward_set::READER);
    let text = serde_json::to_string_pretty(&params.reader.clone().unwrap_or_default())?;
    std::fs::write(&path, text + "\n").with_context(|| path.display().to_string())?;
    Ok(Some(path))
}

/// Writes the files of a part that the program has below `to`.
fn unpack(files: &PartFiles, to: &Path) -> Result<Files> {
    let mut listed = Files::new();
    for (name, bytes) in files {
        let path = to.join(name);
        let parent = path.parent().unwrap_or(to);
        std::fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        std::fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        listed.push((PathBuf::from(name), path));
    }
    Ok(listed)
}

/// Digest of a part as it lies in the store, the same as that of its files where they lay before.
fn part_digest(stored: &[TreeEntry], root: &str) -> Digest {
    listing_digest(stored.iter().filter_map(|e| Some((Path::new(e.path.strip_prefix(root)?), e.digest))))
}

/// Opens the reward model where its files lie, so that a fault is found before anything is kept.
fn try_out(name: &str, files: &BTreeMap<String, Files>, reader: Option<&Path>) -> Result<()> {
    reward_set::open(name, lay_out(files, reader)?.path(), Device::Cpu).map(drop)
}

/// A folder of the parts as a reward model is opened from: links to where the files lie.
///
/// # Errors
/// The disk, or a file that is gone.
pub fn lay_out(files: &BTreeMap<String, Files>, reader: Option<&Path>) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir().context("a folder to lay the parts out in")?;
    for (part, files) in files {
        for (at, path) in files {
            let link = folder.path().join(part).join(at);
            let parent = link.parent().unwrap_or(folder.path());
            std::fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
            let path = path.canonicalize().with_context(|| path.display().to_string())?;
            std::os::unix::fs::symlink(&path, &link).with_context(|| link.display().to_string())?;
        }
    }
    if let Some(reader) = reader {
        std::fs::copy(reader, folder.path().join(reward_set::READER)).with_context(|| reader.display().to_string())?;
    }
    Ok(folder)
}
