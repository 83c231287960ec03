//! The training mathematics on libtorch: objectives, optimizers and the one loop. The parameters of all of them are in
//! `opdflow-spec`; modules of the same name give its items on.

pub mod advantage;
pub mod dance;
pub mod distillation;
pub mod dmd;
pub mod grpo;
pub mod idle;
pub mod leaves;
pub mod merge;
pub mod muon;
pub mod nft;
pub mod objective;
pub mod opd;
pub mod optim;
pub mod parts;
pub mod ppo;
pub mod sft;
pub mod state;
pub mod task;
pub mod teacher;
pub mod train;

pub use opdflow_spec::window;

pub use state::State;
