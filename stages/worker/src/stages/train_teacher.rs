//! `train_teacher` at work: one adapter for one reward, by reinforcement learning.

use crate::artefacts::candidates::Candidates;
use crate::artefacts::{adapter, timing};
use crate::judging::reward_set;
use crate::judging::reward_set::RewardSet;
use crate::runtime::fitting::fitting;
use crate::runtime::learn::learn;
use crate::runtime::pipeline::Pipeline;
use crate::runtime::prompt_task::PromptTask;
use crate::runtime::watch::Watched;
use anyhow::Result;
use opdflow_api::StageContext;
use opdflow_api::warning::NOTHING_LEARNED;
use opdflow_kinds::judging::reward;
use opdflow_kinds::prompt::record;
use opdflow_kinds::stages::train_teacher::{Algorithm, Params};
use opdflow_training::grpo::{Grpo, Ratio};
use opdflow_training::nft::Nft;
use opdflow_training::objective::Objective;
use opdflow_training::optim::AdamW;
use opdflow_training::task::{Task, TaskSettings};
use opdflow_training::teacher::RolloutCollector;
use opdflow_training::train::Learner;

/// Trains an adapter on the frozen base by reinforcement learning.
///
/// # Errors
/// A fault says whose it is; anything else is a bug.
pub fn run(params: Params, context: &mut StageContext) -> Result<()> {
    fitting(params.micro_batch, context, |micro_batch, context| {
        attempt(Params { micro_batch, ..params.clone() }, context)
    })
}

/// One attempt, with batches of `params.micro_batch`.
fn attempt(params: Params, context: &mut StageContext) -> Result<()> {
    let mut pipeline =
        Pipeline::open(context, "base", params.micro_batch, params.size, params.precision, params.max_sequence_length)?;
    pipeline.canvas.gradient_checkpointing = params.gradient_checkpointing;
    let seed = context.job().seed;
    let lora = adapter::trainable(context, "start", &params.lora, &pipeline)?;
    let reward_set = RewardSet::connected(context, pipeline.canvas.device)?;
    let mut tasks = tasks(&params, &pipeline, &reward_set, context)?;
    pipeline.encode_prompts(tasks.iter().flat_map(|t| &t.records), context)?;
    let collector = RolloutCollector {
        model: &*pipeline.network,
        empty: &pipeline.empty,
        canvas: pipeline.canvas,
        sampling: params.sampling.clone(),
        tasks: tasks.iter_mut().map(|t| t as &mut dyn Task).collect(),
        seed,
    };
    let grpo = |ratio, config, collector| Grpo { ratio, config, collector, lora: &lora, seen: None };
    let mut objective: Box<dyn Objective> = match params.algorithm.clone() {
        Algorithm::DiffusionNft(config) => {
            Box::new(Nft { config, collector, old: lora.detached(), lora: &lora, seen: None })
        }
        Algorithm::GrpoGuard(config) => Box::new(grpo(Ratio::Guard, config, collector)),
        Algorithm::FlowGrpo(config) => Box::new(grpo(Ratio::Plain, config, collector)),
    };
    let optimizer = AdamW::new(params.optimizer.clone(), lora.parameters());
    let mut learner = Learner::new(lora.parameters(), optimizer, params.ema.clone(), params.lr_schedule);
    let candidates = Candidates::of(&lora, pipeline.origin(), params.candidates_every, context);
    let mut candidates = Watched::new(candidates, params.alarms.clone());
    learn(context, &mut learner, &mut *objective, &mut candidates, params.iterations, 1)?;
    candidates.inner().last(&learner)?;
    adapter::warn_if_base(context, &lora, learner.average(), NOTHING_LEARNED, "the teacher");
    adapter::save(&lora, learner.average(), &pipeline.origin(), &context.output("lora"))?;
    timing::write(context, objective.gradients() * params.iterations)
}

/// The tasks in the order of their turns, one of them several times if the recipe says so.
fn tasks<'a>(
    params: &Params,
    pipeline: &'a Pipeline,
    reward_set: &RewardSet,
    context: &StageContext,
) -> Result<Vec<PromptTask<'a>>> {
    let task = |name: &str, port: &str, weights: &reward::Weights| -> Result<PromptTask<'a>> {
        let (records, wanted) = (record::read(&context.input(port)?)?, reward_set.weighted(weights)?);
        reward_set::judges(&wanted, &records)?;
        let own = params.per_task.get(name);
        let settings = TaskSettings {
            rate: own.and_then(|o| o.lr).map_or(1.0, |lr| lr / params.optimizer.lr),
            updates: own.and_then(|o| o.updates),
        };
        Ok(PromptTask { name: name.to_owned(), pipeline, records, reward: Some(wanted), settings })
    };
    let port = |name: &str| if params.rewards.is_empty() { "prompts".to_owned() } else { format!("tasks.{name}") };
    params.turns().into_iter().map(|(name, weights)| task(name, &port(name), weights)).collect()
}
