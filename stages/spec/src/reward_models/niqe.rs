//! NIQE: what it is made of.

use super::reward_model::{ModelPart, RewardModel};

/// The part `pristine`.
pub const PRISTINE: ModelPart = ModelPart {
    name: "pristine",
    about: "a safetensors file of `mu_pris_param`, 36 numbers, and `cov_pris_param`, 36 by 36: mean and covariance of the \
            features of undistorted images, as NIQE's authors publish them for photographs",
    weights: true,
    optional: false,
};

/// `niqe`.
pub const REWARD_MODEL: RewardModel = RewardModel {
    name: "niqe",
    about: "how undistorted an image looks, whatever its prompt: minus NIQE, 0 at best, about -3 to -10",
    parts: &[PRISTINE],
    measures: &[],
    shown: None,
};
