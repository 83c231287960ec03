//! Work outside of recipes.

pub mod export_lora;
pub mod generate;
pub mod reward_server;
