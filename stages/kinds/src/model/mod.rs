//! Models, adapters and reward models as files: what they are made of, what is known of them before they are loaded.

pub mod adapter_doubts;
pub mod bundle;
pub mod candidates;
pub mod folder;
pub mod model_fit;
pub mod model_folder;
pub mod reward_model_folder;
pub mod sampling;
pub mod shape;
