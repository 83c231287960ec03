//! Several processes at one stage. Each holds the whole model; what is dealt to them are the micro-batches of a rollout, of an
//! update or of an evaluation, by their place in the whole, and what they find is put together in that order. So the number of
//! processes changes how long a stage takes, and nothing else.
//!
//! Between them is libtorch's own c10d: TCPStore to find each other, Gloo on CPUs, NCCL on GPUs. Nothing is reduced by these: values
//! are gathered, and each process adds them up alike ([`tree`]), so that a sum does not hang on what a library's reduction does.

pub mod group;
pub mod ranks;
pub mod tree;

pub use group::{Backend, Group, Meeting};
pub use ranks::{Ranks, least_common};
