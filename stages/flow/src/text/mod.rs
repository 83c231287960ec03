//! Prompts to what the transformer is conditioned on.

pub mod clip;
pub mod embed;
mod spiece;
pub mod t5;
pub mod tokenizer;
mod wordpiece;
