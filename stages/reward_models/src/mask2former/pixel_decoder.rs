//! The pixel decoder: transformers `Mask2FormerPixelDecoder`.

use anyhow::Result;
use opdflow_models::init::Init;
use opdflow_models::nn::{Conv2d, GroupNorm};
use opdflow_models::weights::Scope;
use tch::Tensor;

use super::deformable::{Layer, Sizes, middles};
use super::sine::positions;
use opdflow_spec::reward_models::geneval::detector::{GROUPS, Mask2FormerConfig, SCALES};

const EPS: f64 = 1e-5;

/// A convolution without bias and the norm behind it.
struct Smooth {
    w: Tensor,
    norm: GroupNorm,
    padding: i64,
}

impl Smooth {
    fn new(scope: &Scope, c_in: i64, c_out: i64, kernel: i64) -> Result<Smooth> {
        Ok(Smooth {
            w: scope.get("0.weight", &[c_out, c_in, kernel, kernel], Init::FanIn)?,
            norm: GroupNorm::new(&scope.sub(1), GROUPS, c_out, EPS)?,
            padding: kernel / 2,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        self.norm.forward(&x.conv2d(&self.w, None::<&Tensor>, [1, 1], [self.padding; 2], [1, 1], 1))
    }
}

/// What the pixel decoder gives.
pub struct Features {
    /// Maps `[B, F, H_i, W_i]`, coarse to fine, at a 32nd, 16th and 8th of the image's size.
    pub scales: Vec<Tensor>,
    /// What masks are made of, `[B, M, H/4, W/4]`.
    pub masks: Tensor,
}

/// transformers `Mask2FormerPixelDecoder`, checkpoint prefix `model.pixel_level_module.decoder`.
pub(super) struct PixelDecoder {
    inputs: Vec<(Conv2d, GroupNorm)>,
    /// `[scales, F]`: tells the scales apart.
    level: Tensor,
    layers: Vec<Layer>,
    lateral: Smooth,
    output: Smooth,
    masks: Conv2d,
    width: i64,
}

impl PixelDecoder {
    /// Takes its tensors from `scope`.
    pub(super) fn new(scope: &Scope, c: &Mask2FormerConfig) -> Result<PixelDecoder> {
        let d = c.feature_size;
        let input = |i: usize| -> Result<(Conv2d, GroupNorm)> {
            let here = scope.sub("input_projections").sub(i);
            // Coarse to fine: the last of the backbone's four maps comes first.
            let conv = Conv2d::new(&here.sub(0), c.backbone_config.width(3 - i), d, 1, 1, 0)?;
            Ok((conv, GroupNorm::new(&here.sub(1), GROUPS, d, EPS)?))
        };
        let layer = |i: i64| Layer::new(&scope.sub("encoder.layers").sub(i), c);
        Ok(PixelDecoder {
            inputs: (0..SCALES).map(input).collect::<Result<_>>()?,
            level: scope.get("level_embed", &[SCALES as i64, d], Init::Normal(1.0))?,
            layers: (0..c.encoder_layers).map(layer).collect::<Result<_>>()?,
            lateral: Smooth::new(&scope.sub("adapter_1"), c.backbone_config.width(0), d, 1)?,
            output: Smooth::new(&scope.sub("layer_1"), d, d, 3)?,
            masks: Conv2d::new(&scope.sub("mask_projection"), d, c.mask_feature_size, 1, 1, 0)?,
            width: d,
        })
    }

    /// The backbone's four maps, fine to coarse, to [`Features`].
    pub(super) fn forward(&self, maps: &[Tensor]) -> Features {
        let on = (maps[0].kind(), maps[0].device());
        let mut sizes: Sizes = Default::default();
        let (mut tokens, mut places) = (Vec::new(), Vec::new());
        for (i, (map, (conv, norm))) in maps.iter().rev().zip(&self.inputs).enumerate() {
            let size = map.size();
            sizes[i] = (size[2], size[3]);
            tokens.push(norm.forward(&conv.forward(map)).flatten(2, 3).transpose(1, 2));
            places.push(positions(size[2], size[3], self.width, on) + self.level.get(i as i64));
        }
        let (places, middles) = (Tensor::cat(&places, 1), middles(&sizes, on));
        let mut x = Tensor::cat(&tokens, 1);
        for layer in &self.layers {
            x = layer.forward(&x, &places, &middles, &sizes);
        }
        let lengths = sizes.map(|(h, w)| h * w);
        let map = |(part, (h, w)): (Tensor, (i64, i64))| part.transpose(1, 2).reshape([-1, self.width, h, w]);
        let scales: Vec<Tensor> = x.split_with_sizes(lengths, 1).into_iter().zip(sizes).map(map).collect();
        // The finest map joins last, without attention.
        let fine = self.lateral.forward(&maps[0]);
        let coarse = scales[SCALES - 1].upsample_bilinear2d(&fine.size()[2..], false, None, None);
        let fine = self.output.forward(&(fine + coarse)).relu();
        Features { scales, masks: self.masks.forward(&fine) }
    }
}
