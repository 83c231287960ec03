//! `pretrain_reward_model` at work: small reward models of the published kinds, trained on the miniature world.

mod alter;
mod blip;
mod contrast;
mod head;
mod held_out;
mod images;
mod pairs;
mod pristine;
mod towers;

use super::{captions, place_layout};
use crate::runtime::learn::{Courses, learn};
use crate::runtime::unfit::unfit;
use anyhow::{Context as _, Result};
use contrast::Contrast;
use images::Images;
use opdflow_api::{Fault, StageContext};
use opdflow_kinds::model::folder;
use opdflow_kinds::stages::pretrain::Pretraining;
use opdflow_kinds::stages::pretrain::reward_model::Params;
use opdflow_miniature::Split;
use opdflow_models::rng::derive;
use opdflow_models::weights::{Weights, save_tensors};
use opdflow_reward_models::head::Head;
use opdflow_training::muon::Muon;
use opdflow_training::objective::Objective;
use opdflow_training::train::Learner;
use pairs::Preferences;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};
use towers::{Towers, is_plain, is_vision, write_json};

/// The reward whose network the others go on from.
const START: &str = "clipscore";

/// Trains a reward model, writes its folders, and asks the one that is read from them about held-out pairs.
///
/// # Errors
/// A fault says whose it is; anything else is a bug.
pub fn run(params: Params, context: &mut StageContext) -> Result<()> {
    let device = crate::runtime::pipeline::device(context)?;
    let seed = context.job().seed;
    let out = context.output("reward_model").join(&params.reward);
    let layout = context.output("reward_model").with_extension("layout");
    place_layout(&params.layout, &context.job().folder.clone(), &layout)?;
    let tokenizer = layout.join("tokenizer");
    let (samples, mix): (_, opdflow_miniature::Mix) = (&params.samples, params.mix.parse()?);
    let prompts = captions(&mix, params.training.images, seed);
    let images = Images::new(prompts, seed, samples.prompts, samples.of_each, &samples.sampling, context)?;
    if params.reward == "niqe" {
        pristine::write(&images, params.training.images, &out.join("pristine"), context)?;
    } else if params.reward == "imagereward" {
        train_blip(&params, &images, &out, device, context)?;
    } else {
        let towers = Towers::new(&params.network, &tokenizer, derive(seed, "weights", 0), device)?;
        if let Some(start) = start(context)? {
            towers.go_on_from(&start)?;
        }
        train(&params, &towers, &images, &tokenizer, &out, context)?;
    }
    std::fs::remove_dir_all(&layout).context("clearing the layout")?;

    let apart = derive(seed, "held out", 0);
    let prompts = opdflow_miniature::prompts(&mix, params.held_out, apart, Split::Test);
    let images = Images::new(prompts, apart, samples.held_out, samples.of_each, &samples.sampling, context)?;
    let reward = opdflow_reward_models::open(&params.reward, &out, device).map_err(|e| unfit(&e))?;
    let told = held_out::accuracy(&*reward, &images, params.held_out, apart)?;
    for (kind, found) in &told {
        context.metric(params.training.steps, &format!("held_out.{kind}"), found.accuracy)?;
    }
    std::fs::write(context.output("accuracy"), serde_json::to_string_pretty(&told)? + "\n")
        .context("writing the accuracy")
}

/// The folder of the CLIP on the port `start`.
fn start(context: &StageContext) -> Result<Option<PathBuf>> {
    let Some(start) = context.maybe_input("start")? else { return Ok(None) };
    let folder = start.join(START).join("clip");
    if !folder.is_dir() {
        let fault = Fault::user(format!("`start` is not a `{START}`"));
        return Err(fault.help(format!("connect a `pretrain_reward_model` with `reward: {START}`")).into());
    }
    Ok(Some(folder))
}

