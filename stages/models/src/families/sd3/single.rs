//! The tensors of a single file under the original names.

use super::original::{FilePart, OneFile};
use crate::base_files::SingleFile as _;
use crate::weights::Weights;
use anyhow::Result;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// A part's tensors by diffusers' names, for a model of this configuration.
///
/// # Errors
/// The part is not there; a number format that is not read.
pub(super) fn weights(file: &OneFile, part: FilePart, config: &Value, device: Device, kind: Kind) -> Result<Weights> {
    let layout = file.layout(part, config)?;
    file.check_part(part)?;
    let weights = Weights::load(file.path(), device, kind)?;
    if part == FilePart::ClipL {
        // Stable Diffusion 3 takes CLIP-L's pooled output as it is, whatever projection a file has; so does diffusers.
        let width = config.get("hidden_size").and_then(Value::as_i64).unwrap_or_default();
        weights.put("text_projection.weight", Tensor::eye(width, (Kind::Float, Device::Cpu)));
    }
    Ok(weights.with_layout(layout))
}
