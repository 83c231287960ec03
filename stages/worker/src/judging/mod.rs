//! Rewards at work.

pub mod jury;
pub mod score;
pub mod set;
