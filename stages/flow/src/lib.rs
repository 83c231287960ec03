//! Flow-matching models and their training mathematics on libtorch.

pub mod advantage;
pub mod config;
pub mod dance;
pub mod device;
pub mod dmd;
pub mod field;
pub mod grpo;
pub mod init;
pub mod lora;
pub mod merge;
pub mod mmdit;
pub mod muon;
pub mod nft;
pub mod nn;
pub mod objective;
pub mod opd;
pub mod optim;
pub mod pipeline;
pub mod ppo;
pub mod rng;
pub mod rollout;
pub mod schedule;
pub mod school;
pub mod sft;
pub mod solver;
pub mod state;
pub mod task;
pub mod teacher;
pub mod text;
pub mod train;
pub mod vae;
pub mod weights;
pub mod window;

pub use schedule::Schedule;
pub use solver::{Solver, Step};
pub use state::State;
