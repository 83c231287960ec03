//! Models, adapters and critics as files: what they are made of, what is known of them before they are loaded.

pub mod adapter_doubts;
pub mod bundle;
pub mod candidates;
pub mod critic_folder;
pub mod folder;
pub mod model_fit;
pub mod model_folder;
pub mod shape;
pub mod shot;
