//! `train_teacher` at work: one adapter for one reward, by reinforcement learning.

use crate::artefacts::candidates::Candidates;
use crate::artefacts::cost::Cost;
use crate::artefacts::{adapter, cost, timing};
use crate::judging::asking::Asking;
use crate::judging::held_out::HeldOut;
use crate::judging::reward_set;
use crate::judging::reward_set::RewardSet;
use crate::judging::set::Set;
use crate::runtime::fitting::fitting;
use crate::runtime::learn::{Courses, learn};
use crate::runtime::pipeline::Pipeline;
use crate::runtime::prompt_task::PromptTask;
use crate::runtime::samples::{Sampled, Shown};
use crate::runtime::validated::{Rule, Validated};
use crate::runtime::watch::Watched;
use anyhow::Result;
use opdflow_api::StageContext;
use opdflow_api::warning::NOTHING_LEARNED;
use opdflow_kinds::judging::reward;
use opdflow_kinds::model::folder;
use opdflow_kinds::model::sampling::ImageSampling;
use opdflow_kinds::prompt::record;
use opdflow_kinds::stages::train_teacher::{Algorithm, Params};
use opdflow_training::grpo::{Clipped, Grpo, Ratio};
use opdflow_training::nft::Nft;
use opdflow_training::objective::Objective;
use opdflow_training::optim::AdamW;
use opdflow_training::task::{Task, TaskSettings};
use opdflow_training::teacher::RolloutCollector;
use opdflow_training::train::Learner;
use std::collections::BTreeMap;

/// Trains an adapter on the frozen base by reinforcement learning.
///
/// # Errors
/// A fault says whose it is; anything else is a bug.
pub fn run(params: Params, context: &mut StageContext) -> Result<()> {
    let asking = Asking::new(context, &params.requests);
    fitting(params.micro_batch, context, |micro_batch, context| {
        attempt(Params { micro_batch, ..params.clone() }, &asking, context)
    })
}

/// One attempt, with batches of `params.micro_batch`.
fn attempt(params: Params, asking: &Asking, context: &mut StageContext) -> Result<()> {
    let mut pipeline =
        Pipeline::open(context, "base", params.micro_batch, params.size, params.precision, params.max_sequence_length)?;
    pipeline.canvas.gradient_checkpointing = params.gradient_checkpointing;
    let seed = context.job().seed;
    let lora = adapter::trainable(context, "start", &params.lora, &pipeline)?;
    let reward_set = RewardSet::connected(context, pipeline.canvas, asking)?;
    let mut tasks = tasks(&params, &pipeline, &reward_set, context)?;
    let rule = rule(&params, &pipeline, &reward_set, context)?;
    let shown = shown(&params, &tasks, &reward_set)?;
    let beside = HeldOut::connected(context, pipeline.canvas, asking)?.with_rules(&params.samples.rewards)?;
    let judged = rule.iter().flat_map(|rule| rule.judges.iter().flat_map(|judge| &judge.records));
    pipeline.encode_prompts(tasks.iter().flat_map(|t| &t.records).chain(judged), context)?;
    let (passes, each) = (pipeline.passes(), params.operations(&pipeline.passes(), false));
    let (budget, lr_schedule) = (params.budget.as_ref(), &params.lr_schedule);
    let rounds = cost::rounds_within(budget, each, params.iterations, lr_schedule, context)?;
    let collector = RolloutCollector {
        model: &*pipeline.network,
        empty: &pipeline.empty,
        canvas: pipeline.canvas,
        sampling: params.sampling.clone(),
        tasks: tasks.iter_mut().map(|t| t as &mut dyn Task).collect(),
        seed,
    };
    let grpo = |ratio, config, collector| Grpo {
        ratio,
        config,
        collector,
        lora: &lora,
        seen: None,
        clipped: Clipped::default(),
    };
    let mut objective: Box<dyn Objective> = match params.algorithm.clone() {
        Algorithm::DiffusionNft(config) => {
            Box::new(Nft { config, collector, old: lora.detached(), lora: &lora, seen: None })
        }
        Algorithm::GrpoGuard(config) => Box::new(grpo(Ratio::Guard, config, collector)),
        Algorithm::FlowGrpo(config) => Box::new(grpo(Ratio::Plain, config, collector)),
    };
    let optimizer = AdamW::new(params.optimizer.clone(), lora.parameters());
    let mut learner = Learner::new(lora.parameters(), optimizer, params.ema.clone(), params.lr_schedule);
    let mut candidates = Candidates::of(&lora, pipeline.origin(), params.candidates_every, context);
    let (often, as_trained) = ((&params.samples, rounds), on_the_way(&params));
    let mut sampled = Sampled::new((&pipeline, &lora), often, (shown, beside), as_trained, context);
    let (mut watched, mut answers) = (Watched::new(params.alarms.clone()), asking);
    let mut validated = Validated::new(rule, context);
    // A round that an alarm ends leaves no candidate; the rule scores candidates that are there.
    let mut courses = Courses(vec![&mut watched, &mut answers, &mut candidates, &mut sampled, &mut validated]);
    let end = learn(context, &mut learner, &mut *objective, &mut courses, rounds, 1)?;
    validated.words(end).into_iter().for_each(|words| context.say(words));
    let (scored, gradients) = (validated.scored(end) as f64, objective.gradients());
    if end < learner.rounds() {
        // Another run of the lineage has gone further: the rule's last candidate is the end of this one.
        let done = learner.rounds();
        context.say(format!("taken from a run of {done} rounds; its seconds are {end} of {done} parts of that run's"));
        validated.cut(end)?;
        context.cut_metrics(end)?;
        let last = validated.candidate(end);
        let teacher = adapter::load(&last, &pipeline, "candidates")?;
        adapter::warn_if_idle(context, &teacher, NOTHING_LEARNED, "the teacher");
        folder::copy(&last, &context.output("lora"), |_| true)?;
    } else {
        candidates.last(&learner)?;
        adapter::warn_if_base(context, &lora, learner.average(), NOTHING_LEARNED, "the teacher");
        adapter::save(&lora, learner.average(), &pipeline.origin(), &context.output("lora"))?;
    }
    if end < rounds {
        context.progress(end, end, "ended by its rule");
    }
    let took = Cost {
        rounds: end,
        gradients: gradients * end,
        operations: each * end as f64,
        validation_operations: scored * params.until.as_ref().map_or(0.0, |until| until.operations(&passes)),
    };
    took.write(context)?;
    asking.leave(context)?;
    timing::write(context, &took, end as f64 / learner.rounds().max(1) as f64)
}

