//! Configurations of text encoders.

pub mod clip;
pub mod t5;
