//! Rewards: their names, their files, and which of them judge which prompts.

pub mod critics;
pub mod recogniser;
pub mod reward;
pub mod wanted;