/// How images on the way are sampled: in the steps and with the guidance of training.
fn on_the_way(params: &Params) -> ImageSampling {
    ImageSampling {
        num_inference_steps: params.sampling.num_inference_steps,
        guidance_scale: params.sampling.guidance_scale,
        ..ImageSampling::default()
    }
}

/// The prompts of each task with its reward, for images on the way. A task that has several turns is one.
fn shown(params: &Params, tasks: &[PromptTask<'_>], reward_set: &RewardSet) -> Result<Vec<Shown>> {
    let mut all: BTreeMap<&str, Shown> = BTreeMap::new();
    for (task, (_, weights)) in tasks.iter().zip(params.turns()) {
        if !all.contains_key(task.name.as_str()) {
            // Each request to a server may cost something, and would be one that `plan` does not count.
            let asks = reward::wholes_of(weights).any(reward::may_be_served);
            let reward = if asks { None } else { Some((reward_set.weighted(weights)?, reward_set.dealing())) };
            all.insert(&task.name, Shown { records: task.records.clone(), reward });
        }
    }
    Ok(all.into_values().collect())
}

/// The rule that ends the training by its own score, if there is one.
fn rule<'a>(
    params: &Params,
    pipeline: &'a Pipeline,
    reward_set: &RewardSet,
    context: &StageContext,
) -> Result<Option<Rule<'a>>> {
    let Some(until) = params.until.clone() else { return Ok(None) };
    let one = [("teacher", "validation".to_owned(), &params.reward)];
    let each = params.rewards.iter().map(|(name, weights)| (name.as_str(), format!("validations.{name}"), weights));
    let (mut judges, mut digests) = (Vec::new(), BTreeMap::new());
    for (name, port, weights) in one.into_iter().filter(|_| params.rewards.is_empty()).chain(each) {
        let (records, reward) = (record::read(&context.input(&port)?)?, reward_set.weighted(weights)?);
        reward_set::judges(&reward, &records)?;
        digests.insert(name, context.object(&port).map(|object| object.digest));
        judges.push(Set::of(name, records, Box::new(reward), reward_set.dealing()));
    }
    let of = serde_json::json!({"prompts": digests, "sampling": until.sampling}).to_string();
    let every = until.every(params.candidates_every);
    Ok(Some(Rule { until, every, pipeline, judges, of }))
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
        Ok(PromptTask {
            name: name.to_owned(),
            pipeline,
            records,
            reward: Some((wanted, reward_set.dealing())),
            settings,
        })
    };
    let port = |name: &str| if params.rewards.is_empty() { "prompts".to_owned() } else { format!("tasks.{name}") };
    params.turns().into_iter().map(|(name, weights)| task(name, &port(name), weights)).collect()
}
