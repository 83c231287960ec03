//! Flow-matching models on libtorch: networks, weights, adapters and sampling. What is known of them without a tensor is in
//! `opdflow-spec`; modules of the same name give its items on.

pub mod adapter;
pub mod condition;
pub mod device;
pub mod families;
pub mod field;
pub mod finite;
pub mod init;
pub mod lora;
pub mod memory;
pub mod mkl;
pub mod network;
pub mod nn;
pub mod rng;
pub mod rollout;
pub mod solver;
pub mod text;
pub mod transfer;
mod transformer;
pub mod vae;
pub mod weights;

pub use opdflow_spec::{base_files, config, family, linears, schedule};

pub use schedule::Schedule;
pub use solver::{Solver, Step};
