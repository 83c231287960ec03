//! What rewards are made into advantages by.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Advantages are cut to this many standard deviations either way (Flow-GRPO, DiffusionNFT).
pub const CLIP: f64 = 5.0;

/// Whose standard deviation divides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// That of all rewards of the round (`global_std: True` in the research code).
    #[default]
    Round,
    /// That of the prompt's own group.
    Group,
}

/// How several rewards become one advantage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Blend {
    /// The advantage of their weighted sum.
    #[default]
    Rewards,
    /// The weighted sum of the advantages of each (MixGRPO): the scales of the rewards do not matter.
    Advantages,
}

impl Blend {
    pub(crate) fn is_rewards(&self) -> bool {
        *self == Self::Rewards
    }
}
