//! PickScore: what it is made of.

use super::reward_model::{ModelPart, RewardModel};

/// The part `model`.
pub const MODEL: ModelPart = ModelPart {
    name: "model",
    about: "the folder yuvalkirstain/PickScore_v1 as published",
    weights: true,
    optional: false,
};
/// The part `tokenizer`.
pub const TOKENIZER: ModelPart = ModelPart {
    name: "tokenizer",
    about: "the processor of laion/CLIP-ViT-H-14-laion2B-s32B-b79K: its tokenizer files and preprocessor_config.json",
    weights: false,
    optional: false,
};

/// `pickscore`.
pub const REWARD_MODEL: RewardModel = RewardModel {
    name: "pickscore",
    about: "which image people would pick for a prompt: PickScore v1 over 26, about 0.8 to 0.95",
    parts: &[MODEL, TOKENIZER],
    measures: &["raw"],
    shown: Some("raw"),
};
