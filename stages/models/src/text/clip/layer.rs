//! One layer of CLIP's towers: the same for text and for images but for who may look at whom.

use super::LayerConfig;
use crate::init::Init;
use crate::nn::{Activate as _, Activation, LayerNorm, Linear};
use crate::weights::Scope;
use anyhow::Result;
use tch::Tensor;

/// transformers `CLIPEncoderLayer`.
pub struct Layer {
    norm1: LayerNorm,
    norm2: LayerNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    fc1: Linear,
    fc2: Linear,
    act: Activation,
    heads: i64,
    causal: bool,
}

impl Layer {
    /// Takes its tensors from `scope`: `layer_norm1`, `self_attn`, `layer_norm2`, `mlp`.
    pub fn new(scope: &Scope, c: &LayerConfig) -> Result<Layer> {
        let d = c.hidden_size;
        let depth = (2.0 * c.num_hidden_layers as f64).powf(-0.5);
        let (narrow, wide) = (Init::Normal((d as f64).powf(-0.5) * depth), Init::Normal((d as f64).powf(-0.5)));
        let attn = |name: &str, init| Linear::new(&scope.sub("self_attn").sub(name), d, d, true, init);
        let mlp = scope.sub("mlp");
        let inside = Init::Normal((2.0 * d as f64).powf(-0.5));
        Ok(Layer {
            norm1: LayerNorm::new(&scope.sub("layer_norm1"), d, c.layer_norm_eps)?,
            norm2: LayerNorm::new(&scope.sub("layer_norm2"), d, c.layer_norm_eps)?,
            q: attn("q_proj", narrow)?,
            k: attn("k_proj", narrow)?,
            v: attn("v_proj", narrow)?,
            out: attn("out_proj", wide)?,
            fc1: Linear::new(&mlp.sub("fc1"), d, c.intermediate_size, true, inside)?,
            fc2: Linear::new(&mlp.sub("fc2"), c.intermediate_size, d, true, narrow)?,
            act: c.hidden_act,
            heads: c.num_attention_heads,
            causal: c.causal,
        })
    }

    /// `[B, L, D]` to the same shape.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let y = self.norm1.forward(x);
        let [q, k, v] =
            [&self.q, &self.k, &self.v].map(|l| l.forward(&y, None).unflatten(-1, [self.heads, -1]).transpose(1, 2));
        let y = Tensor::scaled_dot_product_attention(&q, &k, &v, None::<&Tensor>, 0.0, self.causal, None, false);
        let x = x + self.out.forward(&y.transpose(1, 2).flatten(2, 3), None);
        let y = self.act.forward(&self.fc1.forward(&self.norm2.forward(&x), None));
        x + self.fc2.forward(&y, None)
    }
}
