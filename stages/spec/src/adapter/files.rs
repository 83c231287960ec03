//! Which files an adapter consists of. No tensor is read, so that a plan can ask.

use crate::weights;
use anyhow::{Result, bail, ensure};
use opdflow_io::file;
use std::path::{Path, PathBuf};

/// The name that diffusers gives to a single file.
pub const SINGLE: &str = "pytorch_lora_weights.safetensors";
/// peft's files.
const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// The files of one adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// A safetensors file.
    pub weights: PathBuf,
    /// peft's configuration, if there is one.
    pub config: Option<PathBuf>,
}

impl Files {
    /// The adapter at `path`: a safetensors file, a peft folder, or a folder with one safetensors file in it.
    ///
    /// # Errors
    /// Nothing there that is an adapter; more than one.
    pub fn of(path: &Path) -> Result<Files> {
        let at = path.display();
        if !path.is_dir() {
            ensure!(file::is_named(path), "{at}: there is no such file or folder");
            // A peft folder's file, given by itself: the scale is in the configuration beside it.
            let beside = path.with_file_name(CONFIG);
            let peft = path.file_name().is_some_and(|n| n == WEIGHTS) && file::is_named(&beside);
            return Ok(Files { weights: path.to_owned(), config: peft.then_some(beside) });
        }
        let (config, peft, single) = (path.join(CONFIG), path.join(WEIGHTS), path.join(SINGLE));
        if file::is_named(&config) {
            if !file::is_named(&peft) {
                if let Some(pickle) = named(path, |n| n == "adapter_model.bin" || n == "adapter_model.pt").first() {
                    bail!(weights::pickled(&path.join(pickle)));
                }
                bail!("{}: this file is missing beside {CONFIG}", peft.display());
            }
            return Ok(Files { weights: peft, config: Some(config) });
        }
        if file::is_named(&single) {
            return Ok(Files { weights: single, config: None });
        }
        ensure!(!file::is_named(&peft), "{}: this file, which says the adapter's scale, is missing", config.display());
        let there = named(path, |n| n.ends_with(".safetensors"));
        match &there[..] {
            [one] => Ok(Files { weights: path.join(one), config: None }),
            [] => {
                let pickle = |n: &str| [".bin", ".pt", ".pth", ".ckpt"].iter().any(|e| n.ends_with(e));
                if let Some(pickle) = named(path, pickle).first() {
                    bail!(weights::pickled(&path.join(pickle)));
                }
                let below = named(path, |n| path.join(n).join(CONFIG).is_file());
                if let Some(below) = below.first() {
                    bail!(
                        "{at}: no adapter here, but there is one in {}: name that folder",
                        path.join(below).display()
                    );
                }
                bail!("{at}: no adapter here; expected {CONFIG} with {WEIGHTS}, or one .safetensors file")
            }
            more => bail!("{at}: holds several safetensors files ({}): name the one that is meant", more.join(", ")),
        }
    }
}

/// The names in a folder that `wanted` accepts, sorted.
fn named(folder: &Path, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|e| e.file_name().into_string().ok()).filter(|n| wanted(n)).collect();
    names.sort();
    names
}
