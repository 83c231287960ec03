//! BLIP's vision transformer: `VisionTransformer` of `models/BLIP/vit.py`, which is timm's.

use anyhow::{Result, ensure};
use opdflow_models::config::supported;
use opdflow_models::init::Init;
use opdflow_models::nn::{Conv2d, LayerNorm, Linear};
use opdflow_models::weights::Scope;
use serde::Deserialize;
use tch::Tensor;

const EPS: f64 = 1e-6;
/// Width inside the feed-forward part, over the width.
const RATIO: i64 = 4;

/// Sizes. No published file names them: the default is ViT-L/16 on 224 pixels, which ImageReward has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VitConfig {
    /// Side of an image, in pixels.
    pub image_size: i64,
    /// Side of a patch, in pixels.
    pub patch_size: i64,
    /// Width.
    pub width: i64,
    /// Layers.
    pub layers: i64,
    /// Heads.
    pub heads: i64,
}

impl Default for VitConfig {
    fn default() -> VitConfig {
        VitConfig { image_size: 224, patch_size: 16, width: 1024, layers: 24, heads: 16 }
    }
}

impl VitConfig {
    /// Refuses what cannot be.
    ///
    /// # Errors
    /// The first size that does not fit.
    pub fn check(&self) -> Result<()> {
        const WHAT: &str = "vit_config.json";
        let sizes = [
            ("image_size", self.image_size, 4096),
            ("patch_size", self.patch_size, self.image_size),
            ("width", self.width, 1 << 16),
            ("layers", self.layers, 1 << 10),
            ("heads", self.heads, self.width),
        ];
        for (key, value, most) in sizes {
            supported(WHAT, key, value, (1..=most).contains(&value), &format!("1 to {most}"))?;
        }
        let (width, heads) = (self.width, self.heads);
        ensure!(width % heads == 0, "{WHAT}: `width` {width} is not a multiple of `heads` {heads}");
        Ok(())
    }
}

struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: i64,
}

impl Block {
    fn new(scope: &Scope, c: &VitConfig) -> Result<Block> {
        let d = c.width;
        let linear = |name: &str, from, to| Linear::new(&scope.sub(name), from, to, true, Init::FanIn);
        Ok(Block {
            norm1: LayerNorm::new(&scope.sub("norm1"), d, EPS)?,
            qkv: linear("attn.qkv", d, 3 * d)?,
            proj: linear("attn.proj", d, d)?,
            norm2: LayerNorm::new(&scope.sub("norm2"), d, EPS)?,
            fc1: linear("mlp.fc1", d, RATIO * d)?,
            fc2: linear("mlp.fc2", RATIO * d, d)?,
            heads: c.heads,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let (b, n, d) = x.size3().expect("[B, N, D]");
        let qkv = self.qkv.forward(&self.norm1.forward(x), None);
        let qkv = qkv.view([b, n, 3, self.heads, d / self.heads]).permute([2, 0, 3, 1, 4]);
        let [q, k, v] = [0, 1, 2].map(|i| qkv.get(i));
        let y = Tensor::scaled_dot_product_attention(&q, &k, &v, None::<&Tensor>, 0.0, false, None, false);
        let x = x + self.proj.forward(&y.transpose(1, 2).flatten(2, 3), None);
        let y = self.fc1.forward(&self.norm2.forward(&x), None).gelu("none");
        x + self.fc2.forward(&y, None)
    }
}

/// The transformer.
pub struct Vit {
    patches: Conv2d,
    class: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl Vit {
    /// Takes its tensors from `scope`: `patch_embed`, `cls_token`, `pos_embed`, `blocks`, `norm`.
    ///
    /// # Errors
    /// A tensor is missing or of another shape.
    pub fn new(scope: &Scope, c: &VitConfig) -> Result<Vit> {
        let (d, places) = (c.width, (c.image_size / c.patch_size).pow(2) + 1);
        let blocks = scope.sub("blocks");
        Ok(Vit {
            patches: Conv2d::patches(&scope.sub("patch_embed.proj"), 3, d, c.patch_size, true)?,
            class: scope.get("cls_token", &[1, 1, d], Init::Normal(0.02))?,
            positions: scope.get("pos_embed", &[1, places, d], Init::Normal(0.02))?,
            blocks: (0..c.layers).map(|i| Block::new(&blocks.sub(i), c)).collect::<Result<_>>()?,
            norm: LayerNorm::new(&scope.sub("norm"), d, EPS)?,
        })
    }

    /// `[B, 3, S, S]` (f32, normalised) to the class token and all patches `[B, N, D]`.
    pub fn forward(&self, pixels: &Tensor) -> Tensor {
        let patches = self.patches.forward(pixels).flatten(2, 3).transpose(1, 2);
        let (b, _, d) = patches.size3().expect("[B, N, D]");
        let x = Tensor::cat(&[self.class.expand([b, 1, d], false), patches], 1) + &self.positions;
        self.norm.forward(&self.blocks.iter().fold(x, |x, block| block.forward(&x)))
    }
}
