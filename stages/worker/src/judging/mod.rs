//! Rewards at work.

pub mod asking;
pub mod dealt;
pub mod held_out;
pub mod reward_set;
pub mod sample;
pub mod score;
pub mod set;
