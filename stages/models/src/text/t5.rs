//! The T5 text encoder: transformers `T5EncoderModel`.

use crate::init::Init;
use crate::nn::{Activate as _, Activation, Embedding, Linear, RmsNorm};
use crate::weights::Scope;
use anyhow::Result;
pub use opdflow_spec::text::t5::*;
use tch::Tensor;

struct Layer {
    norm1: RmsNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    norm2: RmsNorm,
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
    act: Activation,
    heads: i64,
    width: i64,
}

impl Layer {
    fn new(scope: &Scope, c: &T5Config) -> Result<Layer> {
        let (d, inner, ff) = (c.d_model, c.num_heads * c.d_kv, c.d_ff);
        let (act, gated) = c.form()?;
        let std = |x: f64| Init::Normal(x.powf(-0.5));
        let attn = scope.sub("layer.0.SelfAttention");
        let dense = scope.sub("layer.1.DenseReluDense");
        let layer = |s: &Scope, name: &str, i: i64, o: i64, init| Linear::new(&s.sub(name), i, o, false, init);
        Ok(Layer {
            norm1: RmsNorm::new(&scope.sub("layer.0.layer_norm"), d, c.layer_norm_epsilon)?,
            // The scores are not divided by the root of the head's width, so the start of q is.
            q: layer(&attn, "q", d, inner, std((d * c.d_kv) as f64))?,
            k: layer(&attn, "k", d, inner, std(d as f64))?,
            v: layer(&attn, "v", d, inner, std(d as f64))?,
            o: layer(&attn, "o", inner, d, std(inner as f64))?,
            norm2: RmsNorm::new(&scope.sub("layer.1.layer_norm"), d, c.layer_norm_epsilon)?,
            gate: if gated { Some(layer(&dense, "wi_0", d, ff, std(d as f64))?) } else { None },
            up: layer(&dense, if gated { "wi_1" } else { "wi" }, d, ff, std(d as f64))?,
            down: layer(&dense, "wo", ff, d, std(ff as f64))?,
            act,
            heads: c.num_heads,
            width: c.d_kv,
        })
    }

    fn forward(&self, x: &Tensor, bias: &Tensor) -> Tensor {
        let y = self.norm1.forward(x);
        let [q, k, v] = [&self.q, &self.k, &self.v]
            .map(|l| l.forward(&y, None).unflatten(-1, [self.heads, self.width]).transpose(1, 2));
        let y = Tensor::scaled_dot_product_attention(&q, &k, &v, Some(bias), 0.0, false, 1.0, false);
        let x = x + self.o.forward(&y.transpose(1, 2).flatten(2, 3), None);
        let y = self.norm2.forward(&x);
        let up = self.up.forward(&y, None);
        let inner = match &self.gate {
            Some(gate) => self.act.forward(&gate.forward(&y, None)) * up,
            None => self.act.forward(&up),
        };
        x + self.down.forward(&inner, None)
    }
}

/// transformers `T5EncoderModel`, checkpoint `text_encoder_3/model*.safetensors`.
pub struct T5Encoder {
    config: T5Config,
    tokens: Embedding,
    distance: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
}

impl T5Encoder {
    /// Takes its tensors from `scope`. The token table is `shared`, or its tied copy where a file holds that alone.
    pub fn new(scope: &Scope, config: &T5Config) -> Result<T5Encoder> {
        config.check()?;
        let (encoder, d) = (scope.sub("encoder"), config.d_model);
        let tied = encoder.sub("embed_tokens");
        let shared = scope.sub("shared");
        let table = if !shared.has("weight") && tied.has("weight") { tied } else { shared };
        let blocks = encoder.sub("block");
        Ok(T5Encoder {
            tokens: Embedding::new(&table, config.vocab_size, d, Init::Normal(1.0))?,
            distance: Embedding::new(
                &blocks.sub("0.layer.0.SelfAttention.relative_attention_bias"),
                config.relative_attention_num_buckets,
                config.num_heads,
                Init::Normal((d as f64).powf(-0.5)),
            )?,
            layers: (0..config.num_layers).map(|i| Layer::new(&blocks.sub(i), config)).collect::<Result<_>>()?,
            norm: RmsNorm::new(&encoder.sub("final_layer_norm"), d, config.layer_norm_epsilon)?,
            config: config.clone(),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &T5Config {
        &self.config
    }

    /// Ids `[B, L]` (Int64) to states `[B, L, D]`. Without a mask, padding included, as the diffusers pipeline calls it.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let (_, n) = ids.size2()?;
        let mut x = self.tokens.forward(&ids.to_device(self.tokens.w.device()));
        let bias = self.bias(n);
        for layer in &self.layers {
            x = layer.forward(&x, &bias);
        }
        Ok(self.norm.forward(&x))
    }

    /// The score added at each distance: `[1, heads, n, n]`.
    fn bias(&self, n: i64) -> Tensor {
        let (buckets, far) = (self.config.relative_attention_num_buckets, self.config.relative_attention_max_distance);
        let table: Vec<i64> = (0..n * n).map(|i| bucket(i % n - i / n, buckets, far)).collect();
        let ids = Tensor::from_slice(&table).view([n, n]).to_device(self.distance.w.device());
        self.distance.forward(&ids).permute([2, 0, 1]).unsqueeze(0).contiguous()
    }
}

/// `_relative_position_bucket`, both directions: exact up to a quarter of the buckets each way, logarithmic from there
/// on. f32 as upstream, because the bucket's edge depends on the rounding.
fn bucket(relative: i64, buckets: i64, far: i64) -> i64 {
    let half = buckets / 2;
    let exact = half / 2;
    let side = if relative > 0 { half } else { 0 };
    let distance = relative.abs();
    if distance < exact {
        return side + distance;
    }
    let log = (distance as f32 / exact as f32).ln();
    let steps = log / (far as f64 / exact as f64).ln() as f32 * (half - exact) as f32;
    side + (exact + steps as i64).min(half - 1)
}
