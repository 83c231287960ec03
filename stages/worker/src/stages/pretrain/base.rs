//! `pretrain_base` at work: text encoders and transformer of the miniature by flow matching.

use super::{captions, images, place_layout};
use crate::runtime::images::to_tensor;
use crate::runtime::learn::{Courses, learn};
use crate::runtime::pipeline::broken_image;
use crate::runtime::unfit::unfit;
use anyhow::{Context as _, Result};
use opdflow_api::{Fault, StageContext};
use opdflow_kinds::stages::pretrain::base::Params;
use opdflow_models::condition::{Condition, Tokens};
use opdflow_models::family::{Family, Role};
use opdflow_models::finite::first_broken_row;
use opdflow_models::network::{Autoencoder, Input as Asked, Network, Text};
use opdflow_models::rng::{Choices, derive};
use opdflow_models::weights::{Weights, read_tensors, save_tensors};
use opdflow_models::{families, rng};
use opdflow_training::muon::Muon;
use opdflow_training::objective::{Objective, Report};
use opdflow_training::task::prompts_of_round;
use opdflow_training::train::Learner;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The parts that are trained, with the folder each is saved to: the network, then the text encoders.
fn trained(family: &dyn Family) -> Vec<&'static str> {
    let of = |role: Role| family.parts().iter().filter(move |part| part.role == role).map(|part| part.name);
    of(Role::Network).chain(of(Role::Encoder)).collect()
}

/// Trains text encoders and transformer from nothing by flow matching.
///
/// # Errors
/// A fault says whose it is; anything else is a bug.
pub fn run(params: Params, context: &mut StageContext) -> Result<()> {
    let device = crate::runtime::pipeline::device(context)?;
    let out = context.output("model");
    place_layout(&params.layout, &context.job().folder.clone(), &out)?;
    opdflow_kinds::model::folder::replace(&context.input("vae")?, &out.join("vae"))?;
    let folder = families::open(&out, None).map_err(|e| unfit(&e))?;
    let autoencoder = folder.autoencoder(device).map_err(|e| unfit(&e))?;
    let seed = context.job().seed;
    let names = trained(folder.architecture().map_err(|e| unfit(&e))?.family());
    let parts: Vec<Weights> =
        (0..names.len()).map(|i| Weights::new_random(derive(seed, "part", i as u64), device)).collect();
    let of = |part: &str| names.iter().position(|n| *n == part).map(|i| &parts[i]);
    let (network, text) = folder.fresh(&of)?;

    let named: Vec<(String, Tensor)> = names
        .iter()
        .zip(&parts)
        .flat_map(|(part, w)| w.trainable().into_iter().map(move |(n, t)| (format!("{part}/{n}"), t)))
        .collect();
    let training = &params.training;
    let data = Data::draw(&params, seed, &*autoencoder, &*text, device, context)?;
    let mut objective = FlowMatching {
        network: &*network,
        text: &*text,
        data,
        batch: training.batch_size,
        drop: params.drop_caption,
        seed,
        device,
    };
    if let Some(start) = context.maybe_input("start")? {
        go_on_from(&start, &names, &named)?;
    }
    let leaves = named.iter().map(|(_, t)| t.shallow_clone()).collect();
    let optimizer = Muon::new(training.optimizer.clone(), &named, is_plain);
    let mut learner = Learner::new(leaves, optimizer, training.ema.clone(), training.lr_schedule);
    learn(context, &mut learner, &mut objective, &mut Courses::default(), training.steps, 50)?;

    for (part, weights) in names.iter().zip(&parts) {
        let prefix = format!("{part}/");
        let mut tensors: Vec<(String, Tensor)> = named
            .iter()
            .zip(learner.average())
            .filter_map(|((n, _), a)| n.strip_prefix(&prefix).map(|n| (n.to_owned(), a.shallow_clone())))
            .collect();
        // Buffers, such as the positional table, are saved with the parameters, as upstream does.
        tensors.extend(weights.tensors().into_iter().filter(|(_, t)| !t.requires_grad()));
        save_tensors(out.join(part).join(file(part)), &tensors, Kind::Half).map_err(|e| unfit(&e))?;
    }
    Ok(())
}

/// The file of a part's weights, in its folder.
fn file(part: &str) -> &'static str {
    if part == "transformer" { "diffusion_pytorch_model.safetensors" } else { "model.safetensors" }
}

