//! Reward models, networks that judge images: which there are, and which files each is made of. `opdflow-reward-models`
//! has the networks.

pub mod aesthetic;
pub mod clipscore;
pub mod geneval;
pub mod hpsv2;
pub mod imagereward;
pub mod niqe;
pub mod ocr;
pub mod pickscore;
mod reward_model;

pub use reward_model::{CLIP, ModelPart, RewardModel};

/// All kinds, by name.
pub const REWARD_MODELS: &[RewardModel] = &[
    aesthetic::REWARD_MODEL,
    clipscore::REWARD_MODEL,
    geneval::REWARD_MODEL,
    hpsv2::REWARD_MODEL,
    imagereward::REWARD_MODEL,
    niqe::REWARD_MODEL,
    ocr::REWARD_MODEL,
    pickscore::REWARD_MODEL,
];

/// The kind of this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static RewardModel> {
    REWARD_MODELS.iter().find(|c| c.name == name)
}
