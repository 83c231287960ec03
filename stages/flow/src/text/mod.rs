//! Prompts to what the transformer is conditioned on.

pub mod clip;
pub mod embed;
pub mod t5;
pub mod tokenizer;
