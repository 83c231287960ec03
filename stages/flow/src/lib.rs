//! Flow-matching models and their training mathematics on libtorch.

pub mod config;
pub mod init;
pub mod lora;
pub mod mmdit;
pub mod nn;
pub mod text;
pub mod vae;
pub mod weights;
