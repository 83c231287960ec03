//! What the benches of this folder compute with: a network of the miniature's size, prompts that nobody reads, and the
//! processor's clock.
#![allow(dead_code)]

use anyhow::Result;
use opdflow_models::condition::Condition;
use opdflow_models::families::sd3::{Mmdit, MmditConfig, Sd3, Sd3Network, published_scheduler};
use opdflow_models::lora::{Lora, LoraConfig};
use opdflow_models::rng::normal;
use opdflow_models::vae::VaeConfig;
use opdflow_models::weights::Weights;
use opdflow_ranks::Ranks;
use opdflow_training::task::{RewardValues, Sample, Task, of_parts};
use opdflow_training::teacher::Canvas;
use std::ops::Range;
use std::time::Duration;
use tch::{Device, Kind, Tensor};

pub const CPU: Device = Device::Cpu;

/// Latents of the miniature, as many rows at once as its stages take.
pub const CANVAS: Canvas =
    Canvas { shape: [16, 8, 8], device: CPU, micro: 128, gradient_checkpointing: false, ranks: Ranks::alone() };

/// The miniature's transformer with random weights: 16 tokens of an image, 19 of a prompt, width 96.
pub fn network() -> Sd3Network {
    let config = MmditConfig {
        sample_size: 8,
        patch_size: 2,
        in_channels: 16,
        out_channels: Some(16),
        num_layers: 4,
        attention_head_dim: 32,
        num_attention_heads: 3,
        joint_attention_dim: 96,
        caption_projection_dim: 96,
        pooled_projection_dim: 64,
        pos_embed_max_size: Some(8),
        dual_attention_layers: vec![0],
        qk_norm: Some("rms_norm".into()),
    };
    let weights = Weights::new_dense(1, CPU);
    let transformer = Mmdit::new(&weights.root(), &config).expect("a network of these sizes");
    weights.set_trainable(false, |_| true);
    let vae = VaeConfig { latent_channels: 16, ..VaeConfig::default() };
    let model = Sd3::new(config, vae, published_scheduler()).expect("parts that go together");
    Sd3Network { model, transformer }
}

/// A fresh adapter of rank 16 on every layer of attention, which takes gradients.
pub fn adapter(model: &Sd3Network, seed: u64) -> Lora {
    Lora::init(&LoraConfig::joint_attention(16, 32.0), &model.transformer.linears(), seed, CPU)
        .expect("an adapter of the network")
}

/// Prompts as the network takes them.
pub fn embedded(count: i64, seed: u64) -> Condition {
    let (context, pooled) = (normal(&[count, 19, 96], seed, CPU), normal(&[count, 64], seed + 1, CPU));
    Condition::new([("context", context), ("pooled", pooled)]).expect("rows")
}

/// Prompts whose images are scored by the mean of their latents, which costs nothing.
pub struct Prompts(pub Condition);

impl Task for Prompts {
    fn name(&self) -> &str {
        "prompts"
    }
    fn prompts(&self) -> usize {
        self.0.len() as usize
    }
    fn condition(&self, prompts: &[usize]) -> Result<Condition> {
        Ok(self.0.rows(&prompts.iter().map(|&p| p as i64).collect::<Vec<_>>()))
    }
    fn score(&mut self, _: &[usize], _: Range<usize>, sample: &mut Sample) -> Result<Vec<RewardValues>> {
        let mean = |latents: &Tensor| Ok(Vec::try_from(latents.flatten(1, -1).mean_dim(1, false, Kind::Double))?);
        let values = of_parts(sample, mean)?;
        Ok(vec![RewardValues { name: "mean".into(), weight: 1.0, values }])
    }
}

/// The processor time of `n` rounds: on a machine with other work the wall's says little.
pub fn busy(n: u64, mut round: impl FnMut()) -> Duration {
    let now = || {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: it writes to the one struct that it is given.
        let done = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
        assert_eq!(done, 0, "the process has a clock");
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let start = now();
    (0..n).for_each(|_| round());
    now() - start
}
