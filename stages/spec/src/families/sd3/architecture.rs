//! One model of Stable Diffusion 3 by its configurations.

use super::{MmditConfig, StableDiffusion3};
use crate::config::supported;
use crate::family::{Architecture, Configs, Family, Forward, Guided, Sides};
use crate::linears::{Linears, LoraConfig};
use crate::schedule::{Schedule, SchedulerConfig, shifted};
use crate::vae::VaeConfig;
use anyhow::{Result, ensure};

/// Deeper networks are refused before their layers are listed.
const DEEPEST: i64 = 1000;

/// The scheduler of all published models of Stable Diffusion 3 and 3.5.
#[must_use]
pub fn published_scheduler() -> SchedulerConfig {
    SchedulerConfig { shift: 3.0, ..SchedulerConfig::default() }
}

/// Network, autoencoder and noise levels.
#[derive(Clone, Debug, PartialEq)]
pub struct Sd3 {
    /// `transformer/`.
    pub transformer: MmditConfig,
    /// `vae/`.
    pub vae: VaeConfig,
    /// `scheduler/`.
    pub scheduler: SchedulerConfig,
}

impl Sd3 {
    /// Of configurations that go together.
    ///
    /// # Errors
    /// One that is not implemented or cannot be; network and autoencoder of other channels.
    pub fn new(transformer: MmditConfig, vae: VaeConfig, scheduler: SchedulerConfig) -> Result<Sd3> {
        transformer.check()?;
        let layers = transformer.num_layers;
        supported("transformer config", "num_layers", layers, layers <= DEEPEST, &format!("1 to {DEEPEST}"))?;
        vae.check()?;
        scheduler.check_static()?;
        let (c, out, z) = (transformer.in_channels, transformer.channels_out(), vae.latent_channels);
        ensure!(c == z, "the VAE's latents have {z} channels, the transformer takes {c}");
        ensure!(c == out, "the transformer takes {c} channels and gives {out}");
        Ok(Sd3 { transformer, vae, scheduler })
    }

    /// The same by the names of the parts. A scheduler that is not there is the one that all published models have.
    ///
    /// # Errors
    /// As for [`Sd3::new`]; a part is missing.
    pub fn of(configs: &Configs) -> Result<Sd3> {
        let scheduler =
            if configs.0.contains_key("scheduler") { configs.of("scheduler")? } else { published_scheduler() };
        Sd3::new(configs.of("transformer")?, configs.of("vae")?, scheduler)
    }

    /// Rows and columns of patches.
    pub(super) fn patches(&self, latent: [i64; 3]) -> [u64; 2] {
        let patch = self.transformer.patch_size.max(1);
        [latent[1], latent[2]].map(|side| (side / patch).max(0).unsigned_abs())
    }
}

