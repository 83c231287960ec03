//! How many floating-point operations a stage has to do, from configurations and parameters, before anything runs. A
//! multiplication and an addition count as two.
//!
//! The networks of the model are counted: products of matrices, attention, convolutions. Norms, activations, adapters and
//! rewards are not: at full size they are a few percent. A step backward through a frozen network is what a step forward is,
//! and twice that for attention, whose derivative goes to both sides of its products.

use crate::adapter::Shape;
use crate::memory::lora_parameters;
use crate::model_folder::Sizes;
use opdflow_flow::mmdit::MmditConfig;
use opdflow_flow::vae::VaeConfig;
use opdflow_stage::Foreseen;

/// A forward of one picture at one noise level.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Forward {
    /// Products with weights.
    products: f64,
    /// Attention.
    attention: f64,
}

/// What the networks of a model cost, each for one picture or one prompt.
pub struct Operations {
    forward: Forward,
    decoding: f64,
    encoding: f64,
    sizes: Sizes,
    /// Side of a picture in pixels.
    side: u64,
}

/// A size of a configuration, as a number to count with.
fn n(size: i64) -> f64 {
    size.max(0) as f64
}

impl Operations {
    /// With the base on the port `base`, if something is known of it; `size` is the side of a picture in pixels, the model's
    /// own if absent. Where `embeddings` is connected, no prompt is encoded.
    #[must_use]
    pub fn of(inputs: &Foreseen, size: Option<i64>) -> Option<Self> {
        let sizes: Sizes = serde_json::from_value(inputs.get("base")?.clone()).ok()?;
        let side = size.unwrap_or(sizes.transformer.sample_size * sizes.vae.factor()).max(1);
        let latent = side / sizes.vae.factor().max(1);
        let text = if inputs.contains_key("embeddings") { 0 } else { sizes.text_parameters };
        Some(Self {
            forward: forward(&sizes.transformer, latent, sizes.text_tokens),
            decoding: decoding(&sizes.vae, n(latent)),
            encoding: 2.0 * text as f64 * sizes.text_tokens as f64,
            side: side.unsigned_abs(),
            sizes,
        })
    }

    /// A forward of one picture at one noise level; of both halves where it is guided.
    #[must_use]
    pub fn forward(&self, guidance: f64) -> f64 {
        (self.forward.products + self.forward.attention) * halves(guidance)
    }

    /// The way back of it, to the adapter; with `recompute` the blocks are computed once more on it.
    #[must_use]
    pub fn backward(&self, guidance: f64, recompute: bool) -> f64 {
        let own = (self.forward.products + 2.0 * self.forward.attention) * halves(guidance);
        own + if recompute { self.forward(guidance) } else { 0.0 }
    }

    /// A gradient: forward and backward.
    #[must_use]
    pub fn gradient(&self, guidance: f64, recompute: bool) -> f64 {
        self.forward(guidance) + self.backward(guidance, recompute)
    }

    /// A picture of a prompt that was encoded.
    #[must_use]
    pub fn picture(&self, steps: usize, guidance: f64) -> f64 {
        steps as f64 * self.forward(guidance) + self.decoding
    }

    /// Encoding of all prompts on `prompts`, `prompts.NAME` and `tasks.NAME`, each once.
    #[must_use]
    pub fn encoding(&self, inputs: &Foreseen) -> f64 {
        self.encoding * prompts(inputs) as f64
    }

    /// Bytes of an adapter of f32.
    #[must_use]
    pub fn adapter(&self, shape: &Shape) -> u64 {
        4 * lora_parameters(&self.sizes.transformer, shape)
    }

    /// Bytes of this many pictures of 8 bits.
    #[must_use]
    pub fn pixels(&self, pictures: u64) -> u64 {
        pictures * 3 * self.side * self.side
    }

    /// Bytes of what the text encoders make of one prompt.
    #[must_use]
    pub fn condition(&self) -> u64 {
        let t = &self.sizes.transformer;
        4 * (self.sizes.text_tokens * t.joint_attention_dim.unsigned_abs() + t.pooled_projection_dim.unsigned_abs())
    }
}

/// What making one picture of every prompt on `prompts.NAME` takes, if the model is known.
#[must_use]
pub fn shots(inputs: &Foreseen, size: Option<i64>, steps: usize, guidance: f64) -> Option<(Operations, f64)> {
    let model = Operations::of(inputs, size)?;
    let one = model.picture(steps, guidance) * prompts(inputs) as f64;
    Some((model, one))
}

