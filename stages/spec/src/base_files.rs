//! Where a base lies: a folder in diffusers' layout, a single file under the original names with what it lacks beside it, or
//! the root of a download cache.

use crate::families;
use crate::family::Family;
pub use crate::family::{SINGLE_FILE, SingleFile};
use crate::weights;
use anyhow::{Context as _, Result, bail, ensure};
use opdflow_io::file;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A base that was found.
pub struct BaseFiles {
    /// The folder with the parts.
    pub folder: PathBuf,
    /// `model_index.json`, or what it would say of a model that is a single file.
    pub index: Value,
    /// A single file, which has what the folder's parts lack.
    pub single: Option<Box<dyn SingleFile>>,
    /// Whether the file is what was asked for: its parts go before those of the folder.
    pub named: bool,
}

impl BaseFiles {
    /// The base at `path`.
    ///
    /// # Errors
    /// Nothing there that is one; several files, of which one must be named.
    pub fn of(path: &Path) -> Result<BaseFiles> {
        if !path.is_dir() {
            file::regular(path).with_context(|| path.display().to_string())?;
            return BaseFiles::of_file(path);
        }
        let folder = snapshot(path)?;
        let listed = folder.join("model_index.json");
        if file::is_named(&listed) {
            let index = crate::config::read_json(&listed)?;
            return Ok(BaseFiles { folder, index, single: None, named: false });
        }
        match singles(&folder)? {
            (one, _) if one.len() == 1 => BaseFiles::of_file(&one[0]),
            (several, _) if several.len() > 1 => {
                let names: Vec<_> = several.iter().filter_map(|p| p.file_name()?.to_str()).collect();
                bail!(
                    "{}: no model_index.json, but several single files ({}): name one of them",
                    folder.display(),
                    names.join(", ")
                )
            }
            (_, other) => {
                let at = folder.display();
                let other = other.map(|e| format!("; {e}")).unwrap_or_default();
                bail!(
                    "{at}: no model_index.json here; expected a folder in diffusers' layout, or a single .safetensors file of {}{other}",
                    families::titles_of_single_files()
                )
            }
        }
    }

    fn of_file(path: &Path) -> Result<BaseFiles> {
        let found = families::single(path).with_context(|| format!("{} is a file", path.display()));
        let expected = format!(
            "expected a folder with model_index.json, or a single .safetensors file in the original names of {}",
            families::titles_of_single_files()
        );
        let Some(single) = found.with_context(|| expected.clone())? else {
            let shapes = weights::shapes(path)?;
            let of = shapes.keys().map(|name| families::of_layer(name)).find(|of| !of.is_empty()).unwrap_or_default();
            if !of.is_empty() && of.iter().all(|family| !family.single_files()) {
                let (at, title) = (path.display(), families::either(&of));
                bail!(
                    "{at} is a single file of {title}, and {title} is read from a folder in diffusers' layout, with \
                     model_index.json: name that folder"
                );
            }
            bail!("{} is a file that holds no network of a known family; {expected}", path.display());
        };
        let folder = match path.parent() {
            Some(p) if !p.as_os_str().is_empty() => p.to_owned(),
            _ => PathBuf::from("."),
        };
        let listed = folder.join("model_index.json");
        let index = if file::is_named(&listed) { crate::config::read_json(&listed)? } else { single.family().index() };
        Ok(BaseFiles { folder, index, single: Some(single), named: true })
    }

    /// The family that `model_index.json` names.
    ///
    /// # Errors
    /// It is none that is known.
    pub fn family(&self) -> Result<&'static dyn Family> {
        families::of_index(&self.index, &self.folder.join("model_index.json").display().to_string())
    }

    /// Looks for a single file in the folder, for parts that have no weights of their own.
    ///
    /// # Errors
    /// There are several.
    pub fn look_for_single(&mut self) -> Result<()> {
        if self.single.is_some() {
            return Ok(());
        }
        let (mut found, _) = singles(&self.folder)?;
        ensure!(
            found.len() < 2,
            "{}: several single files here; name the one that is meant as the base",
            self.folder.display()
        );
        if let Some(path) = found.pop() {
            self.single = families::single(&path)?;
        }
        Ok(())
    }
}

/// The single files in a folder, sorted, and what else there is that looks like weights.
fn singles(folder: &Path) -> Result<(Vec<PathBuf>, Option<String>)> {
    let (mut found, mut other) = (Vec::new(), None);
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| !p.is_dir()).collect();
    paths.sort();
    for path in paths {
        match path.extension().and_then(|e| e.to_str()) {
            Some("safetensors") => match families::single(&path) {
                Ok(Some(_)) => found.push(path),
                Ok(None) => {}
                Err(e) => other = Some(format!("{e:#}")),
            },
            Some("gguf" | "ckpt" | "bin" | "pt" | "pth") => other = Some(weights::pickled(&path)),
            _ => {}
        }
    }
    Ok((found, other))
}

/// The folder itself, or the one snapshot of a model that a download cache of Hugging Face's has.
fn snapshot(path: &Path) -> Result<PathBuf> {
    let snapshots = path.join("snapshots");
    if file::is_named(&path.join("model_index.json")) || !snapshots.is_dir() {
        return Ok(path.to_owned());
    }
    if let Ok(main) = file::read_text(&path.join("refs/main"), file::DESCRIPTION) {
        let at = snapshots.join(main.trim());
        if at.is_dir() {
            return Ok(at);
        }
    }
    let entries = std::fs::read_dir(&snapshots).with_context(|| format!("cannot read {}", snapshots.display()))?;
    let all: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
    match &all[..] {
        [one] => Ok(one.clone()),
        [] => bail!("{}: a download cache without a snapshot: fetch the model again", path.display()),
        _ => {
            bail!("{}: a download cache with several snapshots: name one of {}/*", path.display(), snapshots.display())
        }
    }
}
