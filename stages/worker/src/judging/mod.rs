//! Rewards at work.

pub mod reward_set;
pub mod score;
pub mod set;
