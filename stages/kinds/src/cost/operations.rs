//! How many floating-point operations a stage has to do, from configurations and parameters, before anything runs. A
//! multiplication and an addition count as two.
//!
//! The networks of the model are counted (`passes.rs`): at full size norms, activations, adapters and rewards, which are not, are a few percent.

use crate::cost::memory::lora_parameters;
use crate::cost::passes::Passes;
use crate::model::model_fit;
use crate::model::model_fit::Model;
use crate::model::sampling::ImageSampling;
use crate::model::shape::Shape;
use crate::prompt::provenance;
use opdflow_api::Foreseen;
use opdflow_spec::family::{Architecture, Role};
use std::ops::Deref;

/// What the networks of a model cost, each for one image or one prompt.
pub struct Operations {
    passes: Passes,
    encoding: f64,
    model: Model,
    /// Side of an image in pixels.
    side: u64,
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

    #[test]
    fn nothing_is_counted_of_a_model_that_is_not_known() {
        assert!(Operations::of(&Foreseen::from([("prompts.ocr".to_owned(), 5.into())]), None).is_none());
    }
}
