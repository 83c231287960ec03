//! One model of FLUX.1 by its configurations.

use super::{Flux1, FluxConfig, GUIDANCE, LORA_TARGETS, PATCH};
use crate::config::supported;
use crate::family::{Architecture, Configs, Family, Forward, Guided, Sides};
use crate::linears::Linears;
use crate::schedule::{Schedule, SchedulerConfig, shifted};
use crate::vae::VaeConfig;
use anyhow::{Result, ensure};

/// Deeper networks are refused before their layers are listed.
const DEEPEST: i64 = 1000;

/// The side of the models' own images, in pixels.
const SIDE: i64 = 1024;

/// Network, autoencoder and noise levels.
#[derive(Clone, Debug, PartialEq)]
pub struct FluxModel {
    /// `transformer/`.
    pub transformer: FluxConfig,
    /// `vae/`.
    pub vae: VaeConfig,
    /// `scheduler/`.
    pub scheduler: SchedulerConfig,
}

impl FluxModel {
    /// Of configurations that go together.
    ///
    /// # Errors
    /// One that is not implemented or cannot be; network and autoencoder of other channels.
    pub fn new(transformer: FluxConfig, vae: VaeConfig, scheduler: SchedulerConfig) -> Result<FluxModel> {
        transformer.check()?;
        for (key, layers) in
            [("num_layers", transformer.num_layers), ("num_single_layers", transformer.num_single_layers)]
        {
            supported("transformer config", key, layers, layers <= DEEPEST, &format!("1 to {DEEPEST}"))?;
        }
        vae.check()?;
        scheduler.check()?;
        let (c, z) = (transformer.latent_channels(), vae.latent_channels);
        ensure!(c == z, "the VAE's latents have {z} channels, the transformer takes {c}");
        Ok(FluxModel { transformer, vae, scheduler })
    }

    /// The same by the names of the parts.
    ///
    /// # Errors
    /// As for [`FluxModel::new`]; a part is missing. dev and schnell differ in their noise levels, so that a scheduler that is
    /// not there has no default.
    pub fn of(configs: &Configs) -> Result<FluxModel> {
        FluxModel::new(configs.of("transformer")?, configs.of("vae")?, configs.of("scheduler")?)
    }

    /// Tokens of the image.
    fn tokens(&self, latent: [i64; 3]) -> u64 {
        self.transformer.image_tokens(latent[1], latent[2]).max(0).unsigned_abs()
    }
}

