//! LAION's aesthetic predictor: what it is made of.

use super::reward_model::{CLIP, ModelPart, RewardModel};

/// The part `head`.
pub const HEAD: ModelPart = ModelPart {
    name: "head",
    about: "sac+logos+ava1-l14-linearMSE.pth of christophschuhmann/improved-aesthetic-predictor, turned into safetensors by \
            scripts/rewards_to_safetensors.py",
    weights: true,
    optional: false,
};

/// `aesthetic`.
pub const REWARD_MODEL: RewardModel = RewardModel {
    name: "aesthetic",
    about: "how beautiful an image is, whatever its prompt: LAION's aesthetic predictor, about 5 to 6.5",
    parts: &[CLIP, HEAD],
    measures: &[],
    shown: None,
};
