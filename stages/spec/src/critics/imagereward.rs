//! ImageReward: what it is made of.

use super::critic::{Critic, Part};

/// The part `model`.
pub const MODEL: Part = Part {
    name: "model",
    about: "ImageReward.pt of THUDM/ImageReward, turned into safetensors by scripts/rewards_to_safetensors.py; \
            med_config.json and vit_config.json may lie beside it",
    weights: true,
};
/// The part `tokenizer`.
pub const TOKENIZER: Part =
    Part { name: "tokenizer", about: "the tokenizer files of google-bert/bert-base-uncased", weights: false };

/// `imagereward`.
pub const CRITIC: Critic = Critic {
    name: "imagereward",
    about: "what people prefer for a prompt: ImageReward v1.0, about -2 to 2",
    parts: &[MODEL, TOKENIZER],
    measures: &[],
    shown: None,
};
