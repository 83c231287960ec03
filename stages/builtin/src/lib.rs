//! The stage kinds that opdflow ships: glue between the contract, the models and the rewards.
//!
//! | file | stage kind | what it leaves |
//! |---|---|---|
//! | `base_model.rs` | `base_model` | a model in diffusers layout, or a single file with what it lacks |
//! | `import_lora.rs` | `import_lora` | an adapter of the user's own |
//! | `critic.rs` | `critic` | a network that judges pictures, of the user's own files |
//! | `prompts.rs` | `prompts` | training, validation and test prompts |
//! | `embed.rs` | `embed` | what the text encoders make of prompts |
//! | `pretrain/` | `pretrain_vae`, `pretrain_base` | the miniature, from nothing |
//! | `train_teacher.rs` | `train_teacher` | an adapter per candidate step |
//! | `select_checkpoint.rs` | `select_checkpoint` | the best of them, by a stated rule |
//! | `distill.rs` | `distill` | the student |
//! | `merge_loras.rs` | `merge_loras` | one adapter of several, without training |
//! | `gradient_variance.rs` | `gradient_variance` | mean and spread of the gradients of two objectives |
//! | `gradient_table.rs` | `gradient_table` | the same over several seeds |
//! | `evaluate.rs` | `evaluate` | scores and pictures on held-out prompts |
//! | `score_candidates.rs` | `score_candidates` | scores of every candidate of a training |
//! | `note.rs` | `note` | words among the results |
//! | `table/` | `table` | the paper's table of them, and a picture grid |
//! | `figure/` | `figure` | scores against training time, as CSV and drawn |
//!
//! `generate/` and `export_lora.rs` are no stages: the one makes pictures for `opdflow generate`, the other writes adapters
//! for `opdflow get --format`, outside of recipes and store.

mod adapter;
mod adapter_doubts;
mod alarm;
mod base_model;
mod bundle;
mod candidates;
pub mod code;
mod course_doubts;
mod critic;
mod critic_folder;
mod curve;
mod device;
mod distill;
mod embed;
mod embeddings;
mod evaluate;
mod export_lora;
mod figure;
mod fitting;
mod folder;
mod generate;
mod gradient_table;
mod gradient_variance;
mod grid;
mod import_lora;
mod json;
mod judge;
mod jury;
mod learn;
mod memory;
mod merge_loras;
mod model_fit;
mod model_folder;
mod note;
mod operations;
mod outside;
mod param;
mod pictures;
mod precision;
mod pretrain;
mod prompt_doubts;
mod prompt_set;
mod prompt_task;
mod prompts;
mod provenance;
mod recogniser;
mod record;
mod reward;
mod score;
mod score_candidates;
mod seeds;
mod select_checkpoint;
mod studio;
mod table;
mod timing;
mod train_teacher;
mod unfit;

use opdflow_stage::{Registry, StageSet, Tool, Workers};

/// The one list of this crate's stages.
fn all<S: StageSet>(set: S) -> S {
    set.with(base_model::BaseModel)
        .with(import_lora::ImportLora)
        .with(critic::Critic)
        .with(prompts::Prompts)
        .with(pretrain::PretrainVae)
        .with(pretrain::PretrainBase)
        .with(embed::Embed)
        .with(train_teacher::TrainTeacher)
        .with(select_checkpoint::SelectCheckpoint)
        .with(distill::Distill)
        .with(merge_loras::MergeLoras)
        .with(gradient_variance::GradientVariance)
        .with(gradient_table::GradientTable)
        .with(evaluate::Evaluate)
        .with(score_candidates::ScoreCandidates)
        .with(note::Note)
        .with(table::Table)
        .with(figure::Figure)
}

/// All stage kinds of this crate, for the engine. A program that names this, and not [`workers`], does without
/// libtorch: keep whatever calls it out of [`opdflow_stage::Stage::check`], `assets`, `horizon` and `resources`.
#[must_use]
pub fn registry() -> Registry {
    all(Registry::new())
}

/// The same stages, for the program that runs them.
#[must_use]
pub fn workers() -> Workers {
    all(Workers::new())
}

/// What the program of the stages can do beside them.
#[must_use]
pub fn tools() -> Vec<Box<dyn Tool>> {
    vec![Box::new(generate::Generate), Box::new(export_lora::ExportLora)]
}

/// Those that do without libtorch even at work: the engine's program runs them itself, and their processes start at once.
#[must_use]
pub fn light() -> Workers {
    Workers::new().with(note::Note)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_kind_has_a_worker() {
        let kinds: Vec<_> = super::registry().names().collect();
        assert!(kinds.iter().copied().eq(super::workers().names()), "{kinds:?}");
        assert!(kinds.len() > 5, "{kinds:?}");
    }
}
