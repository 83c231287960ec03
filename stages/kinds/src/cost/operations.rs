//! How many floating-point operations a stage has to do, from configurations and parameters, before anything runs. A
//! multiplication and an addition count as two.
//!
//! The networks of the model are counted, by their family (`Architecture`): products of matrices, attention, convolutions. Norms, activations, adapters and
//! rewards are not: at full size they are a few percent. A step backward through a frozen network is what a step forward is,
//! and twice that for attention, whose derivative goes to both sides of its products.

use crate::cost::memory::lora_parameters;
use crate::model::model_fit;
use crate::model::model_fit::Model;
use crate::model::sampling::ImageSampling;
use crate::model::shape::Shape;
use crate::prompt::provenance;
use opdflow_api::Foreseen;
use opdflow_spec::family::{Architecture, Forward, Guided, Role};
use std::ops::Deref;

/// What the passes of one image through network and autoencoder cost. The plan counts by it before a run, and a training counts by
/// it what it did.
#[derive(Clone, Copy, Debug)]
pub struct Passes {
    forward: Forward,
    decoding: f64,
    guided: Guided,
}

/// What the networks of a model cost, each for one image or one prompt.
pub struct Operations {
    passes: Passes,
    encoding: f64,
    model: Model,
    /// Side of an image in pixels.
    side: u64,
}

impl Passes {
    /// Of a model with latents of this size, and so many tokens of text.
    #[must_use]
    pub fn of(model: &dyn Architecture, latent: [i64; 3], tokens: u64) -> Self {
        Self { forward: model.forward(latent, tokens), decoding: model.decoding(latent), guided: model.guided() }
    }

    /// Rows of an image in one forward.
    fn halves(&self, guidance: f64) -> f64 {
        self.guided.rows(guidance) as f64
    }

    /// A forward of one image at one noise level; of both halves where it is guided.
    #[must_use]
    pub fn forward(&self, guidance: f64) -> f64 {
        (self.forward.products + self.forward.attention) * self.halves(guidance)
    }

    /// Its backward pass, to the adapter; with `gradient_checkpointing` the blocks are computed once more on it.
    #[must_use]
    pub fn backward(&self, guidance: f64, gradient_checkpointing: bool) -> f64 {
        let own = (self.forward.products + 2.0 * self.forward.attention) * self.halves(guidance);
        own + if gradient_checkpointing { self.forward(guidance) } else { 0.0 }
    }

    /// A gradient: forward and backward.
    #[must_use]
    pub fn gradient(&self, guidance: f64, gradient_checkpointing: bool) -> f64 {
        self.forward(guidance) + self.backward(guidance, gradient_checkpointing)
    }

    /// An image of a prompt that was encoded.
    #[must_use]
    pub fn image(&self, steps: usize, guidance: f64) -> f64 {
        steps as f64 * self.forward(guidance) + self.decoding
    }
}

impl Deref for Operations {
    type Target = Passes;
    fn deref(&self) -> &Passes {
        &self.passes
    }
}

impl Operations {
    /// With the base on the port `base`, if something is known of it and it makes images of this side in pixels, the
    /// model's own if absent. Where `embeddings` is connected, no prompt is encoded.
    #[must_use]
    pub fn of(inputs: &Foreseen, size: Option<i64>) -> Option<Self> {
        let model = model_fit::model(inputs)?;
        let side = size.unwrap_or(model.architecture.sides().own);
        let latent = model.architecture.latent(side, side).ok()?;
        let tokens = model.sizes.text_tokens;
        let text = if inputs.contains_key("embeddings") { 0 } else { model.sizes.parameters(Role::Encoder) };
        Some(Self {
            passes: Passes::of(&*model.architecture, latent, tokens),
            encoding: 2.0 * text as f64 * tokens as f64,
            side: side.unsigned_abs(),
            model,
        })
    }

    /// Encoding of all prompts that are connected, each once.
    #[must_use]
    pub fn encoding(&self, inputs: &Foreseen) -> f64 {
        self.encoding * prompts(inputs) as f64
    }

    /// The base.
    #[must_use]
    pub fn base(&self) -> &dyn Architecture {
        &*self.model.architecture
    }