/// How many prompts are connected, as far as that is known.
#[must_use]
pub fn prompts(inputs: &Foreseen) -> u64 {
    let is_set = |port: &str| port == "prompts" || port.starts_with("prompts.") || port.starts_with("tasks.");
    inputs.iter().filter(|(port, _)| is_set(port)).filter_map(|(_, set)| crate::provenance::count(set)).sum()
}

/// Rows of a picture in one forward.
fn halves(guidance: f64) -> f64 {
    if guidance == 1.0 { 1.0 } else { 2.0 }
}

/// One row through the transformer, of a latent of this side and this many text tokens.
fn forward(config: &MmditConfig, latent: i64, text: u64) -> Forward {
    let patch = config.patch_size.max(1);
    let (d, image, text) = (n(config.width()), n(latent / patch).powi(2), text as f64);
    let all = image + text;
    let ends = image * d * n(patch).powi(2) * n(config.in_channels + config.channels_out())
        + text * n(config.joint_attention_dim) * d;
    let mut found = Forward { products: 2.0 * ends, attention: 0.0 };
    for layer in 0..config.num_layers {
        let (last, dual) = (layer == config.num_layers - 1, config.dual_attention_layers.contains(&layer));
        // Queries, keys and values of both, image out, feed-forward part of four widths in and out; the modulations once a row.
        let mut weights = 3.0 * all + image + 8.0 * image;
        weights += if last { 0.0 } else { text + 8.0 * text };
        weights += if dual { 9.0 } else { 6.0 } + if last { 2.0 } else { 6.0 };
        found.attention += 4.0 * all * all * d;
        if dual {
            weights += 4.0 * image;
            found.attention += 4.0 * image * image * d;
        }
        found.products += 2.0 * weights * d * d;
    }
    found
}

