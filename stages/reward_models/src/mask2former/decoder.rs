//! The transformer decoder, whose queries look only where their own masks are: transformers
//! `Mask2FormerTransformerModule`.

use anyhow::Result;
use opdflow_models::init::Init;
use opdflow_models::nn::{Activate as _, Activation, Conv2d, LayerNorm, Linear};
use opdflow_models::weights::Scope;
use tch::Tensor;

use super::pixel_decoder::Features;
use super::sine::positions;
use opdflow_spec::reward_models::geneval::detector::{Mask2FormerConfig, SCALES};

const EPS: f64 = 1e-5;

/// Attention with query, key and value apart, each with weight `[D, D]` and bias `[D]`.
struct Attention {
    inputs: [(Tensor, Tensor); 3],
    out: Linear,
    heads: i64,
}

impl Attention {
    /// transformers `Mask2FormerAttention`: three layers.
    fn apart(scope: &Scope, d: i64, heads: i64) -> Result<Attention> {
        let layer = |name: &str| -> Result<(Tensor, Tensor)> {
            let here = scope.sub(name);
            Ok((here.get("weight", &[d, d], Init::Xavier)?, here.get("bias", &[d], Init::Zeros)?))
        };
        Attention::with([layer("q_proj")?, layer("k_proj")?, layer("v_proj")?], scope, heads)
    }

    /// `torch.nn.MultiheadAttention`: one tensor for the three.
    fn joined(scope: &Scope, d: i64, heads: i64) -> Result<Attention> {
        let w = scope.get("in_proj_weight", &[3 * d, d], Init::Xavier)?;
        let b = scope.get("in_proj_bias", &[3 * d], Init::Zeros)?;
        let part = |i: i64| (w.narrow(0, i * d, d), b.narrow(0, i * d, d));
        Attention::with([part(0), part(1), part(2)], scope, heads)
    }

    fn with(inputs: [(Tensor, Tensor); 3], scope: &Scope, heads: i64) -> Result<Attention> {
        let d = inputs[0].0.size()[0];
        Ok(Attention { inputs, out: Linear::new(&scope.sub("out_proj"), d, d, true, Init::Xavier)?, heads })
    }

    /// `[B, Q, D]`, `[B, S, D]`, `[B, S, D]` to `[B, Q, D]`; `may` (bool `[B, 1, Q, S]`) says where a query may look.
    fn forward(&self, query: &Tensor, key: &Tensor, value: &Tensor, may: Option<&Tensor>) -> Tensor {
        let [q, k, v] =
            [(query, &self.inputs[0]), (key, &self.inputs[1]), (value, &self.inputs[2])].map(|(x, (w, b))| {
                let (batch, n, d) = x.size3().expect("[B, N, D]");
                x.linear(w, Some(b)).view([batch, n, self.heads, d / self.heads]).transpose(1, 2)
            });
        let y = Tensor::scaled_dot_product_attention(&q, &k, &v, may, 0.0, false, None, false);
        self.out.forward(&y.transpose(1, 2).flatten(2, 3), None)
    }
}

/// One layer: the queries look at the image, then at each other, then a feed-forward part; a norm behind each.
struct Layer {
    cross: Attention,
    norm1: LayerNorm,
    own: Attention,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    act: Activation,
    norm3: LayerNorm,
}

impl Layer {
    fn new(scope: &Scope, c: &Mask2FormerConfig) -> Result<Layer> {
        let (d, inner, heads) = (c.hidden_dim, c.dim_feedforward, c.num_attention_heads);
        let norm = |name: &str| LayerNorm::new(&scope.sub(name), d, EPS);
        Ok(Layer {
            cross: Attention::joined(&scope.sub("cross_attn"), d, heads)?,
            norm1: norm("cross_attn_layer_norm")?,
            own: Attention::apart(&scope.sub("self_attn"), d, heads)?,
            norm2: norm("self_attn_layer_norm")?,
            fc1: Linear::new(&scope.sub("fc1"), d, inner, true, Init::Xavier)?,
            fc2: Linear::new(&scope.sub("fc2"), inner, d, true, Init::Xavier)?,
            act: c.activation_function,
            norm3: norm("final_layer_norm")?,
        })
    }

    fn forward(&self, x: &Tensor, own: &Tensor, scale: &Scale, may: &Tensor) -> Tensor {
        let query = x + own;
        let x = self.norm1.forward(&(x + self.cross.forward(&query, &scale.keys, &scale.values, Some(may))));
        let query = &x + own;
        let x = self.norm2.forward(&(&x + self.own.forward(&query, &query, &x, None)));
        let y = self.fc2.forward(&self.act.forward(&self.fc1.forward(&x, None)), None);
        self.norm3.forward(&(x + y))
    }
}

/// A scale as the layers see it.
struct Scale {
    /// `[B, S, D]`.
    values: Tensor,
    /// The same with positions.
    keys: Tensor,
    size: [i64; 2],
}