    /// Bytes of an adapter of f32.
    #[must_use]
    pub fn adapter(&self, shape: &Shape) -> u64 {
        4 * lora_parameters(&*self.model.architecture, shape)
    }

    /// Bytes of this many images of 8 bits.
    #[must_use]
    pub fn pixels(&self, images: u64) -> u64 {
        images * 3 * self.side * self.side
    }

    /// Bytes of what the text encoders make of one prompt.
    #[must_use]
    pub fn condition(&self) -> u64 {
        4 * self.model.architecture.condition(self.model.sizes.text_tokens)
    }
}

/// What making one image of every prompt on `prompts.NAME` takes, if the model is known.
#[must_use]
pub fn operations_of_sampling(
    inputs: &Foreseen,
    size: Option<i64>,
    sampling: &ImageSampling,
) -> Option<(Operations, f64)> {
    let model = Operations::of(inputs, size)?;
    let one = model.image(sampling.num_inference_steps, sampling.guidance_scale) * prompts(inputs) as f64;
    Some((model, one))
}

/// How many prompts are connected, as far as that is known.
#[must_use]
pub fn prompts(inputs: &Foreseen) -> u64 {
    ["prompts", "tasks", "validation", "validations"].into_iter().map(|port| prompts_on(inputs, port)).sum()
}

