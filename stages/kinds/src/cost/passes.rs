//! What the passes of one image through a model's networks cost, in floating-point operations. A multiplication and an addition count as
//! two. A plan counts by it before a run, and a training counts by it what it did.
//!
//! The networks are counted by their family (`Architecture`): products of matrices, attention, convolutions. A step backward through a
//! frozen network is what a step forward is, and twice that for attention, whose derivative goes to both sides of its products.

use opdflow_spec::family::{Architecture, Forward, Guided};

/// The passes of one image.
#[derive(Clone, Copy, Debug)]
pub struct Passes {
    forward: Forward,
    decoding: f64,
    guided: Guided,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::{distill, train_teacher};
    use serde_json::json;

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
}