/// transformers `Mask2FormerTransformerModule`, checkpoint prefix `model.transformer_module`.
pub(super) struct Decoder {
    /// `[Q, D]`: the queries at the start.
    start: Tensor,
    /// `[Q, D]`: what is added to them wherever they ask.
    own: Tensor,
    /// `[scales, D]`.
    level: Tensor,
    inputs: Vec<Option<Conv2d>>,
    layers: Vec<Layer>,
    norm: LayerNorm,
    mask: Vec<Linear>,
    width: i64,
}

impl Decoder {
    /// Takes its tensors from `scope`.
    pub(super) fn new(scope: &Scope, c: &Mask2FormerConfig) -> Result<Decoder> {
        let (d, inside) = (c.hidden_dim, scope.sub("decoder"));
        let table = |name: &str, n: i64| scope.sub(name).get("weight", &[n, d], Init::Normal(1.0));
        let input = |i: usize| match c.feature_size != d || c.enforce_input_projection {
            true => Conv2d::new(&scope.sub("input_projections").sub(i), c.feature_size, d, 1, 1, 0).map(Some),
            false => Ok(None),
        };
        let embedder = inside.sub("mask_predictor.mask_embedder");
        let widths = [d, d, d, c.mask_feature_size];
        let mask = |i: usize| Linear::new(&embedder.sub(i).sub(0), widths[i], widths[i + 1], true, Init::FanIn);
        Ok(Decoder {
            start: table("queries_features", c.num_queries)?,
            own: table("queries_embedder", c.num_queries)?,
            level: table("level_embed", SCALES as i64)?,
            inputs: (0..SCALES).map(input).collect::<Result<_>>()?,
            layers: (1..c.decoder_layers)
                .map(|i| Layer::new(&inside.sub("layers").sub(i - 1), c))
                .collect::<Result<_>>()?,
            norm: LayerNorm::new(&inside.sub("layernorm"), d, EPS)?,
            mask: (0..3).map(mask).collect::<Result<_>>()?,
            width: d,
        })
    }

    /// The last state of the queries `[B, Q, D]` and their mask logits `[B, Q, H/4, W/4]`.
    pub(super) fn forward(&self, features: &Features) -> (Tensor, Tensor) {
        let scales: Vec<Scale> = (0..SCALES).map(|i| self.scale(&features.scales[i], i)).collect();
        let batch = features.masks.size()[0];
        let mut x = self.start.unsqueeze(0).repeat([batch, 1, 1]);
        let own = self.own.unsqueeze(0);
        let mut state = self.norm.forward(&x);
        let mut masks = self.masks(&state, &features.masks);
        for (layer, scale) in self.layers.iter().zip(scales.iter().cycle()) {
            x = layer.forward(&x, &own, scale, &may_look(&masks, scale.size));
            state = self.norm.forward(&x);
            masks = self.masks(&state, &features.masks);
        }
        (state, masks)
    }

    fn scale(&self, map: &Tensor, i: usize) -> Scale {
        let map = self.inputs[i].as_ref().map_or_else(|| map.shallow_clone(), |conv| conv.forward(map));
        let size = map.size();
        let values = map.flatten(2, 3).transpose(1, 2) + self.level.get(i as i64);
        let keys = &values + positions(size[2], size[3], self.width, (map.kind(), map.device()));
        Scale { values, keys, size: [size[2], size[3]] }
    }

    /// Mask logits `[B, Q, H/4, W/4]`: each query's embedding against each pixel's.
    fn masks(&self, state: &Tensor, pixels: &Tensor) -> Tensor {
        let x = self.mask[0].forward(state, None).relu();
        let x = self.mask[2].forward(&self.mask[1].forward(&x, None).relu(), None);
        let size = pixels.size();
        x.matmul(&pixels.flatten(2, 3)).view([size[0], -1, size[2], size[3]])
    }
}

/// Where each query may look on a scale, bool `[B, 1, Q, S]`: where its mask is at least as likely as not. A query
/// whose mask is empty there looks everywhere, or the softmax would have nothing to choose from.
fn may_look(masks: &Tensor, size: [i64; 2]) -> Tensor {
    let seen = masks.upsample_bilinear2d(size, false, None, None).sigmoid().ge(0.5).flatten(2, 3);
    let blind = seen.any_dim(-1, true).logical_not();
    seen.logical_or(&blind).unsqueeze(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_without_a_mask_looks_everywhere() {
        let masks = Tensor::from_slice(&[-1f32, 1.0, 0.0, -2.0, -1.0, -1.0, -3.0, -2.0]).view([1, 2, 2, 2]);
        let may = Vec::<bool>::try_from(may_look(&masks, [2, 2]).flatten(0, -1)).unwrap();
        assert_eq!(may, [false, true, true, false, true, true, true, true]);
    }
}
