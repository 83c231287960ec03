//! `pretrain_vae` at work: an autoencoder of the miniature world.

use super::{captions, image, place_layout};
use crate::runtime::images::to_tensor;
use crate::runtime::learn::{Courses, learn};
use crate::runtime::unfit::unfit;
use anyhow::{Context as _, Result};
use opdflow_api::{Fault, StageContext};
use opdflow_kinds::stages::pretrain::Wrong;
use opdflow_kinds::stages::pretrain::vae::Params;
use opdflow_miniature::Mix;
use opdflow_models::config::read_json;
use opdflow_models::rng;
use opdflow_models::vae::{Vae, VaeConfig};
use opdflow_models::weights::{Weights, save_tensors};
use opdflow_training::muon::Muon;
use opdflow_training::objective::{Objective, Report};
use opdflow_training::task::prompts_of_round;
use opdflow_training::train::Learner;
use tch::{Device, Kind, Tensor, no_grad};

/// Trains an autoencoder from nothing and measures scale and shift of its latents.
///
/// # Errors
/// A fault says whose it is; anything else is a bug.
pub fn run(params: Params, context: &mut StageContext) -> Result<()> {
    let device = crate::runtime::pipeline::device(context)?;
    let layout = context.output("vae").with_extension("layout");
    place_layout(&params.layout, &context.job().folder.clone(), &layout)?;
    let mut config: VaeConfig = read_json(&layout.join("vae/config.json"))?;
    let (seed, training) = (context.job().seed, &params.training);
    let weights = Weights::new_random(seed, device);
    let vae = Vae::new(&weights.root(), &config)?;
    start_linear(&weights.tensors());
    let prompts = captions(&Mix::all(), training.images, seed);
    let mut objective = Autoencode {
        vae: &vae,
        prompts: &prompts,
        batch: training.batch_size,
        l1: params.l1,
        kl: params.kl,
        seed,
        device,
    };
    let named = weights.trainable();
    let leaves: Vec<Tensor> = named.iter().map(|(_, t)| t.shallow_clone()).collect();
    let optimizer = Muon::new(training.optimizer.clone(), &named, |_| false);
    let mut learner = Learner::new(leaves, optimizer, training.ema.clone(), training.lr_schedule);
    learn(context, &mut learner, &mut objective, &mut Courses::default(), training.steps, 50)?;
    let averaged: Vec<(String, Tensor)> =
        named.iter().zip(learner.average()).map(|((n, _), a)| (n.clone(), a.shallow_clone())).collect();
    no_grad(|| {
        for ((_, own), (_, average)) in named.iter().zip(&averaged) {
            own.shallow_clone().copy_(average);
        }
    });
    // Scale and shift bring the latents to mean 0 and standard deviation 1, as SD3's own do.
    let (mean, std) = objective.latent_statistics()?;
    if !(mean.is_finite() && std.is_finite() && std > 0.0) {
        let what = format!("the latents have mean {mean} and standard deviation {std}: they cannot be scaled");
        return Err(Fault::not_finite(what).help("lower the learning rate, or train for more steps").into());
    }
    config.shift_factor = Some(mean);
    config.scaling_factor = 1.0 / std;
    let out = context.output("vae");
    std::fs::create_dir_all(&out).context("making the output folder")?;
    let mut json: serde_json::Value = read_json(&layout.join("vae/config.json"))?;
    json["scaling_factor"] = config.scaling_factor.into();
    json["shift_factor"] = mean.into();
    std::fs::write(out.join("config.json"), serde_json::to_string_pretty(&json)? + "\n")
        .context("writing the configuration")?;
    save_tensors(out.join("diffusion_pytorch_model.safetensors"), &averaged, Kind::Half).map_err(|e| unfit(&e))?;
    std::fs::remove_dir_all(&layout).context("clearing the layout")
}

