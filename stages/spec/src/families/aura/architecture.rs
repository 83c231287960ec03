//! One model of AuraFlow by its configurations.

use super::{AuraConfig, AuraFlow, GUIDANCE, PATCH};
use crate::config::supported;
use crate::family::{Architecture, Configs, Family, Forward, Guided, Sides};
use crate::linears::{Linears, LoraConfig};
use crate::schedule::{Schedule, SchedulerConfig, shifted};
use crate::vae::VaeConfig;
use anyhow::{Result, ensure};

/// Deeper networks are refused before their layers are listed.
const DEEPEST: i64 = 1000;

/// The side of the images that diffusers' `AuraFlowPipeline` makes unless told, in pixels.
const SIDE: i64 = 1024;

/// Network, autoencoder and noise levels.
#[derive(Clone, Debug, PartialEq)]
pub struct AuraModel {
    /// `transformer/`.
    pub transformer: AuraConfig,
    /// `vae/`.
    pub vae: VaeConfig,
    /// `scheduler/`.
    pub scheduler: SchedulerConfig,
}

impl AuraModel {
    /// Of configurations that go together.
    ///
    /// # Errors
    /// One that is not implemented or cannot be; network and autoencoder of other channels; an autoencoder with a shift, which the
    /// pipeline would not apply.
    pub fn new(transformer: AuraConfig, vae: VaeConfig, scheduler: SchedulerConfig) -> Result<AuraModel> {
        transformer.check()?;
        for (key, layers) in [
            ("num_mmdit_layers", transformer.num_mmdit_layers),
            ("num_single_dit_layers", transformer.num_single_dit_layers),
        ] {
            supported("transformer config", key, layers, layers <= DEEPEST, &format!("1 to {DEEPEST}"))?;
        }
        vae.check()?;
        let shift = vae.shift_factor.unwrap_or(0.0);
        supported("vae config", "shift_factor", shift, shift == 0.0, "null: AuraFlow's latents are scaled alone")?;
        scheduler.check_static()?;
        let (c, z) = (transformer.in_channels, vae.latent_channels);
        ensure!(c == z, "the VAE's latents have {z} channels, the transformer takes {c}");
        Ok(AuraModel { transformer, vae, scheduler })
    }

    /// The same by the names of the parts.
    ///
    /// # Errors
    /// As for [`AuraModel::new`]; a part is missing. The published models shift their noise levels, so that a scheduler that is not
    /// there has no default.
    pub fn of(configs: &Configs) -> Result<AuraModel> {
        AuraModel::new(configs.of("transformer")?, configs.of("vae")?, configs.of("scheduler")?)
    }

    /// Tokens of the image.
    fn tokens(&self, latent: [i64; 3]) -> u64 {
        self.transformer.image_tokens(latent[1], latent[2]).max(0).unsigned_abs()
    }

    /// The longest side, in pixels.
    fn most(&self) -> i64 {
        self.transformer.places() * PATCH * self.vae.factor()
    }
}