impl Architecture for FluxModel {
    fn family(&self) -> &'static dyn Family {
        &Flux1
    }

    fn linears(&self) -> Linears {
        Linears::named(self.transformer.linears(), Flux1.naming())
    }

    /// With the layers of the guidance, which schnell lacks.
    fn kin(&self) -> Linears {
        let kin = FluxConfig { guidance_embeds: true, ..self.transformer.clone() };
        Linears::named(kin.linears(), Flux1.naming())
    }

    /// Those that Flow-GRPO trains.
    fn targets(&self) -> Vec<String> {
        LORA_TARGETS.map(str::to_owned).to_vec()
    }

    /// dev has the scale as an input; schnell has none, and is asked twice where a scale is wanted all the same.
    fn guided(&self) -> Guided {
        if self.transformer.guidance_embeds { Guided::Input } else { Guided::Classifier }
    }

    /// As diffusers' `FluxPipeline` has it for dev, and none for schnell.
    fn guidance(&self) -> f64 {
        if self.transformer.guidance_embeds { GUIDANCE } else { 1.0 }
    }

    fn sides(&self) -> Sides {
        Sides { unit: self.vae.factor() * PATCH, own: SIDE, most: None }
    }

    fn latent(&self, height: i64, width: i64) -> Result<[i64; 3]> {
        self.vae.check_image(height, width)?;
        let (channels, factor) = (self.transformer.latent_channels(), self.vae.factor());
        let (h, w) = (height / factor, width / factor);
        self.transformer.check_latent(channels, h, w)?;
        Ok([channels, h, w])
    }

    /// dev's levels depend on the number of the image's tokens.
    fn schedule(&self, steps: usize, latent: [i64; 3]) -> Schedule {
        self.scheduler.handed(steps, self.transformer.image_tokens(latent[1], latent[2]))
    }

    /// Of dev not shifted, as its scheduler's table is before an image's size is known.
    fn training_sigma(&self, u: f64) -> f64 {
        if self.scheduler.use_dynamic_shifting { u } else { shifted(u, self.scheduler.shift) }
    }

    fn condition(&self, text_tokens: u64) -> u64 {
        self.transformer.condition(text_tokens)
    }

    fn forward(&self, latent: [i64; 3], text_tokens: u64) -> Forward {
        self.transformer.operations(self.tokens(latent), text_tokens)
    }

    fn decoding(&self, latent: [i64; 3]) -> f64 {
        self.vae.decoding_operations(latent)
    }

    fn kept(&self, latent: [i64; 3], text_tokens: u64, gradient_checkpointing: bool) -> u64 {
        self.transformer.kept(self.tokens(latent), text_tokens, gradient_checkpointing)
    }

    fn alive(&self, latent: [i64; 3], text_tokens: u64) -> u64 {
        self.transformer.alive(self.tokens(latent), text_tokens)
    }

    fn decoded(&self, latent: [i64; 3]) -> u64 {
        self.vae.decoded(latent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(guidance_embeds: bool) -> FluxModel {
        let vae = VaeConfig {
            block_out_channels: vec![128, 256, 512, 512],
            down_block_types: vec!["DownEncoderBlock2D".into(); 4],
            up_block_types: vec!["UpDecoderBlock2D".into(); 4],
            layers_per_block: 2,
            latent_channels: 16,
            ..VaeConfig::default()
        };
        let transformer = FluxConfig { guidance_embeds, ..FluxConfig::default() };
        let scheduler = SchedulerConfig { use_dynamic_shifting: guidance_embeds, ..SchedulerConfig::default() };
        FluxModel::new(transformer, vae, scheduler).unwrap()
    }

    #[test]
    fn images_become_latents_that_the_network_takes() {
        let model = published(true);
        assert_eq!(model.sides(), Sides { unit: 16, own: 1024, most: None });
        assert_eq!(model.latent(512, 768).unwrap(), [16, 64, 96]);
        assert!(model.latent(520, 512).unwrap_err().to_string().contains("both sides must be even"));
        assert!(model.latent(7, 7).is_err() && model.latent(0, 16).is_err());
        assert_eq!(model.condition(512), 512 * 4096 + 768);
    }

    /// At 1024 pixels dev's shift is exp(1.15); schnell has none.
    #[test]
    fn the_levels_are_those_of_the_latent() {
        let latent = [16, 128, 128];
        assert_eq!(published(true).schedule(4, latent), Schedule::handed(4, 1.15f64.exp()));
        assert_eq!(published(false).schedule(4, latent).sigmas(), [1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!((published(true).guided().rows(3.5), published(false).guided().rows(1.0)), (1, 1));
        assert_eq!((published(true).guidance(), published(false).guidance()), (3.5, 1.0));
    }

    /// The model cards' lengths, as far as the tokenizer goes.
    #[test]
    fn a_text_has_512_tokens_in_dev_and_256_in_schnell() {
        let tokens = |guidance_embeds: bool, longest: Option<u64>| {
            let transformer = serde_json::json!({ "guidance_embeds": guidance_embeds });
            Flux1.text_tokens(&Configs([("transformer".to_owned(), transformer)].into()), &|_| longest)
        };
        assert_eq!([tokens(true, None), tokens(true, Some(512)), tokens(true, Some(77))], [512, 512, 77]);
        assert_eq!([tokens(false, None), tokens(false, Some(512)), tokens(false, Some(77))], [256, 256, 77]);
    }

    #[test]
    fn parts_that_do_not_go_together_are_refused() {
        let FluxModel { transformer, vae, scheduler } = published(true);
        let four = VaeConfig { latent_channels: 4, ..vae.clone() };
        let error = FluxModel::new(transformer.clone(), four, scheduler.clone()).unwrap_err().to_string();
        assert!(error.contains("the VAE's latents have 4 channels, the transformer takes 16"), "{error}");
        let deep = FluxConfig { num_single_layers: i64::MAX, ..transformer };
        let error = FluxModel::new(deep, vae, scheduler).unwrap_err().to_string();
        assert!(error.contains("`num_single_layers`"), "{error}");
    }
}
