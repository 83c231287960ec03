//! The UMT5 text encoder: transformers `UMT5EncoderModel`. Unlike T5's, each of its layers has distances of its own, and it is called
//! with a mask.

use super::Umt5Config;
use crate::init::Init;
use crate::nn::{Activate as _, Activation, Embedding, Linear, RmsNorm};
use crate::weights::Scope;
use anyhow::{Result, ensure};
use tch::{Kind, Tensor};

struct Layer {
    norm1: RmsNorm,
    distance: Embedding,
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
    fn new(scope: &Scope, c: &Umt5Config) -> Result<Layer> {
        let (d, inner, ff) = (c.d_model, c.num_heads * c.d_kv, c.d_ff);
        let (act, gated) = c.form()?;
        let std = |x: f64| Init::Normal(x.powf(-0.5));
        let (attn, dense) = (scope.sub("layer.0.SelfAttention"), scope.sub("layer.1.DenseReluDense"));
        let layer = |s: &Scope, name: &str, i: i64, o: i64, init| Linear::new(&s.sub(name), i, o, false, init);
        let buckets = c.relative_attention_num_buckets;
        Ok(Layer {
            norm1: RmsNorm::new(&scope.sub("layer.0.layer_norm"), d, c.layer_norm_epsilon)?,
            distance: Embedding::new(&attn.sub("relative_attention_bias"), buckets, c.num_heads, std(d as f64))?,
            // The scores are not divided by the root of the head's width, so the start of q is.
            q: layer(&attn, "q", d, inner, std((d * c.d_kv) as f64))?,
            k: layer(&attn, "k", d, inner, std(d as f64))?,
            v: layer(&attn, "v", d, inner, std(d as f64))?,
            o: layer(&attn, "o", inner, d, std(inner as f64))?,
            norm2: RmsNorm::new(&scope.sub("layer.1.layer_norm"), d, c.layer_norm_epsilon)?,
            gate: gated.then(|| layer(&dense, "wi_0", d, ff, std(d as f64))).transpose()?,
            up: layer(&dense, if gated { "wi_1" } else { "wi" }, d, ff, std(d as f64))?,
            down: layer(&dense, "wo", ff, d, std(ff as f64))?,
            act,
            heads: c.num_heads,
            width: c.d_kv,
        })
    }

    /// States `[B, L, D]`, buckets of distances `[L, L]`, and what keeps a token from being seen, `[B, 1, 1, L]`.
    fn forward(&self, x: &Tensor, buckets: &Tensor, hidden: &Tensor) -> Tensor {
        let y = self.norm1.forward(x);
        let [q, k, v] = [&self.q, &self.k, &self.v]
            .map(|l| l.forward(&y, None).unflatten(-1, [self.heads, self.width]).transpose(1, 2));
        let bias = self.distance.forward(buckets).permute([2, 0, 1]).unsqueeze(0) + hidden;
        let y = Tensor::scaled_dot_product_attention(&q, &k, &v, Some(&bias), 0.0, false, 1.0, false);
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

/// transformers `UMT5EncoderModel`, checkpoint `text_encoder/model*.safetensors`.
pub struct Umt5Encoder {
    config: Umt5Config,
    tokens: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
}

impl Umt5Encoder {
    /// Takes its tensors from `scope`. The token table is `shared`, or its tied copy where a file holds that alone.
    ///
    /// # Errors
    /// A configuration that is not supported; a tensor that is missing or has another shape.
    pub fn new(scope: &Scope, config: &Umt5Config) -> Result<Umt5Encoder> {
        config.check()?;
        let (encoder, d) = (scope.sub("encoder"), config.d_model);
        let (shared, tied) = (scope.sub("shared"), encoder.sub("embed_tokens"));
        let table = if !shared.has("weight") && tied.has("weight") { tied } else { shared };
        let blocks = encoder.sub("block");
        Ok(Umt5Encoder {
            tokens: Embedding::new(&table, config.vocab_size, d, Init::Normal(1.0))?,
            layers: (0..config.num_layers).map(|i| Layer::new(&blocks.sub(i), config)).collect::<Result<_>>()?,
            norm: RmsNorm::new(&encoder.sub("final_layer_norm"), d, config.layer_norm_epsilon)?,
            config: config.clone(),
        })
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Umt5Config {
        &self.config
    }

    /// Ids and mask `[B, L]` (Int64; 1 for a token of the prompt, 0 for one that fills up) to states `[B, L, D]`. A token that
    /// fills up is seen by none, and its own state means nothing.
    ///
    /// # Errors
    /// A mask of another shape, or one that leaves a prompt no token.
    pub fn forward(&self, ids: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let (_, n) = ids.size2()?;
        ensure!(mask.size() == ids.size(), "a mask of shape {:?} for ids of shape {:?}", mask.size(), ids.size());
        let own = || mask.sum_dim_intlist(1i64, false, Kind::Int64).min().int64_value(&[]);
        ensure!(mask.numel() == 0 || own() > 0, "a prompt without a token: not even its end is one");
        let device = self.tokens.w.device();
        let mut x = self.tokens.forward(&ids.to_device(device));
        let buckets = self.buckets(n);
        // `[B, 1, 1, L]`: an infinite distance, in the kind of the scores.
        let none = mask.to_device(device).eq(0).unsqueeze(1).unsqueeze(1);
        let hidden = none.zeros_like().to_kind(x.kind()).masked_fill(&none, f64::NEG_INFINITY);
        for layer in &self.layers {
            x = layer.forward(&x, &buckets, &hidden);
        }
        Ok(self.norm.forward(&x))
    }

    /// The bucket of each distance: `[n, n]`, Int64.
    fn buckets(&self, n: i64) -> Tensor {
        let (buckets, far) = (self.config.relative_attention_num_buckets, self.config.relative_attention_max_distance);
        let table: Vec<i64> = (0..n * n).map(|i| bucket(i % n - i / n, buckets, far)).collect();
        Tensor::from_slice(&table).view([n, n]).to_device(self.tokens.w.device())
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
