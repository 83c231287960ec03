//! The parameters of trainings, with their ranges and defaults, and what each reports. One module a method.

pub mod advantage;
pub mod dance;
pub mod distillation;
pub mod dmd;
pub mod grpo;
pub mod merge;
pub mod muon;
pub mod nft;
pub mod objective;
pub mod opd;
pub mod optim;
pub mod ppo;
pub mod sft;
pub mod task;
pub mod teacher;
pub mod train;
pub mod window;

/// Whether a field holds its default, and needs not be written.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
