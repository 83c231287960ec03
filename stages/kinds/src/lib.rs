//! What the stage kinds that opdflow ships say of themselves: parameters, ports, checks, estimates and keys. Nothing here
//! needs libtorch; what the kinds do when they run is in `opdflow-worker`.
//!
//! | file below `stages/` | stage kind | what it leaves |
//! |---|---|---|
//! | `base_model.rs` | `base_model` | a model in diffusers layout, or a single file with what it lacks |
//! | `import_lora.rs` | `import_lora` | an adapter of the user's own |
//! | `reward_model.rs` | `reward_model` | a network that judges images, of the user's own files |
//! | `served_reward.rs` | `served_reward` | how a reward is asked of a server |
//! | `prompts.rs` | `prompts` | training, validation and test prompts |
//! | `embed.rs` | `embed` | what the text encoders make of prompts |
//! | `pretrain/` | `pretrain_vae`, `pretrain_base` | the miniature, from nothing |
//! | `train_teacher.rs` | `train_teacher` | an adapter per candidate step |
//! | `select_checkpoint.rs` | `select_checkpoint` | the best of them, by a stated rule |
//! | `distill.rs` | `distill` | the student |
//! | `merge_loras.rs` | `merge_loras` | one adapter of several, without training |
//! | `gradient_variance.rs` | `gradient_variance` | mean and spread of the gradients of two objectives |
//! | `gradient_table.rs` | `gradient_table` | the same over several seeds |
//! | `evaluate.rs` | `evaluate` | scores and images on held-out prompts |
//! | `score_candidates.rs` | `score_candidates` | scores of every candidate of a training |
//! | `note.rs` | `note` | words among the results |
//! | `table/` | `table` | the paper's table of them, and an image grid |
//! | `figure.rs` | `figure` | scores against training time, as CSV and drawn |
//!
//! What several kinds share lies beside them: [`model`] (folders of models, adapters and reward models), [`prompt`],
//! [`judging`] (rewards), [`cost`] (memory and operations), [`training`], [`report`], and [`code`], the versions in
//! keys.

pub mod code;
pub mod cost;
pub mod judging;
pub mod model;
pub mod param;
pub mod precision;
pub mod prompt;
mod registry;
pub mod report;
pub mod stages;
pub mod training;

pub use registry::{light, registry};

/// The version of libtorch that the stages of this build compute with. It is in the keys of all that compute with tensors,
/// whether or not the program that runs them was built. tch's build script accepts this one alone.
pub const LIBTORCH: &str = "2.11.0";
