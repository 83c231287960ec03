//! What can be known of a model, an adapter, a reward model and a training without a tensor: from configurations, from the
//! headers of files and from parameters. No libtorch: whatever plans, checks and estimates stands on this crate.
//!
//! What computes with tensors is in `opdflow-models` and `opdflow-training`, in modules of the same names, which give the
//! items of these on.

pub mod adapter;
pub mod base_files;
pub mod config;
pub mod families;
pub mod family;
pub mod linears;
pub mod nn;
pub mod reward_models;
pub mod rng;
pub mod schedule;
pub mod served;
pub mod solver;
pub mod text;
mod training;
pub mod vae;
pub mod weights;

pub use schedule::Schedule;
pub use solver::{Solver, Step};
pub use training::{
    advantage, dance, distillation, dmd, grpo, merge, muon, nft, objective, opd, optim, ppo, sft, task, teacher, train,
    window,
};

/// The size and place of an adapter.
pub mod lora {
    pub use crate::linears::LoraConfig;
}