impl Architecture for Sd3 {
    fn family(&self) -> &'static dyn Family {
        &StableDiffusion3
    }

    fn linears(&self) -> Linears {
        Linears::named(self.transformer.linears(), StableDiffusion3.naming())
    }

    /// With two blocks at least, of which one has a second attention.
    fn kin(&self) -> Linears {
        let own = &self.transformer;
        let kin = MmditConfig { num_layers: own.num_layers.max(2), dual_attention_layers: vec![0], ..own.clone() };
        Linears::named(kin.linears(), StableDiffusion3.naming())
    }

    /// The eight projections of the joint attention.
    fn targets(&self) -> Vec<String> {
        LoraConfig::joint_attention(1, 1.0).target_modules
    }

    fn guided(&self) -> Guided {
        Guided::Classifier
    }

    /// The papers' scale.
    fn guidance(&self) -> f64 {
        4.5
    }

    fn sides(&self) -> Sides {
        let unit = self.vae.factor() * self.transformer.patch_size;
        let most = self.transformer.pos_embed_max_size.map(|patches| patches.saturating_mul(unit));
        Sides { unit, own: self.transformer.sample_size * self.vae.factor(), most }
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
        let t = &self.transformer;
        text_tokens * t.joint_attention_dim.max(0).unsigned_abs() + t.pooled_projection_dim.max(0).unsigned_abs()
    }

    fn forward(&self, latent: [i64; 3], text_tokens: u64) -> Forward {
        self.transformer.forward_operations(self.patches(latent), text_tokens)
    }

    fn decoding(&self, latent: [i64; 3]) -> f64 {
        self.vae.decoding_operations(latent)
    }

    fn kept(&self, latent: [i64; 3], text_tokens: u64, gradient_checkpointing: bool) -> u64 {
        self.transformer.kept(self.patches(latent), text_tokens, gradient_checkpointing)
    }

    fn alive(&self, latent: [i64; 3], text_tokens: u64) -> u64 {
        self.transformer.alive(self.patches(latent), text_tokens)
    }

    fn decoded(&self, latent: [i64; 3]) -> u64 {
        self.vae.decoded(latent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(in crate::families::sd3) fn medium() -> MmditConfig {
        MmditConfig {
            num_layers: 24,
            num_attention_heads: 24,
            attention_head_dim: 64,
            caption_projection_dim: 1536,
            pos_embed_max_size: Some(384),
            dual_attention_layers: (0..13).collect(),
            qk_norm: Some("rms_norm".into()),
            ..MmditConfig::default()
        }
    }

    fn published() -> VaeConfig {
        VaeConfig {
            block_out_channels: vec![128, 256, 512, 512],
            down_block_types: vec!["DownEncoderBlock2D".into(); 4],
            up_block_types: vec!["UpDecoderBlock2D".into(); 4],
            layers_per_block: 2,
            latent_channels: 16,
            ..VaeConfig::default()
        }
    }

    #[test]
    fn images_become_latents_that_the_network_takes() {
        let model = Sd3::new(medium(), published(), published_scheduler()).unwrap();
        assert_eq!(model.sides(), Sides { unit: 16, own: 1024, most: Some(6144) });
        assert_eq!(model.latent(512, 768).unwrap(), [16, 64, 96]);
        assert!(model.latent(520, 512).unwrap_err().to_string().contains("65x64"));
        assert!(model.latent(7, 7).unwrap_err().to_string().contains("multiples of 8"));
        assert!(model.latent(6160, 16).is_err() && model.latent(0, 16).is_err());
        assert_eq!(model.schedule(10, [16, 64, 64]), Schedule::new(10, 3.0));
        assert_eq!(model.condition(333), 333 * 4096 + 2048);
    }

    #[test]
    fn parts_that_do_not_go_together_are_refused() {
        let of = |vae, transformer| Sd3::new(transformer, vae, published_scheduler()).unwrap_err().to_string();
        let four = VaeConfig { latent_channels: 4, ..published() };
        assert!(of(four, medium()).contains("the VAE's latents have 4 channels, the transformer takes 16"));
        let eight = MmditConfig { out_channels: Some(8), ..medium() };
        assert!(of(published(), eight).contains("takes 16 channels and gives 8"));
        let deep = MmditConfig { num_layers: i64::MAX, ..medium() };
        assert!(of(published(), deep).contains("`num_layers`"));
    }

    /// The papers' adapter on SD3.5 Medium: 191 matrices of 1536 x 1536.
    #[test]
    fn the_papers_adapter_is_on_191_layers() {
        let model = Sd3::new(medium(), published(), published_scheduler()).unwrap();
        let wanted = LoraConfig { rank: 32, alpha: 64.0, target_modules: model.targets() };
        let (all, kin) = (model.linears(), model.kin());
        let targets: Vec<_> = all.iter().filter(|l| wanted.matches(&l.name)).collect();
        assert_eq!((targets.len(), targets[0].d_in, targets[0].d_out), (191, 1536, 1536));
        assert!(kin.iter().any(|l| l.name.ends_with("attn2.to_q")));
    }
}
