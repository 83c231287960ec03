//! Multi-scale deformable attention (Zhu et al. 2021) as the pixel decoder has it: transformers
//! `Mask2FormerPixelDecoderEncoderLayer`.

use anyhow::Result;
use opdflow_models::init::Init;
use opdflow_models::nn::{LayerNorm, Linear};
use opdflow_models::weights::Scope;
use tch::{Device, Kind, Tensor};

use opdflow_spec::reward_models::geneval::detector::{Mask2FormerConfig, SCALES};

const EPS: f64 = 1e-5;
/// Points that a head looks at on each scale, fixed upstream.
const POINTS: i64 = 4;
/// `grid_sample`: bilinear, zeros outside.
const BILINEAR: i64 = 0;
const ZEROS: i64 = 0;

/// Heights and widths of the scales whose pixels stand in one row of tokens.
pub(super) type Sizes = [(i64, i64); SCALES];

/// Middles of all pixels of all scales, x and y as shares of width and height: `[tokens, 2]`.
pub(super) fn middles(sizes: &Sizes, on: (Kind, Device)) -> Tensor {
    let axis = |n: i64| Tensor::linspace(0.5, n as f64 - 0.5, n, on) / n as f64;
    let level = |&(h, w): &(i64, i64)| {
        let (y, x) = (axis(h).unsqueeze(1).expand([h, w], false), axis(w).unsqueeze(0).expand([h, w], false));
        Tensor::stack(&[x, y], -1).view([h * w, 2])
    };
    Tensor::cat(&sizes.iter().map(level).collect::<Vec<_>>(), 0)
}

/// Attention of each token to a few points of each scale, which it chooses itself, near its own place.
struct Attention {
    offsets: Linear,
    weights: Linear,
    value: Linear,
    out: Linear,
    heads: i64,
}

impl Attention {
    fn new(scope: &Scope, d: i64, heads: i64) -> Result<Attention> {
        let points = heads * SCALES as i64 * POINTS;
        let layer = |name: &str, to: i64| Linear::new(&scope.sub(name), d, to, true, Init::Xavier);
        Ok(Attention {
            offsets: layer("sampling_offsets", 2 * points)?,
            weights: layer("attention_weights", points)?,
            value: layer("value_proj", d)?,
            out: layer("output_proj", d)?,
            heads,
        })
    }

    /// Tokens `[B, S, D]` and their positions to `[B, S, D]`.
    fn forward(&self, x: &Tensor, positions: &Tensor, middles: &Tensor, sizes: &Sizes) -> Tensor {
        let (b, s, d) = x.size3().expect("[B, N, D]");
        let (heads, scales) = (self.heads, SCALES as i64);
        let query = x + positions;
        let offsets = self.offsets.forward(&query, None).view([b, s, heads, scales, POINTS, 2]);
        let weights = self.weights.forward(&query, None).view([b, s, heads, scales * POINTS]);
        let weights = weights.softmax(-1, None).view([b, s, heads, scales, POINTS]);
        let value = self.value.forward(x, None).view([b, s, heads, d / heads]);
        let middles = middles.view([1, s, 1, 1, 2]);
        let (mut seen, mut start) = (None, 0);
        // Scale by scale: all samples at once would be the largest tensor of the network.
        for (level, &(h, w)) in (0i64..).zip(sizes) {
            // [B heads, D / heads, h, w]
            let map = value.narrow(1, start, h * w).permute([0, 2, 3, 1]).reshape([b * heads, d / heads, h, w]);
            start += h * w;
            // An offset of 1 is one pixel of that scale.
            let pixel = Tensor::from_slice(&[w, h]).to_device(x.device());
            let place = &middles + offsets.select(3, level) / pixel;
            let grid = (place * 2.0 - 1.0).transpose(1, 2).flatten(0, 1);
            // [B heads, D / heads, S, points]
            let samples = map.grid_sampler(&grid, BILINEAR, ZEROS, false);
            let weight = weights.select(3, level).transpose(1, 2).reshape([b * heads, 1, s, POINTS]);
            let sum = (samples * weight).sum_dim_intlist(-1, false, None);
            seen = Some(seen.map_or_else(|| sum.shallow_clone(), |all: Tensor| all + &sum));
        }
        let seen = seen.expect("there are scales").view([b, d, s]).transpose(1, 2);
        self.out.forward(&seen, None)
    }
}

/// One layer: attention, then a feed-forward part, each followed by a norm.
pub(super) struct Layer {
    attention: Attention,
    norm1: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    norm2: LayerNorm,
}

impl Layer {
    pub(super) fn new(scope: &Scope, c: &Mask2FormerConfig) -> Result<Layer> {
        let (d, inner) = (c.feature_size, c.encoder_feedforward_dim);
        Ok(Layer {
            attention: Attention::new(&scope.sub("self_attn"), d, c.num_attention_heads)?,
            norm1: LayerNorm::new(&scope.sub("self_attn_layer_norm"), d, EPS)?,
            fc1: Linear::new(&scope.sub("fc1"), d, inner, true, Init::Xavier)?,
            fc2: Linear::new(&scope.sub("fc2"), inner, d, true, Init::Xavier)?,
            norm2: LayerNorm::new(&scope.sub("final_layer_norm"), d, EPS)?,
        })
    }

    /// Tokens `[B, S, D]` of all scales, with `positions` `[1, S, D]` and [`middles`], to the same shape.
    pub(super) fn forward(&self, x: &Tensor, positions: &Tensor, middles: &Tensor, sizes: &Sizes) -> Tensor {
        let x = self.norm1.forward(&(x + self.attention.forward(x, positions, middles, sizes)));
        let y = self.fc2.forward(&self.fc1.forward(&x, None).relu(), None);
        self.norm2.forward(&(x + y))
    }
}
