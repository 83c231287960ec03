//! Work outside of recipes.

pub mod doctor;
pub mod export_lora;
pub mod generate;
mod reward;
pub mod reward_server;
pub mod score;
