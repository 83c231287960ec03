//! What enters the blocks: patches of the latent with their places, and the conditioning of the time.

use super::{AuraConfig, PATCH};
use crate::init::Init;
use crate::lora::Lora;
use crate::nn::{Linear, LinearShape, TIME_CHANNELS};
use crate::schedule::TRAIN_STEPS;
use crate::transformer::time_frequencies;
use crate::weights::Scope;
use anyhow::Result;
use tch::{Kind, Tensor};

/// diffusers `AuraFlowPatchEmbed`: a linear layer over patches, and a table of positions of which the middle is taken.
pub(super) struct PatchEmbed {
    proj: Linear,
    /// `[1, side * side, D]`, as the weights have it: a view would not take part in training.
    places: Tensor,
    side: i64,
}

impl PatchEmbed {
    pub(super) fn new(scope: &Scope, config: &AuraConfig) -> Result<PatchEmbed> {
        let (d, side) = (config.width(), config.places());
        let proj = Linear::new(&scope.sub("proj"), config.patch(), d, true, Init::Xavier)?;
        let places = scope.get("pos_embed", &[1, config.pos_embed_max_size, d], Init::Normal(0.1))?;
        Ok(PatchEmbed { proj, places, side })
    }

    /// A latent `[B, C, H, W]` to tokens `[B, H/2 W/2, D]`, row by row.
    pub(super) fn forward(&self, latent: &Tensor, lora: Option<&Lora>) -> Tensor {
        self.proj.forward(&patches(latent), lora) + self.middle(latent.size()[2] / PATCH, latent.size()[3] / PATCH)
    }

    /// The places of `h` by `w` patches in the middle of the table, `[h w, D]`.
    fn middle(&self, h: i64, w: i64) -> Tensor {
        let first = |n: i64| self.side / 2 - n / 2;
        let table = self.places.unflatten(1, [self.side, self.side]).squeeze_dim(0);
        table.narrow(0, first(h), h).narrow(1, first(w), w).flatten(0, 1)
    }

    pub(super) fn linears(&self, out: &mut Vec<LinearShape>) {
        out.push(self.proj.shape());
    }
}

/// A latent `[B, C, H, W]` with even sides as tokens `[B, H/2 W/2, 4 C]`; the four pixels of a channel lie together.
pub(super) fn patches(latent: &Tensor) -> Tensor {
    let size = latent.size();
    let (b, c, h, w) = (size[0], size[1], size[2] / PATCH, size[3] / PATCH);
    latent.reshape([b, c, h, PATCH, w, PATCH]).permute([0, 2, 4, 1, 3, 5]).reshape([b, h * w, c * PATCH * PATCH])
}

/// Tokens `[B, H/2 W/2, 4 C]` as a latent `[B, C, H, W]` of these sides; the channels of a pixel lie together, other than where
/// patches enter.
pub(super) fn unpatched(tokens: &Tensor, height: i64, width: i64) -> Tensor {
    let size = tokens.size();
    let (b, c, h, w) = (size[0], size[2] / (PATCH * PATCH), height / PATCH, width / PATCH);
    tokens.reshape([b, h, w, PATCH, PATCH, c]).permute([0, 5, 1, 3, 2, 4]).reshape([b, c, height, width])
}

/// diffusers `Timesteps` with a scale of 1000, and `TimestepEmbedding`.
pub(super) struct TimeEmbed {
    frequencies: Tensor,
    layers: [Linear; 2],
}

impl TimeEmbed {
    pub(super) fn new(scope: &Scope, config: &AuraConfig) -> Result<TimeEmbed> {
        let d = config.width();
        let layer = |name: &str, d_in: i64| Linear::new(&scope.sub(name), d_in, d, true, Init::Normal(0.02));
        Ok(TimeEmbed {
            frequencies: time_frequencies(scope.device()),
            layers: [layer("linear_1", TIME_CHANNELS)?, layer("linear_2", d)?],
        })
    }

    /// `time` `[B]`, from 0 to 1, to `[B, D]`. The code is made in f32 whatever the model's kind. Frequencies are scaled after the
    /// time is in them, as upstream: the other order rounds the fastest of them otherwise.
    pub(super) fn forward(&self, time: &Tensor, kind: Kind, lora: Option<&Lora>) -> Tensor {
        let angle = time.to_kind(Kind::Float).unsqueeze(1) * &self.frequencies * TRAIN_STEPS;
        let code = Tensor::cat(&[angle.cos(), angle.sin()], 1).to_kind(kind);
        let [first, second] = &self.layers;
        second.forward(&first.forward(&code, lora).silu(), lora)
    }

    pub(super) fn linears(&self, out: &mut Vec<LinearShape>) {
        out.extend(self.layers.iter().map(Linear::shape));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Weights;
    use tch::Device;

    #[test]
    fn patches_enter_and_leave_in_another_order() {
        // Each number says where it is: channel, row, column.
        let latent = Tensor::arange(2 * 3 * 4 * 6, (Kind::Float, Device::Cpu)).view([2, 3, 4, 6]);
        let tokens = patches(&latent);
        assert_eq!(tokens.size(), [2, 6, 12]);
        // The token at row 1, column 2 of the second sample, channel 1: rows 2 and 3, columns 4 and 5.
        let found: Vec<f32> = Vec::try_from(tokens.get(1).get(5).narrow(0, 4, 4)).unwrap();
        let at = |row: i64, col: i64| (((3 + 1) * 4 + row) * 6 + col) as f32;
        assert_eq!(found, [at(2, 4), at(2, 5), at(3, 4), at(3, 5)]);
        // With the channels of a pixel together it comes back.
        let turned = tokens.unflatten(2, [3, 4]).transpose(2, 3).flatten(2, 3);
        assert!(unpatched(&turned, 4, 6) == latent);
    }

    /// `pe_selection_index_based_on_dim` by hand: of a table of 5 by 5 the middle begins at 2 - n / 2.
    #[test]
    fn the_middle_of_the_table_is_taken() {
        let config = AuraConfig {
            pos_embed_max_size: 25,
            num_attention_heads: 1,
            attention_head_dim: 1,
            ..AuraConfig::default()
        };
        let weights = Weights::new_random(1, Device::Cpu);
        let mut embed = PatchEmbed::new(&weights.root(), &config).unwrap();
        embed.places = Tensor::arange(25, (Kind::Float, Device::Cpu)).view([1, 25, 1]);
        let middle = |h: i64, w: i64| Vec::<f32>::try_from(embed.middle(h, w).view(-1)).unwrap();
        assert_eq!(middle(2, 3), [6.0, 7.0, 8.0, 11.0, 12.0, 13.0]);
        assert_eq!(middle(1, 1), [12.0]);
        assert_eq!(middle(5, 4)[..5], [0.0, 1.0, 2.0, 3.0, 5.0]);
    }
}