impl Architecture for AuraModel {
    fn family(&self) -> &'static dyn Family {
        &AuraFlow
    }

    fn linears(&self) -> Linears {
        Linears::named(self.transformer.linears(), AuraFlow.naming())
    }

    /// All models of the family have the same kinds of layers.
    fn kin(&self) -> Linears {
        self.linears()
    }

    /// The eight projections of the joint attention, of which four are those of the single blocks too. Nobody has published a choice
    /// for AuraFlow; these are what Flow-GRPO trains of Stable Diffusion 3.
    fn targets(&self) -> Vec<String> {
        LoraConfig::joint_attention(1, 1.0).target_modules
    }

    fn guided(&self) -> Guided {
        Guided::Classifier
    }

    fn guidance(&self) -> f64 {
        GUIDANCE
    }

    fn sides(&self) -> Sides {
        let most = self.most();
        Sides { unit: self.vae.factor() * PATCH, own: SIDE.min(most), most: Some(most) }
    }

    fn latent(&self, height: i64, width: i64) -> Result<[i64; 3]> {
        self.vae.check_image(height, width)?;
        let (channels, factor) = (self.transformer.in_channels, self.vae.factor());
        let (h, w) = (height / factor, width / factor);
        self.transformer.check_latent(channels, h, w)?;
        Ok([channels, h, w])
    }

    fn schedule(&self, steps: usize, _latent: [i64; 3]) -> Schedule {
        self.scheduler.schedule(steps)
    }

    fn training_sigma(&self, u: f64) -> f64 {
        shifted(u, self.scheduler.shift)
    }

    fn condition(&self, text_tokens: u64) -> u64 {
        text_tokens * self.transformer.joint_attention_dim.max(0).unsigned_abs()
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

    /// AuraFlow v0.2 and v0.3 by their published sizes: 96 x 96 places, SDXL's autoencoder, a shift of 1.73.
    fn published() -> AuraModel {
        let vae = VaeConfig {
            block_out_channels: vec![128, 256, 512, 512],
            down_block_types: vec!["DownEncoderBlock2D".into(); 4],
            up_block_types: vec!["UpDecoderBlock2D".into(); 4],
            layers_per_block: 2,
            scaling_factor: 0.13025,
            ..VaeConfig::default()
        };
        let transformer = AuraConfig { pos_embed_max_size: 9216, ..AuraConfig::default() };
        AuraModel::new(transformer, vae, SchedulerConfig { shift: 1.73, ..SchedulerConfig::default() }).unwrap()
    }

    #[test]
    fn images_become_latents_that_the_network_takes() {
        let model = published();
        assert_eq!(model.sides(), Sides { unit: 16, own: 1024, most: Some(1536) });
        assert_eq!(model.latent(512, 1536).unwrap(), [4, 64, 192]);
        assert!(model.latent(520, 512).unwrap_err().to_string().contains("both sides must be even"));
        assert!(model.latent(512, 1552).unwrap_err().to_string().contains("goes to 192x192"));
        assert!(model.latent(7, 7).is_err() && model.latent(0, 16).is_err());
        assert_eq!(model.condition(256), 256 * 2048);
        let small = AuraModel { transformer: AuraConfig::default(), ..model };
        assert_eq!(small.sides(), Sides { unit: 16, own: 512, most: Some(512) });
    }

    /// The scheduler is given a number of steps alone, and shifts twice.
    #[test]
    fn levels_and_guidance_are_the_pipeline_s() {
        let model = published();
        assert_eq!(model.schedule(4, [4, 128, 128]), Schedule::new(4, 1.73));
        assert_eq!((model.guided().rows(3.5), model.guided().rows(1.0), model.guidance()), (2, 1, 3.5));
        let tokens = |longest: Option<u64>| AuraFlow.text_tokens(&Configs::default(), &|_| longest);
        assert_eq!([tokens(None), tokens(Some(512)), tokens(Some(77))], [256, 256, 77]);
    }

    #[test]
    fn adapters_are_for_the_attentions() {
        let model = published();
        let config = LoraConfig { rank: 2, alpha: 4.0, target_modules: model.targets() };
        let meant = model.linears().iter().filter(|l| config.matches(&l.name)).count();
        assert_eq!(meant, 4 * 8 + 32 * 4);
    }

    #[test]
    fn parts_that_do_not_go_together_are_refused() {
        let AuraModel { transformer, vae, scheduler } = published();
        let refused = |transformer: &AuraConfig, vae: &VaeConfig| {
            AuraModel::new(transformer.clone(), vae.clone(), scheduler.clone()).unwrap_err().to_string()
        };
        let sixteen = VaeConfig { latent_channels: 16, ..vae.clone() };
        let says = refused(&transformer, &sixteen);
        assert!(says.contains("the VAE's latents have 16 channels, the transformer takes 4"), "{says}");
        let shifted = VaeConfig { shift_factor: Some(0.1), ..vae.clone() };
        assert!(refused(&transformer, &shifted).contains("`shift_factor` is 0.1"));
        let deep = AuraConfig { num_single_dit_layers: i64::MAX, ..transformer };
        assert!(refused(&deep, &vae).contains("`num_single_dit_layers`"));
    }
}
