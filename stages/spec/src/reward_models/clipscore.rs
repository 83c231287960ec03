//! CLIPScore: what it is made of.

use super::reward_model::{CLIP, RewardModel};

/// `clipscore`.
pub const REWARD_MODEL: RewardModel = RewardModel {
    name: "clipscore",
    about: "how well an image fits its prompt: CLIP's cosine (ViT-L/14), about 0.2 to 0.3",
    parts: &[CLIP],
    measures: &["logit"],
    shown: None,
};
