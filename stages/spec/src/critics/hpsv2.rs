//! HPSv2.1: what it is made of.

use super::critic::{Critic, Part};

/// The part `model`.
pub const MODEL: Part = Part {
    name: "model",
    about: "HPS_v2.1_compressed.pt of xswu/HPSv2, turned into safetensors by scripts/rewards_to_safetensors.py",
    weights: true,
};
/// The part `tokenizer`.
pub const TOKENIZER: Part = Part {
    name: "tokenizer",
    about: "the tokenizer files of any CLIP, such as openai/clip-vit-large-patch14",
    weights: false,
};

/// `hpsv2`.
pub const CRITIC: Critic = Critic {
    name: "hpsv2",
    about: "how much people would like a picture for its prompt: HPSv2.1's cosine, about 0.2 to 0.35",
    parts: &[MODEL, TOKENIZER],
    measures: &[],
    shown: None,
};
