//! The stage kinds that opdflow ships: glue between the contract, the models and the rewards.
//!
//! | file | stage kind | what it leaves |
//! |---|---|---|
//! | `base_model.rs` | `base_model` | a model folder in diffusers layout |
//! | `prompts.rs` | `prompts` | training, validation and test prompts |
//! | `pretrain/` | `pretrain_vae`, `pretrain_base` | the miniature, from nothing |
//! | `train_teacher.rs` | `train_teacher` | an adapter per candidate step |
//! | `select_checkpoint.rs` | `select_checkpoint` | the best of them, by a stated rule |
//! | `distill.rs` | `distill` | the student |
//! | `evaluate.rs` | `evaluate` | scores and pictures on held-out prompts |
//! | `table/` | `table` | the paper's table of them, and a picture grid |

mod base_model;
mod distill;
mod evaluate;
mod grid;
mod adapter;
mod bundle;
mod learn;
mod pictures;
mod pretrain;
mod prompt_task;
mod prompts;
mod record;
mod reward;
mod score;
mod select_checkpoint;
mod studio;
mod table;
mod train_teacher;

use opdflow_stage::Registry;

/// All stage kinds of this crate.
#[must_use]
pub fn registry() -> Registry {
    Registry::new()
        .with(base_model::BaseModel)
        .with(prompts::Prompts)
        .with(pretrain::PretrainVae)
        .with(pretrain::PretrainBase)
        .with(train_teacher::TrainTeacher)
        .with(select_checkpoint::SelectCheckpoint)
        .with(distill::Distill)
        .with(evaluate::Evaluate)
        .with(table::Table)
}
