//! GenEval on photographs: what it is made of, and what its detector can find.

pub mod detector;
mod names;

pub use names::geneval as name_of;

use super::reward_model::{CLIP, ModelPart, RewardModel};
use crate::config::read_json;
use anyhow::Result;
use detector::Mask2FormerConfig;
use std::path::Path;

/// The part `detector`.
pub const DETECTOR: ModelPart = ModelPart {
    name: "detector",
    about: "the folder facebook/mask2former-swin-small-coco-instance as published, with model.safetensors",
    weights: true,
    optional: false,
};

/// `geneval`.
pub const REWARD_MODEL: RewardModel = RewardModel {
    name: "geneval",
    about: "whether an image shows the objects, counts, colours and places that the prompt names",
    parts: &[DETECTOR, CLIP],
    measures: &["correct", "strict", "partial", "released"],
    shown: Some("correct"),
};

/// GenEval's names of the classes that a detector finds, by the folder of the part `detector`. No weights are read.
///
/// # Errors
/// Its configuration is missing or malformed.
pub fn classes(detector: &Path) -> Result<Vec<String>> {
    let config: Mask2FormerConfig = read_json(&detector.join("config.json"))?;
    Ok(config.id2label.iter().map(|label| name_of(label)).collect())
}
