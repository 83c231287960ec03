//! What can be said of an adapter's files before a tensor of them is read. docs/how-to/adapters.md has the table of forms and
//! readers.

pub mod config;
mod files;
pub mod names;

pub use crate::linears::Naming;
pub use files::{Files, SINGLE};

use crate::linears::LinearShape;
use crate::weights::{header, shapes};
use anyhow::{Context as _, Result, bail, ensure};
use config::PeftConfig;
use names::Half;
use opdflow_io::file;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// The key of diffusers' single files under which peft's configuration lies in the header.
pub const PACKED: &str = "lora_adapter_metadata";

/// What can be said against an adapter by its header and configuration, before there is a model. No tensor is read.
///
/// # Errors
/// What is no plain LoRA, as far as it shows. The message names the tensor and the way out.
pub fn inspect(path: &Path) -> Result<Files> {
    let files = Files::of(path)?;
    let name = files.weights.display();
    if let Some(config) = &files.config {
        let at = || config.display().to_string();
        PeftConfig::parse(&file::read_text(config, file::DESCRIPTION).with_context(at)?).with_context(at)?;
    }
    let (keys, meta) = header(&files.weights)?;
    if files.config.is_none() {
        packed(&meta, &name.to_string())?;
    }
    if let Some(key) = keys.iter().find(|k| names::apart(k).is_none()) {
        bail!("{name}: {}", names::foreign(key));
    }
    let own = |k: &String| names::apart(k).is_some_and(|n| n.half != Half::Alpha && !names::of_text_encoder(n.stem));
    ensure!(keys.iter().any(own), "{name}: {}", nothing(!keys.is_empty()));
    Ok(files)
}

/// The layers that a peft folder's tensors are for, by their shapes.
///
/// # Errors
/// A tensor that is no half of a pair, or has not two dimensions; half a pair.
pub fn linears_of(path: &Path) -> Result<Vec<LinearShape>> {
    let files = Files::of(path)?;
    let (mut sizes, name) = (BTreeMap::<String, [Option<i64>; 2]>::new(), files.weights.display());
    for (key, shape) in shapes(&files.weights)? {
        let apart = names::apart(&key).with_context(|| format!("{name}: {}", names::foreign(&key)))?;
        let module = apart.stem.strip_prefix("base_model.model.").unwrap_or(apart.stem).to_owned();
        match (apart.half, &shape[..]) {
            (Half::Down, [_, d_in]) => sizes.entry(module).or_default()[0] = Some(*d_in),
            (Half::Up, [d_out, _]) => sizes.entry(module).or_default()[1] = Some(*d_out),
            _ => bail!("{name}: `{key}` has shape {shape:?}, expected two dimensions"),
        }
    }
    let layer = |(name, sizes): (String, [Option<i64>; 2])| {
        let [Some(d_in), Some(d_out)] = sizes else {
            bail!("{}: `{name}` has one matrix of two", files.weights.display())
        };
        Ok(LinearShape { name, d_in, d_out })
    };
    sizes.into_iter().map(layer).collect()
}

/// What is said of a file without a LoRA of the network; `text`: whether it holds other tensors.
#[must_use]
pub fn nothing(text: bool) -> &'static str {
    if text {
        "holds no LoRA of the transformer; adapters of text encoders are not read"
    } else {
        "holds no LoRA tensors: the file is empty"
    }
}

/// The configuration in the header of a file at `file`, where diffusers has put one.
///
/// # Errors
/// It is no plain LoRA's.
pub fn packed(meta: &HashMap<String, String>, file: &str) -> Result<Option<PeftConfig>> {
    let Some(text) = meta.get(PACKED) else { return Ok(None) };
    PeftConfig::parse_packed(text).with_context(|| format!("{file}: `{PACKED}` in its header"))
}
