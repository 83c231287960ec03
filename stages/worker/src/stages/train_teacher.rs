//! `train_teacher` at work: one adapter for one reward, by reinforcement learning.

use crate::artefacts::candidates::Candidates;
use crate::artefacts::{adapter, timing};
use crate::judging::jury;
use crate::judging::jury::Jury;
use crate::runtime::fitting::fitting;
use crate::runtime::learn::learn;
use crate::runtime::prompt_task::PromptTask;
use crate::runtime::studio::Studio;
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
use opdflow_training::task::{Practice, Task};
use opdflow_training::teacher::Explorer;
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
    let mut studio = Studio::open(context, "base", params.micro_batch, params.size, params.precision)?;
    studio.canvas.recompute = params.recompute;
    let seed = context.job().seed;
    let lora = adapter::trainable(context, "start", &params.lora, &studio)?;
    let jury = Jury::connected(context, studio.canvas.device)?;
    let mut tasks = tasks(&params, &studio, &jury, context)?;
    studio.recite(tasks.iter().flat_map(|t| &t.records), context)?;
    let explorer = Explorer {
        model: &*studio.network,
        empty: &studio.empty,
        canvas: studio.canvas,
        sampling: params.sampling.clone(),
        tasks: tasks.iter_mut().map(|t| t as &mut dyn Task).collect(),
        seed,
    };
    let grpo = |ratio, config, explorer| Grpo { ratio, config, explorer, lora: &lora, seen: None };
    let mut objective: Box<dyn Objective> = match params.algorithm.clone() {
        Algorithm::DiffusionNft(config) => Box::new(Nft { config, explorer, old: lora.detached(), lora: &lora }),
        Algorithm::GrpoGuard(config) => Box::new(grpo(Ratio::Guard, config, explorer)),
        Algorithm::FlowGrpo(config) => Box::new(grpo(Ratio::Plain, config, explorer)),
    };
    let optimiser = AdamW::new(params.optimiser.clone(), lora.parameters());
    let mut learner = Learner::new(lora.parameters(), optimiser, params.ema.clone(), params.pace);
    let candidates = Candidates::of(&lora, studio.origin(), params.candidates_every, context);
    let mut candidates = Watched::new(candidates, params.alarms.clone());
    learn(context, &mut learner, &mut *objective, &mut candidates, params.iterations, 1)?;
    candidates.inner().last(&learner)?;
    adapter::warn_if_base(context, &lora, learner.average(), NOTHING_LEARNED, "the teacher");
    adapter::save(&lora, learner.average(), &studio.origin(), &context.output("lora"))?;
    timing::write(context, objective.gradients() * params.iterations)
}

/// The tasks in the order of their turns, one of them several times if the recipe says so.
fn tasks<'a>(params: &Params, studio: &'a Studio, jury: &Jury, context: &StageContext) -> Result<Vec<PromptTask<'a>>> {
    let task = |name: &str, port: &str, weights: &reward::Weights| -> Result<PromptTask<'a>> {
        let (records, wanted) = (record::read(&context.input(port)?)?, jury.weighted(weights)?);
        jury::judges(&wanted, &records)?;
        let own = params.per_task.get(name);
        let practice = Practice {
            rate: own.and_then(|o| o.lr).map_or(1.0, |lr| lr / params.optimiser.lr),
            updates: own.and_then(|o| o.updates),
        };
        Ok(PromptTask { name: name.to_owned(), studio, records, reward: Some(wanted), practice })
    };
    let port = |name: &str| if params.rewards.is_empty() { "prompts".to_owned() } else { format!("tasks.{name}") };
    params.turns().into_iter().map(|(name, weights)| task(name, &port(name), weights)).collect()
}