/// Gives the parameters, named `part/name`, the values that they have in a model folder.
///
/// # Errors
/// The folder's model has other parameters than this layout's.
fn go_on_from(folder: &Path, parts: &[&str], named: &[(String, Tensor)]) -> Result<()> {
    for part in parts {
        let read = read_tensors(folder.join(part).join(file(part)), Device::Cpu, Some(Kind::Float));
        let (values, _) = read.map_err(|e| unfit(&e))?;
        let own = named.iter().filter_map(|(n, t)| Some((n.strip_prefix(part)?.strip_prefix('/')?, t)));
        for (name, parameter) in own {
            let Some(value) = values.get(name).filter(|v| v.size() == parameter.size()) else {
                let there = values.get(name).map_or_else(|| "nothing".to_owned(), |v| format!("{:?}", v.size()));
                let what = format!("`start` is of another layout: {part} has {there} for `{name}`");
                return Err(Fault::user(format!("{what}, expected {:?}", parameter.size())).into());
            };
            tch::no_grad(|| parameter.shallow_clone().copy_(value));
        }
    }
    Ok(())
}

/// What AdamW moves and Muon does not: everything outside the blocks of the transformer, and their modulation layers,
/// which start at zero.
fn is_plain(name: &str) -> bool {
    !name.contains("transformer_blocks") || name.contains("norm1")
}

/// Latents with the tokens of their captions, drawn once.
struct Data {
    /// `[N, C, h, w]`, scaled as the transformer sees them.
    latents: Tensor,
    tokens: Tokens,
    empty: Tokens,
}

impl Data {
    fn draw(
        params: &Params,
        seed: u64,
        autoencoder: &dyn Autoencoder,
        text: &dyn Text,
        device: Device,
        context: &StageContext,
    ) -> Result<Self> {
        let _off = tch::no_grad_guard();
        let prompts = captions(&params.mix.parse()?, params.training.images, seed);
        let mut latents = Vec::new();
        for start in (0..prompts.len()).step_by(256) {
            let drawn = images(&prompts, seed, start..(start + 256).min(prompts.len()), &params.wrong)?;
            latents.push(autoencoder.encode(&to_tensor(&drawn).to_device(device)));
            if let Some(row) = latents.last().and_then(first_broken_row) {
                return Err(broken_image("latent", start + row, &prompts[start + row].text));
            }
            context.go_on(0)?;
        }
        let words: Vec<&str> = prompts.iter().map(|p| p.text.as_str()).collect();
        let tokens = text.tokens(&words).context("tokenising the captions")?;
        Ok(Self { latents: Tensor::cat(&latents, 0), tokens, empty: text.tokens(&[""])? })
    }
}

/// Flow matching: the network learns `noise - image` at `x_t = (1 - t) image + t noise`, with logit-normal times
/// pushed through the schedule's own shift, so that training sees the levels that sampling visits.
struct FlowMatching<'a> {
    network: &'a dyn Network,
    text: &'a dyn Text,
    data: Data,
    batch: usize,
    drop: f64,
    seed: u64,
    device: Device,
}

impl FlowMatching<'_> {
    fn condition(&self, index: &Tensor, round: u64) -> Result<Condition> {
        let mut choices = Choices::new(derive(self.seed, "drop", round));
        let kept: Vec<f32> = (0..self.batch).map(|_| if choices.unit() < self.drop { 0.0 } else { 1.0 }).collect();
        let kept = Tensor::from_slice(&kept).to_kind(Kind::Int64);
        self.text.encode(&self.data.tokens.select(index).mixed(&self.data.empty, &kept)?)
    }
}

impl Objective for FlowMatching<'_> {
    fn accumulate(&mut self, round: u64, _update: usize) -> Result<Report> {
        let total = self.data.latents.size()[0] as usize;
        let chosen: Vec<i64> =
            prompts_of_round(total, self.batch, self.seed, round).into_iter().map(|i| i as i64).collect();
        let index = Tensor::from_slice(&chosen);
        let x0 = self.data.latents.index_select(0, &index);
        let condition = self.condition(&index, round)?;
        let noise = rng::normal(&x0.size(), derive(self.seed, "noise", round), self.device);
        let u = rng::normal(&[self.batch as i64], derive(self.seed, "times", round), self.device).sigmoid();
        let shape = x0.size();
        let t = self.network.levels(&u, [shape[1], shape[2], shape[3]]);
        let at = t.view([-1, 1, 1, 1]);
        let xt = &x0 + &at * (&noise - &x0);
        let asked = Asked { state: &xt, sigma: &t, condition: &condition, guidance: None };
        let v = self.network.velocity(&asked, None);
        let loss = (v - (&noise - &x0)).square().mean(Kind::Float);
        loss.backward();
        Ok(vec![("loss".into(), loss.double_value(&[]))])
    }
}
