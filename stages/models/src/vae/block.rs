//! The parts of the autoencoder: diffusers `ResnetBlock2D`, `UNetMidBlock2D`, `Encoder`, `Decoder`.

use crate::init::Init;
use crate::nn::{Conv2d, GroupNorm, Linear};
use crate::weights::Scope;
use anyhow::Result;
use opdflow_spec::vae::VaeConfig;
use tch::Tensor;

const EPS: f64 = 1e-6;

struct Resnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl Resnet {
    fn new(scope: &Scope, c_in: i64, c_out: i64, groups: i64) -> Result<Resnet> {
        let conv = |name: &str, c: i64| Conv2d::new(&scope.sub(name), c, c_out, 3, 1, 1);
        Ok(Resnet {
            norm1: GroupNorm::new(&scope.sub("norm1"), groups, c_in, EPS)?,
            conv1: conv("conv1", c_in)?,
            norm2: GroupNorm::new(&scope.sub("norm2"), groups, c_out, EPS)?,
            conv2: conv("conv2", c_out)?,
            shortcut: match c_in == c_out {
                true => None,
                false => Some(Conv2d::new(&scope.sub("conv_shortcut"), c_in, c_out, 1, 1, 0)?),
            },
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let y = self.conv1.forward(&self.norm1.forward(x).silu());
        let y = self.conv2.forward(&self.norm2.forward(&y).silu());
        match &self.shortcut {
            Some(s) => s.forward(x) + y,
            None => x + y,
        }
    }
}

/// diffusers `Attention` over the pixels of the coarsest level, one head.
struct PixelAttention {
    norm: GroupNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
}

impl PixelAttention {
    fn new(scope: &Scope, c: i64, groups: i64) -> Result<PixelAttention> {
        let layer = |name: &str| Linear::new(&scope.sub(name), c, c, true, Init::FanIn);
        Ok(PixelAttention {
            norm: GroupNorm::new(&scope.sub("group_norm"), groups, c, EPS)?,
            q: layer("to_q")?,
            k: layer("to_k")?,
            v: layer("to_v")?,
            out: layer("to_out.0")?,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let flat = self.norm.forward(&x.flatten(2, 3)).transpose(1, 2);
        let [q, k, v] = [&self.q, &self.k, &self.v].map(|l| l.forward(&flat, None).unsqueeze(1));
        let y = Tensor::scaled_dot_product_attention(&q, &k, &v, None::<&Tensor>, 0.0, false, None, false);
        let y = self.out.forward(&y.squeeze_dim(1), None).transpose(1, 2);
        y.reshape_as(x) + x
    }
}

struct MidBlock {
    resnets: [Resnet; 2],
    attention: Option<PixelAttention>,
}

impl MidBlock {
    fn new(scope: &Scope, config: &VaeConfig) -> Result<MidBlock> {
        let c = config.block_out_channels.last().copied().unwrap_or_default();
        let g = config.norm_num_groups;
        let resnet = |i: i64| Resnet::new(&scope.sub("resnets").sub(i), c, c, g);
        let attention = match config.mid_block_add_attention {
            true => Some(PixelAttention::new(&scope.sub("attentions.0"), c, g)?),
            false => None,
        };
        Ok(MidBlock { resnets: [resnet(0)?, resnet(1)?], attention })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.resnets[0].forward(x);
        let x = self.attention.as_ref().map_or_else(|| x.shallow_clone(), |a| a.forward(&x));
        self.resnets[1].forward(&x)
    }
}

/// The residual blocks of one level, and the convolution that changes the size behind them.
struct Level {
    resnets: Vec<Resnet>,
    resize: Option<Conv2d>,
}

impl Level {
    fn new(scope: &Scope, c_in: i64, c_out: i64, layers: i64, groups: i64) -> Result<Level> {
        let resnet =
            |i: i64| Resnet::new(&scope.sub("resnets").sub(i), if i == 0 { c_in } else { c_out }, c_out, groups);
        Ok(Level { resnets: (0..layers).map(resnet).collect::<Result<_>>()?, resize: None })
    }

    fn forward(&self, x: Tensor) -> Tensor {
        self.resnets.iter().fold(x, |x, r| r.forward(&x))
    }
}

/// Image to the mean and log-variance of the latent, stacked.
pub(super) struct Encoder {
    conv_in: Conv2d,
    levels: Vec<Level>,
    mid: MidBlock,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Encoder {
    pub(super) fn new(scope: &Scope, config: &VaeConfig) -> Result<Encoder> {
        let (widths, g) = (&config.block_out_channels, config.norm_num_groups);
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let mut levels = Vec::new();
        for (i, &c) in widths.iter().enumerate() {
            let here = scope.sub("down_blocks").sub(i);
            let mut level = Level::new(&here, widths[i.saturating_sub(1)], c, config.layers_per_block, g)?;
            if i + 1 < widths.len() {
                level.resize = Some(Conv2d::new(&here.sub("downsamplers.0.conv"), c, c, 3, 2, 0)?);
            }
            levels.push(level);
        }
        Ok(Encoder {
            conv_in: Conv2d::new(&scope.sub("conv_in"), config.in_channels, first, 3, 1, 1)?,
            levels,
            mid: MidBlock::new(&scope.sub("mid_block"), config)?,
            norm_out: GroupNorm::new(&scope.sub("conv_norm_out"), g, last, EPS)?,
            conv_out: Conv2d::new(&scope.sub("conv_out"), last, 2 * config.latent_channels, 3, 1, 1)?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        let mut x = self.conv_in.forward(x);
        for level in &self.levels {
            x = level.forward(x);
            if let Some(half) = &level.resize {
                // Upstream pads right and below alone.
                x = half.forward(&x.constant_pad_nd([0, 1, 0, 1]));
            }
        }
        self.conv_out.forward(&self.norm_out.forward(&self.mid.forward(&x)).silu())
    }
}

/// Latent to image.
pub(super) struct Decoder {
    conv_in: Conv2d,
    mid: MidBlock,
    levels: Vec<Level>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Decoder {
    pub(super) fn new(scope: &Scope, config: &VaeConfig) -> Result<Decoder> {
        let widths: Vec<i64> = config.block_out_channels.iter().rev().copied().collect();
        let g = config.norm_num_groups;
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let mut levels = Vec::new();
        for (i, &c) in widths.iter().enumerate() {
            let here = scope.sub("up_blocks").sub(i);
            let mut level = Level::new(&here, widths[i.saturating_sub(1)], c, config.layers_per_block + 1, g)?;
            if i + 1 < widths.len() {
                level.resize = Some(Conv2d::new(&here.sub("upsamplers.0.conv"), c, c, 3, 1, 1)?);
            }
            levels.push(level);
        }
        Ok(Decoder {
            conv_in: Conv2d::new(&scope.sub("conv_in"), config.latent_channels, first, 3, 1, 1)?,
            mid: MidBlock::new(&scope.sub("mid_block"), config)?,
            levels,
            norm_out: GroupNorm::new(&scope.sub("conv_norm_out"), g, last, EPS)?,
            conv_out: Conv2d::new(&scope.sub("conv_out"), last, config.out_channels, 3, 1, 1)?,
        })
    }

    pub(super) fn forward(&self, z: &Tensor) -> Tensor {
        let mut x = self.mid.forward(&self.conv_in.forward(z));
        for level in &self.levels {
            x = level.forward(x);
            if let Some(conv) = &level.resize {
                let size = x.size();
                x = conv.forward(&x.upsample_nearest2d([2 * size[2], 2 * size[3]], None, None));
            }
        }
        self.conv_out.forward(&self.norm_out.forward(&x).silu())
    }
}
