//! Flow-matching models and their training mathematics on libtorch.

pub mod advantage;
pub mod config;
pub mod device;
pub mod field;
pub mod guard;
pub mod init;
pub mod lora;
pub mod mmdit;
pub mod muon;
pub mod nft;
pub mod nn;
pub mod objective;
pub mod opd;
pub mod optim;
pub mod pipeline;
pub mod rng;
pub mod rollout;
pub mod schedule;
pub mod solver;
pub mod state;
pub mod task;
pub mod teacher;
pub mod text;
pub mod train;
pub mod vae;
pub mod weights;

pub use schedule::Schedule;
pub use solver::{Solver, Step};
pub use state::State;
