//! HPSv2.1: what it is made of.

use super::reward_model::{ModelPart, RewardModel};

/// The part `model`.
pub const MODEL: ModelPart = ModelPart {
    name: "model",
    about: "HPS_v2.1_compressed.pt of xswu/HPSv2, turned into safetensors by scripts/rewards_to_safetensors.py",
    weights: true,
    optional: false,
};
/// The part `tokenizer`.
pub const TOKENIZER: ModelPart = ModelPart {
    name: "tokenizer",
    about: "the tokenizer files of any CLIP, such as openai/clip-vit-large-patch14",
    weights: false,
    optional: false,
};

/// `hpsv2`.
pub const REWARD_MODEL: RewardModel = RewardModel {
    name: "hpsv2",
    about: "how much people would like an image for its prompt: HPSv2.1's cosine, about 0.2 to 0.35",
    parts: &[MODEL, TOKENIZER],
    measures: &[],
    shown: None,
};
