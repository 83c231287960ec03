//! The one list of the kinds, and of those that the program of the engine runs itself.

use crate::stages::{
    base_model, distill, embed, evaluate, figure, gradient_table, gradient_variance, import_lora, merge_loras, note,
    pretrain, prompts, reward_model, score_candidates, select_checkpoint, served_reward, table, train_teacher,
};
use opdflow_api::{Registry, Workers};

/// All stage kinds that opdflow ships.
#[must_use]
pub fn registry() -> Registry {
    Registry::new()
        .with(base_model::BaseModel)
        .with(import_lora::ImportLora)
        .with(reward_model::RewardModel)
        .with(served_reward::ServedReward)
        .with(prompts::Prompts)
        .with(pretrain::PretrainVae)
        .with(pretrain::PretrainBase)
        .with(pretrain::PretrainRewardModel)
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

/// Those that need no libtorch even at work: the engine's program runs them itself, and their processes start at once.
#[must_use]
pub fn light() -> Workers {
    Workers::new().with(note::Note, note::run).with(served_reward::ServedReward, served_reward::run)
}
