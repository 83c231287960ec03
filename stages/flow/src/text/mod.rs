//! Prompts to what the transformer is conditioned on.

pub mod clip;
pub mod t5;
