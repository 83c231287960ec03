//! The backbone: transformers `SwinBackbone` (Liu et al. 2021).

use anyhow::Result;
use opdflow_models::init::Init;
use opdflow_models::nn::{Activate as _, Activation, Conv2d, LayerNorm, Linear};
use opdflow_models::weights::Scope;
use tch::Tensor;

use super::window::WindowAttention;
use opdflow_spec::reward_models::geneval::detector::SwinConfig;

/// Epsilon of the norms that upstream leaves at PyTorch's default.
const EPS: f64 = 1e-5;

/// Attention within windows, then a feed-forward part: transformers `SwinLayer`.
struct Block {
    norm1: LayerNorm,
    attention: WindowAttention,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    act: Activation,
}

impl Block {
    fn new(scope: &Scope, c: &SwinConfig, stage: usize, shift: i64) -> Result<Block> {
        let (d, inner) = (c.width(stage), c.inner(stage));
        Ok(Block {
            norm1: LayerNorm::new(&scope.sub("layernorm_before"), d, c.layer_norm_eps)?,
            attention: WindowAttention::new(&scope.sub("attention"), c, stage, shift)?,
            norm2: LayerNorm::new(&scope.sub("layernorm_after"), d, c.layer_norm_eps)?,
            fc1: Linear::new(&scope.sub("intermediate.dense"), d, inner, true, Init::Xavier)?,
            fc2: Linear::new(&scope.sub("output.dense"), inner, d, true, Init::Xavier)?,
            act: c.hidden_act,
        })
    }

    /// `[B, H, W, C]` to the same shape.
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = x + self.attention.forward(&self.norm1.forward(x));
        let y = self.act.forward(&self.fc1.forward(&self.norm2.forward(&x), None));
        x + self.fc2.forward(&y, None)
    }
}

/// Four pixels to one of twice the width: transformers `SwinPatchMerging`.
struct Merge {
    norm: LayerNorm,
    reduction: Linear,
}

impl Merge {
    fn new(scope: &Scope, width: i64) -> Result<Merge> {
        Ok(Merge {
            norm: LayerNorm::new(&scope.sub("norm"), 4 * width, EPS)?,
            reduction: Linear::new(&scope.sub("reduction"), 4 * width, 2 * width, false, Init::Xavier)?,
        })
    }

    /// `[B, H, W, C]` to `[B, ceil(H/2), ceil(W/2), 2C]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        let size = x.size();
        let x = x.constant_pad_nd([0, 0, 0, size[2] % 2, 0, size[1] % 2]);
        let part = |row: i64, column: i64| x.slice(1, row, None, 2).slice(2, column, None, 2);
        // Down first, then right: the order that the weights were trained with.
        let four = Tensor::cat(&[part(0, 0), part(1, 0), part(0, 1), part(1, 1)], -1);
        self.reduction.forward(&self.norm.forward(&four), None)
    }
}

struct Stage {
    blocks: Vec<Block>,
    /// The norm of the map that the stage gives away; the next stage goes on without it.
    norm: LayerNorm,
    /// On the way to the next stage.
    merge: Option<Merge>,
}

/// transformers `SwinBackbone`, checkpoint prefix `model.pixel_level_module.encoder`.
pub(super) struct Swin {
    patches: Conv2d,
    norm: LayerNorm,
    stages: Vec<Stage>,
    patch: i64,
}

impl Swin {
    /// Takes its tensors from `scope`.
    pub(super) fn new(scope: &Scope, c: &SwinConfig) -> Result<Swin> {
        let embeddings = scope.sub("embeddings");
        let stage = |i: usize| {
            let here = scope.sub("encoder.layers").sub(i);
            // Every second block shifts its windows.
            let block = |j: i64| Block::new(&here.sub("blocks").sub(j), c, i, (j % 2) * (c.window_size / 2));
            Ok(Stage {
                blocks: (0..c.depths[i]).map(block).collect::<Result<_>>()?,
                norm: LayerNorm::new(&scope.sub(format!("hidden_states_norms.stage{}", i + 1)), c.width(i), EPS)?,
                merge: match i + 1 < c.depths.len() {
                    true => Some(Merge::new(&here.sub("downsample"), c.width(i))?),
                    false => None,
                },
            })
        };
        let (patch, channels) = (c.patch_size, c.num_channels);
        let projection = embeddings.sub("patch_embeddings.projection");
        Ok(Swin {
            patches: Conv2d::patches(&projection, channels, c.embed_dim, patch, true)?,
            norm: LayerNorm::new(&embeddings.sub("norm"), c.embed_dim, EPS)?,
            stages: (0..c.depths.len()).map(stage).collect::<Result<_>>()?,
            patch,
        })
    }

    /// An image `[B, 3, H, W]` to four maps `[B, C_i, H_i, W_i]`, fine to coarse, at a 4th, 8th, 16th and 32nd of its
    /// size, rounded up.
    pub(super) fn forward(&self, x: &Tensor) -> Vec<Tensor> {
        let (size, patch) = (x.size(), self.patch);
        let [down, right] = [size[2], size[3]].map(|n| (patch - n % patch) % patch);
        let x = self.patches.forward(&x.constant_pad_nd([0, right, 0, down]));
        let mut x = self.norm.forward(&x.permute([0, 2, 3, 1]));
        let mut maps = Vec::with_capacity(self.stages.len());
        for stage in &self.stages {
            for block in &stage.blocks {
                x = block.forward(&x);
            }
            maps.push(stage.norm.forward(&x).permute([0, 3, 1, 2]).contiguous());
            if let Some(merge) = &stage.merge {
                x = merge.forward(&x);
            }
        }
        maps
    }
}