/// How many of them are connected to this port, or below it.
#[must_use]
pub fn prompts_on(inputs: &Foreseen, port: &str) -> u64 {
    provenance::on(inputs, port).filter_map(|(_, set)| provenance::count(set)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::model_folder::Sizes;
    use crate::stages::{distill, train_teacher};
    use serde_json::json;

    /// The full-size recipe: 1000 rounds of NFT, 3000 of GRPO with guidance, 48 x 24 images each, ten steps of which nine
    /// are trained, and the student. By hand it is 642 EFLOP at 2.44 TFLOP a forward and twice that a backward pass.
    #[test]
    fn the_full_size_recipe_is_counted_in_exaflops() {
        let levels = |block: &'static str| vec![block; 4];
        let transformer = serde_json::json!({"num_layers": 24, "num_attention_heads": 24, "attention_head_dim": 64,
            "caption_projection_dim": 1536, "pos_embed_max_size": 384, "dual_attention_layers": (0..13).collect::<Vec<_>>()});
        let vae = serde_json::json!({"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 16,
            "down_block_types": levels("DownEncoderBlock2D"), "up_block_types": levels("UpDecoderBlock2D")});
        let parts = [("transformer", 2_200_000_000), ("vae", 80_000_000), ("text_encoder_3", 5_600_000_000)];
        let sizes = Sizes {
            family: "StableDiffusion3Pipeline".to_owned(),
            configs: [("transformer".to_owned(), transformer), ("vae".to_owned(), vae)].into(),
            parameters: parts.map(|(part, count)| (part.to_owned(), count)).into(),
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
            let sampling = serde_json::json!({"prompts": 48, "group_size": 24, "num_inference_steps": 10, "guidance_scale": guidance});
            let with = serde_json::json!({"algorithm": {algorithm: {}}, "reward": {"ocr": 1.0}, "iterations": iterations,
                "sampling": sampling, "size": 512, "candidates_every": 60});
            work("train_teacher", with, &["prompts"])
        };
        let student = work(
            "distill",
            serde_json::json!({"rounds": 1500, "size": 512, "teacher_guidance_scale": {"ocr": 4.5, "looks": 4.5},
                "rollout": {"num_inference_steps": 10, "prompts": 24, "guidance_scale": 4.5}}),
            &["prompts.geneval", "prompts.ocr", "prompts.looks"],
        );
        let nft = teacher("diffusion_nft", 1000, 1.0);
        let grpo = teacher("grpo_guard", 3000, 4.5);
        let all = nft.operations + grpo.operations + student.operations;
        println!("{:e} {:e} {:e}", nft.operations, grpo.operations / 3.0, student.operations);
        assert!((all / 642e18 - 1.0).abs() < 0.1, "{all:e}");
        // 17 candidates and the last of 18,776,064 numbers of four bytes.
        assert_eq!(nft.bytes, Some(18 * 4 * 191 * 2 * 1536 * 32));
    }

    /// Rounds of a network whose forward is 2096 of products and 576 of attention (a block of width 4 on 4 patches and 2 tokens), with a
    /// decoder of 1000: a forward is 2672, a backward pass 2096 + 2 x 576 = 3248, a gradient 5920.
    #[test]
    fn rounds_by_hand() {
        let forward = Forward { products: 2096.0, attention: 576.0 };
        let passes = Passes { forward, decoding: 1000.0, guided: Guided::Classifier };
        let teacher = |algorithm: serde_json::Value, guidance: f64, recomputed: bool| {
            // 3 prompts with 2 images each, 4 steps of which the last is not trained.
            let sampling = json!({"prompts": 3, "group_size": 2, "num_inference_steps": 4, "guidance_scale": guidance});
            let with = json!({"algorithm": algorithm, "reward": {"looks": 1.0}, "iterations": 1, "sampling": sampling});
            serde_json::from_value::<train_teacher::Params>(with).unwrap().operations(&passes, recomputed)
        };
        let plain = |algorithm| teacher(algorithm, 1.0, false);
        // An image is 4 x 2672 + 1000 = 11,688, and three gradients.
        assert_eq!(plain(json!({"grpo_guard": {}})), 6.0 * (11_688.0 + 3.0 * 5920.0));
        assert_eq!(plain(json!({"grpo_guard": {"updates": 1}})), 176_688.0, "updates share the images");
        // The base beside each gradient, for the divergence; of DiffusionNFT the old policy too.
        assert_eq!(plain(json!({"flow_grpo": {}})), 6.0 * (11_688.0 + 3.0 * (5920.0 + 2672.0)));
        assert_eq!(plain(json!({"diffusion_nft": {}})), 6.0 * (11_688.0 + 3.0 * (5920.0 + 2.0 * 2672.0)));
        assert_eq!(plain(json!({"diffusion_nft": {"timesteps": 1}})), 6.0 * (11_688.0 + 5920.0 + 2.0 * 2672.0));
        assert_eq!(plain(json!({"grpo_guard": {"timesteps": 2}})), 6.0 * (11_688.0 + 2.0 * 5920.0));
        // Guided, a pass is twice as much, and the decoder as it was.
        assert_eq!(teacher(json!({"grpo_guard": {}}), 4.5, false), 6.0 * (4.0 * 5344.0 + 1000.0 + 3.0 * 11_840.0));
        // Computed again, a gradient is one forward more.
        assert_eq!(teacher(json!({"grpo_guard": {}}), 1.0, true), 6.0 * (11_688.0 + 3.0 * 8592.0));

        let student = |objective: serde_json::Value| {
            let rollout = json!({"prompts": 5, "num_inference_steps": 4, "guidance_scale": 1.0});
            let with = json!({"rounds": 1, "rollout": rollout, "objective": objective, "teacher_guidance_scale": {"ocr": 4.5}});
            let params: distill::Params = serde_json::from_value(with).unwrap();
            params.operations(&passes, 1.0, ["looks", "ocr"].into_iter(), false)
        };
        // The forward that samples is trained: backward and teacher beside it. The guided teacher takes two forwards.
        let [looks, ocr] = [2672.0, 5344.0].map(|teacher| 4.0 * 2672.0 + 3.0 * (3248.0 + teacher));
        assert_eq!(student(json!({"closed_form_kl": {}})), 5.0 * (looks + ocr));
        assert_eq!(5.0 * (looks + ocr), 324_560.0);
        let [looks, ocr] = [2672.0, 5344.0].map(|teacher| 4.0 * 2672.0 + 5920.0 + teacher);
        assert_eq!(student(json!({"one_state": {}})), 5.0 * (looks + ocr));
    }

    #[test]
    fn nothing_is_counted_of_a_model_that_is_not_known() {
        assert!(Operations::of(&Foreseen::from([("prompts.ocr".to_owned(), 5.into())]), None).is_none());
    }
}