/// One picture through the decoder, of a latent of this side.
fn decoding(config: &VaeConfig, latent: f64) -> f64 {
    let conv = |side: f64, from: f64, to: f64| 2.0 * 9.0 * side * side * from * to;
    let block = |side: f64, from: f64, to: f64| {
        let aside = if from == to { 0.0 } else { 2.0 * side * side * from * to };
        conv(side, from, to) + conv(side, to, to) + aside
    };
    let widths: Vec<f64> = config.block_out_channels.iter().rev().map(|c| n(*c)).collect();
    let Some(&coarse) = widths.first() else { return 0.0 };
    let pixels = latent * latent;
    let mut sum = conv(latent, n(config.latent_channels), coarse) + 2.0 * block(latent, coarse, coarse);
    if config.mid_block_add_attention {
        sum += 8.0 * pixels * coarse * coarse + 4.0 * pixels * pixels * coarse;
    }
    let (mut side, mut from) = (latent, coarse);
    for (level, &to) in widths.iter().enumerate() {
        for _ in 0..=config.layers_per_block {
            sum += block(side, from, to);
            from = to;
        }
        if level + 1 < widths.len() {
            side *= 2.0;
            sum += conv(side, to, to);
        }
    }
    sum + conv(side, from, n(config.out_channels))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stable Diffusion 3.5 Medium's transformer.
    fn medium() -> MmditConfig {
        MmditConfig {
            num_layers: 24,
            num_attention_heads: 24,
            attention_head_dim: 64,
            caption_projection_dim: 1536,
            dual_attention_layers: (0..13).collect(),
            ..MmditConfig::default()
        }
    }

    /// 2.44 TFLOP a forward at 512 pixels with 333 text tokens.
    #[test]
    fn a_forward_of_the_published_size() {
        let Forward { products, attention } = forward(&medium(), 64, 333);
        assert!(((products + attention) / 1e12 - 2.44).abs() < 0.02, "{products} {attention}");
        // Attention alone: 24 times 4 S^2 d over 1357 tokens, 13 times over 1024.
        let by_hand = 4.0 * 1536.0 * (24.0 * 1357_f64.powi(2) + 13.0 * 1024_f64.powi(2));
        assert!((attention - by_hand).abs() < 1.0, "{attention}");
    }

    /// A network of one block by hand: d = 4, 4 image tokens, 2 text tokens.
    #[test]
    fn a_forward_by_hand() {
        let config = MmditConfig {
            num_layers: 1,
            num_attention_heads: 1,
            attention_head_dim: 4,
            in_channels: 1,
            out_channels: Some(1),
            patch_size: 1,
            joint_attention_dim: 3,
            ..MmditConfig::default()
        };
        let found = forward(&config, 2, 2);
        // In and out 4 x 4 x (1 + 1), text 2 x 3 x 4; q, k, v of 6 tokens, out of 4, feed-forward part of 4, 6 + 2 modulations.
        assert_eq!(found.products, 2.0 * (32.0 + 24.0) + 2.0 * (18.0 + 4.0 + 32.0 + 8.0) * 16.0);
        assert_eq!(found.attention, 4.0 * 36.0 * 4.0);
    }

    /// Without levels to speak of: one level of width 2, one layer, no attention, a latent of 1 channel and side 3.
    #[test]
    fn decoding_by_hand() {
        let config = VaeConfig {
            block_out_channels: vec![2],
            layers_per_block: 1,
            latent_channels: 1,
            mid_block_add_attention: false,
            ..VaeConfig::default()
        };
        let nine = 2.0 * 9.0 * 9.0;
        // In 1 to 2, four blocks of two convolutions 2 to 2, out 2 to 3.
        assert_eq!(decoding(&config, 3.0), nine * (2.0 + 4.0 * 2.0 * 4.0 + 6.0));
        let finer = VaeConfig { block_out_channels: vec![2, 2], ..config };
        // The upper level has four times the pixels: its convolution and two blocks, and the last.
        let level = 4.0 * nine * (4.0 + 2.0 * 2.0 * 4.0 + 6.0);
        assert_eq!(decoding(&finer, 3.0), nine * (2.0 + 4.0 * 2.0 * 4.0) + level);
    }

    /// The full-size recipe: 1000 rounds of NFT, 3000 of GRPO with guidance, 48 x 24 pictures each, ten steps of which nine
    /// are trained, and the student. By hand it is 642 EFLOP at 2.44 TFLOP a forward and twice that a way back.
    #[test]
    fn the_full_size_recipe_is_counted_in_exaflops() {
        let vae = VaeConfig {
            block_out_channels: vec![128, 256, 512, 512],
            layers_per_block: 2,
            latent_channels: 16,
            ..VaeConfig::default()
        };
        // Published as 1.24 T multiplications and additions for the decoder at 512 pixels.
        assert!((decoding(&vae, 64.0) / 2.48e12 - 1.0).abs() < 0.03, "{}", decoding(&vae, 64.0));
        let sizes = Sizes {
            transformer: medium(),
            vae,
            transformer_parameters: 2_200_000_000,
            vae_parameters: 80_000_000,
            text_parameters: 5_600_000_000,
            text_tokens: 333,
        };
        let work = |kind: &str, with: serde_json::Value, ports: &[&str]| {
            let mut inputs = Foreseen::from([("base".to_owned(), serde_json::to_value(&sizes).unwrap())]);
            inputs.extend(ports.iter().map(|p| ((*p).to_owned(), 1000.into())));
            let registry = crate::registry();
            let kind = registry.get(kind).unwrap();
            let params = kind.normalise(&with).unwrap();
            kind.work(&params, std::path::Path::new("."), &inputs).unwrap().unwrap()
        };
        let teacher = |algorithm: &str, iterations: u64, guidance: f64| {
            let sampling = serde_json::json!({"prompts": 48, "group": 24, "steps": 10, "guidance": guidance});
            let with = serde_json::json!({"algorithm": {algorithm: {}}, "reward": {"ocr": 1.0}, "iterations": iterations,
                "sampling": sampling, "size": 512, "candidates_every": 60});
            work("train_teacher", with, &["prompts"])
        };
        let student = work(
            "distill",
            serde_json::json!({"rounds": 1500, "size": 512, "teacher_guidance": {"ocr": 4.5, "looks": 4.5},
                "rollout": {"steps": 10, "prompts": 24, "guidance": 4.5}}),
            &["prompts.geneval", "prompts.ocr", "prompts.looks"],
        );
        let nft = teacher("diffusion_nft", 1000, 1.0);
        let grpo = teacher("grpo_guard", 3000, 4.5);
        let all = nft.operations + grpo.operations + student.operations;
        assert!((all / 642e18 - 1.0).abs() < 0.1, "{all:e}");
        // 17 candidates and the last of 18,776,064 numbers of four bytes.
        assert_eq!(nft.bytes, Some(18 * 4 * 191 * 2 * 1536 * 32));
    }

    #[test]
    fn nothing_is_counted_of_a_model_that_is_not_known() {
        assert!(Operations::of(&Foreseen::from([("prompts.ocr".to_owned(), 5.into())]), None).is_none());
    }
}
