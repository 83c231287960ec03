//! ImageReward: what it is made of.

use super::reward_model::{ModelPart, RewardModel};

/// The part `model`.
pub const MODEL: ModelPart = ModelPart {
    name: "model",
    about: "ImageReward.pt of THUDM/ImageReward, turned into safetensors by scripts/rewards_to_safetensors.py; \
            med_config.json and vit_config.json may lie beside it",
    weights: true,
    optional: false,
};
/// The part `tokenizer`.
pub const TOKENIZER: ModelPart = ModelPart {
    name: "tokenizer",
    about: "the tokenizer files of google-bert/bert-base-uncased",
    weights: false,
    optional: false,
};

/// `imagereward`.
pub const REWARD_MODEL: RewardModel = RewardModel {
    name: "imagereward",
    about: "what people prefer for a prompt: ImageReward v1.0, about -2 to 2",
    parts: &[MODEL, TOKENIZER],
    measures: &[],
    shown: None,
};