/// Trains what the reward asks for, and writes its parts below `out`.
fn train(
    params: &Params,
    towers: &Towers,
    images: &Images,
    tokenizer: &Path,
    out: &Path,
    context: &mut StageContext,
) -> Result<()> {
    let (training, seed) = (&params.training, context.job().seed);
    let (batch, named) = (training.batch_size, towers.named());
    if params.reward == "aesthetic" {
        let weights = Weights::new_random(derive(seed, "head", 0), Device::Cpu);
        let head = Head::new(&weights.root(), params.network.projection_dim)?;
        let whole = context.object("start").is_none();
        let mut objective = head::Marks { towers, head: &head, whole, images, batch, seed };
        let own = weights.trainable();
        let seeing = named.iter().filter(|(name, _)| whole && is_vision(name));
        let learning = own.iter().chain(seeing).map(|(name, t)| (name.clone(), t.shallow_clone())).collect();
        let mut values = taught(training, learning, &mut objective, context)?;
        let seen: BTreeMap<String, Tensor> = values.split_off(own.len()).into_iter().collect();
        let learned =
            |(name, value): &(String, Tensor)| (name.clone(), seen.get(name).unwrap_or(value).shallow_clone());
        let named: Vec<(String, Tensor)> = named.iter().map(learned).collect();
        std::fs::create_dir_all(out.join("head")).context("making the folder of the head")?;
        save_tensors(out.join("head/head.safetensors"), &values, Kind::Half).map_err(|e| unfit(&e))?;
        return clip_folder(towers, &named, tokenizer, &out.join("clip"));
    }
    if params.reward == START {
        let values = taught(training, named, &mut Contrast { towers, images, batch, seed }, context)?;
        return clip_folder(towers, &values, tokenizer, &out.join("clip"));
    }
    let mut objective = Preferences { network: towers, images, pairs: &params.pairs, batch, seed };
    let values = taught(training, named, &mut objective, context)?;
    processor(tokenizer, &out.join("tokenizer"))?;
    match params.reward.as_str() {
        "hpsv2" => towers.write_open_clip(&out.join("model"), &values),
        _ => towers.write_transformers(&out.join("model"), &values),
    }
}

/// Trains ImageReward's network, and writes its parts below `out`.
fn train_blip(params: &Params, images: &Images, out: &Path, device: Device, context: &mut StageContext) -> Result<()> {
    let (training, seed, tokenizer) = (&params.training, context.job().seed, out.join("tokenizer"));
    let entries = blip::write_tokenizer(&images.prompts, &tokenizer)?;
    let judge = blip::Judge::new(&params.network, &tokenizer, entries, derive(seed, "weights", 0), device)?;
    let batch = training.batch_size;
    let mut objective = Preferences { network: &judge, images, pairs: &params.pairs, batch, seed };
    let values = taught(training, judge.named(), &mut objective, context)?;
    judge.write(&out.join("model"), &values)
}

/// Trains the parameters by an objective, and gives their averages.
fn taught(
    training: &Pretraining,
    named: Vec<(String, Tensor)>,
    objective: &mut dyn Objective,
    context: &mut StageContext,
) -> Result<Vec<(String, Tensor)>> {
    let leaves = named.iter().map(|(_, t)| t.shallow_clone()).collect();
    let optimizer = Muon::new(training.optimizer.clone(), &named, is_plain);
    let mut learner = Learner::new(leaves, optimizer, training.ema.clone(), training.lr_schedule);
    learn(context, &mut learner, objective, &mut Courses::default(), training.steps, 50)?;
    Ok(named.into_iter().zip(learner.average()).map(|((name, _), value)| (name, value.shallow_clone())).collect())
}

/// A CLIP's folder as published: weights, configuration, tokenizer, and how images are prepared.
fn clip_folder(towers: &Towers, values: &[(String, Tensor)], tokenizer: &Path, to: &Path) -> Result<()> {
    processor(tokenizer, to)?;
    towers.write_transformers(to, values)
}

/// The tokenizer's files, and how images are prepared.
fn processor(tokenizer: &Path, to: &Path) -> Result<()> {
    folder::copy(tokenizer, to, |_| true)?;
    let side = opdflow_miniature::SIDE;
    let json = serde_json::json!({"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}});
    write_json(&to.join("preprocessor_config.json"), &json)
}