/// Lets an autoencoder begin as a nearly linear map: residual branches at zero, upsamplers as identities, every other
/// convolution orthogonal. It reaches in hundreds of steps what PyTorch's default start needs thousands for.
fn start_linear(tensors: &[(String, Tensor)]) {
    no_grad(|| {
        for (name, tensor) in tensors {
            let mut tensor = tensor.shallow_clone();
            let size = tensor.size();
            if name.ends_with(".conv2.weight") || name.ends_with("to_out.0.weight") || name.ends_with(".bias") {
                let _ = tensor.zero_();
            } else if name.contains("upsamplers") {
                let _ = tensor.zero_();
                for c in 0..size[0].min(size[1]) {
                    let _ = tensor.get(c).get(c).get(size[2] / 2).get(size[3] / 2).fill_(1.0);
                }
            } else if size.len() >= 2 {
                let flat = tensor.flatten(1, -1);
                let (rows, columns) = (flat.size()[0], flat.size()[1]);
                let (q, _) = Tensor::linalg_qr(&if rows >= columns { flat } else { flat.tr() }, "reduced");
                let q = if rows >= columns { q } else { q.tr() };
                let gain = (columns as f64 / rows as f64).sqrt().clamp(1.0, 2.0);
                tensor.copy_(&(q * gain).view_as(&tensor));
            }
        }
    });
}

/// Reconstruction of images of the world.
struct Autoencode<'a> {
    vae: &'a Vae,
    prompts: &'a [opdflow_miniature::Prompt],
    batch: usize,
    l1: f64,
    kl: f64,
    seed: u64,
    device: Device,
}

impl Autoencode<'_> {
    fn images(&self, chosen: &[usize]) -> Result<Tensor> {
        let drawn = chosen
            .iter()
            .map(|&i| image(&self.prompts[i], self.seed, i as u64, &Wrong::NONE))
            .collect::<Result<Vec<_>>>()?;
        Ok(to_tensor(&drawn).to_device(self.device))
    }

    /// Mean and standard deviation of the latents of the first 512 images.
    fn latent_statistics(&self) -> Result<(f64, f64)> {
        let _off = tch::no_grad_guard();
        let mut latents = Vec::new();
        for chunk in (0..self.prompts.len().min(512)).collect::<Vec<_>>().chunks(64) {
            latents.push(self.vae.encode(&self.images(chunk)?).mode());
        }
        let all = Tensor::cat(&latents, 0);
        Ok((all.mean(Kind::Float).double_value(&[]), all.std(true).double_value(&[])))
    }
}

impl Objective for Autoencode<'_> {
    fn accumulate(&mut self, round: u64, _update: usize) -> Result<Report> {
        let chosen = prompts_of_round(self.prompts.len(), self.batch, self.seed, round);
        let images = self.images(&chosen)?;
        let posterior = self.vae.encode(&images);
        let noise = rng::normal(&posterior.mean.size(), rng::derive(self.seed, "latent", round), self.device);
        let error = self.vae.decode(&posterior.sample(&noise)) - &images;
        let square = error.square().mean(Kind::Float);
        let elements = posterior.mean.size()[1..].iter().product::<i64>() as f64;
        let kl = posterior.kl().mean(Kind::Float) / elements;
        let loss = &square + error.abs().mean(Kind::Float) * self.l1 + &kl * self.kl;
        loss.backward();
        // Images span 2: peak signal-to-noise ratio is 10 log10(4 / error).
        let psnr = 10.0 * (4.0 / square.double_value(&[]).max(1e-12)).log10();
        Ok(vec![("psnr".into(), psnr), ("kl".into(), kl.double_value(&[])), ("loss".into(), loss.double_value(&[]))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_learns() {
        let config = VaeConfig {
            down_block_types: vec!["DownEncoderBlock2D".into(); 2],
            up_block_types: vec!["UpDecoderBlock2D".into(); 2],
            block_out_channels: vec![4, 8],
            norm_num_groups: 2,
            latent_channels: 4,
            use_quant_conv: false,
            use_post_quant_conv: false,
            ..VaeConfig::default()
        };
        let weights = Weights::new_random(1, Device::Cpu);
        let vae = Vae::new(&weights.root(), &config).unwrap();
        start_linear(&weights.tensors());
        let prompts = captions(&Mix::all(), 32, 1);
        let mut objective =
            Autoencode { vae: &vae, prompts: &prompts, batch: 4, l1: 0.1, kl: 1e-6, seed: 1, device: Device::Cpu };
        let named = weights.trainable();
        let leaves = named.iter().map(|(_, t)| t.shallow_clone()).collect();
        let mut learner = Learner::new(
            leaves,
            Muon::new(Default::default(), &named, |_| false),
            Default::default(),
            Default::default(),
        );
        let psnr: Vec<f64> = (0..30).map(|_| learner.round(&mut objective).unwrap()[0].1).collect();
        assert!(psnr[25..].iter().sum::<f64>() / 5.0 > psnr[0] + 2.0, "{psnr:?}");
    }
}
