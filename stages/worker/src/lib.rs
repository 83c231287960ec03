//! What the stage kinds of `opdflow-kinds` do when they run, and the tools that need the same libraries.
//!
//! - [`stages`] has a file for each kind with its function `run`.
//! - [`tools`](mod@tools) make images for `opdflow generate` and write adapters for `opdflow get --format`, outside of
//!   recipes and
//!   store.
//! - [`runtime`] is what they run on, [`judging`] the rewards at work, [`artefacts`] what is written and read, [`report`]
//!   what tables and figures share.

mod artefacts;
mod judging;
mod report;
mod runtime;
mod stages;
mod tools;

use opdflow_api::{Tool, Workers};
use opdflow_kinds::stages as kinds;

/// All kinds with what they do.
#[must_use]
pub fn workers() -> Workers {
    opdflow_kinds::light()
        .with(kinds::base_model::BaseModel, stages::base_model::run)
        .with(kinds::import_lora::ImportLora, stages::import_lora::run)
        .with(kinds::reward_model::RewardModel, stages::reward_model::run)
        .with(kinds::prompts::Prompts, stages::prompts::run)
        .with(kinds::pretrain::PretrainVae, stages::pretrain::vae::run)
        .with(kinds::pretrain::PretrainBase, stages::pretrain::base::run)
        .with(kinds::pretrain::PretrainRewardModel, stages::pretrain::reward_model::run)
        .with(kinds::embed::Embed, stages::embed::run)
        .with(kinds::train_teacher::TrainTeacher, stages::train_teacher::run)
        .with(kinds::select_checkpoint::SelectCheckpoint, stages::select_checkpoint::run)
        .with(kinds::distill::Distill, stages::distill::run)
        .with(kinds::merge_loras::MergeLoras, stages::merge_loras::run)
        .with(kinds::gradient_variance::GradientVariance, stages::gradient_variance::run)
        .with(kinds::gradient_table::GradientTable, stages::gradient_table::run)
        .with(kinds::evaluate::Evaluate, stages::evaluate::run)
        .with(kinds::score_candidates::ScoreCandidates, stages::score_candidates::run)
        .with(kinds::table::Table, stages::table::run)
        .with(kinds::figure::Figure, stages::figure::run)
}

/// What the program of the stages can do beside them.
#[must_use]
pub fn tools() -> Vec<Box<dyn Tool>> {
    vec![
        Box::new(tools::generate::Generate),
        Box::new(tools::export_lora::ExportLora),
        Box::new(tools::reward_server::RewardServer),
        Box::new(tools::score::Score),
        Box::new(tools::doctor::Doctor),
    ]
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_kind_has_a_worker() {
        let kinds: Vec<_> = opdflow_kinds::registry().names().collect();
        assert!(kinds.iter().copied().eq(super::workers().names()), "{kinds:?}");
        assert!(kinds.len() > 5, "{kinds:?}");
    }
}
