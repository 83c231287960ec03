//! Rewards: their names, their files, and which of them judge which prompts.

pub mod held_out;
pub mod recogniser;
pub mod reward;
pub mod reward_models;
pub mod served;
pub mod wanted;
