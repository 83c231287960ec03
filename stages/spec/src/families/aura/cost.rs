//! What a network takes, by its configuration: numbers that a forward pass keeps or has alive, and operations.
//!
//! Tensors were counted in the network's code, in units of (tokens x width), those inside of the feed-forward part in units of
//! (tokens x its width): what a layer keeps for the backward pass is what its derivative reads, with the base's own weights frozen.
//! Products of matrices and attention are counted as operations; norms, activations and adapters are not: at full size they
//! are a few percent.

use super::{AuraConfig, REGISTERS};
use crate::family::Forward;

/// Kept of each block: what enters, its norm before and after scale and shift, queries and keys before their norms, query, key and
/// value as they meet, attention's output as it comes and as its stream has it, what that gives, the second norm's input, the norm
/// before and after scale and shift, what the feed-forward part gives.
const KEPT: u64 = 15;
/// Kept inside of a feed-forward part: the gate before and after its activation, what it gates.
const KEPT_INSIDE: u64 = 3;
/// Alive at once in a forward without gradients: what entered the block, the stream after the attention, its norm, a gate's product.
/// An attention has ten alive, fewer than these and the inside, which is at least 8/3 of the width.
const ALIVE: u64 = 4;
/// Alive at once inside of a feed-forward part: the gate, what it gates, the product.
const ALIVE_INSIDE: u64 = 3;

/// A size of a configuration, as a number to count with.
fn n(size: i64) -> f64 {
    size.max(0) as f64
}

fn whole(size: i64) -> u64 {
    size.max(0).unsigned_abs()
}

impl AuraConfig {
    /// All tokens: those of the image, of the text, and the registers.
    fn all(image: u64, text: u64) -> u64 {
        image + text + REGISTERS.unsigned_abs()
    }

    /// Numbers of one row that are kept for the backward pass: tokens of image and text. With `gradient_checkpointing`
    /// the inside of the blocks is not.
    #[must_use]
    pub fn kept(&self, image: u64, text: u64, gradient_checkpointing: bool) -> u64 {
        let (d, hidden) = (whole(self.width()), whole(self.hidden()));
        let blocks = whole(self.num_mmdit_layers) + whole(self.num_single_dit_layers);
        let inside = KEPT * d + KEPT_INSIDE * hidden;
        // With it: what enters each block, and the inside of one while it is computed once more. In both, what is alive while the
        // gradient of one comes back.
        let each = if gradient_checkpointing { blocks * d + inside } else { blocks * inside };
        AuraConfig::all(image, text) * each + self.alive(image, text)
    }

    /// Numbers of one row that are alive at once in a forward without gradients.
    #[must_use]
    pub fn alive(&self, image: u64, text: u64) -> u64 {
        AuraConfig::all(image, text) * (ALIVE * whole(self.width()) + ALIVE_INSIDE * whole(self.hidden()))
    }

    /// Operations of one row through the network: tokens of image and text.
    #[must_use]
    pub fn operations(&self, image: u64, text: u64) -> Forward {
        let (d, hidden, all) = (n(self.width()), n(self.hidden()), AuraConfig::all(image, text) as f64);
        let (joint, single) = (n(self.num_mmdit_layers), n(self.num_single_dit_layers));
        let ends = image as f64 * d * 2.0 * n(self.patch()) + text as f64 * n(self.joint_attention_dim) * d;
        // Query, key, value, output; gate, gated and out.
        let tokens = (joint + single) * all * (4.0 * d * d + 3.0 * d * hidden);
        // Once a row: the modulations of both streams of a joint block, of a single one, of the output.
        let modulations = (joint * 12.0 + single * 6.0 + 2.0) * d * d;
        Forward { products: 2.0 * (ends + tokens + modulations), attention: (joint + single) * 4.0 * all * all * d }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_grows_with_blocks_and_tokens() {
        let config = AuraConfig { num_mmdit_layers: 2, num_single_dit_layers: 3, ..AuraConfig::default() };
        let (inside, alive) = (KEPT * 3072 + KEPT_INSIDE * 8192, ALIVE * 3072 + ALIVE_INSIDE * 8192);
        assert_eq!(config.alive(6, 4), 18 * alive);
        assert_eq!(config.kept(6, 4, false), 18 * (5 * inside + alive));
        assert_eq!(config.kept(6, 4, true), 18 * (5 * 3072 + inside + alive));
    }

    /// AuraFlow at 1024 pixels with 256 text tokens: each token through the weights of 36 blocks.
    #[test]
    fn a_forward_of_the_published_size() {
        let found = AuraConfig::default().operations(4096, 256);
        let by_hand = 2.0 * 4360.0 * 36.0 * (4.0 * 3072.0 * 3072.0 + 3.0 * 3072.0 * 8192.0);
        assert!((found.products / by_hand - 1.0).abs() < 0.001, "{found:?}");
        assert_eq!(found.attention, 36.0 * 4.0 * 4360.0 * 4360.0 * 3072.0);
    }

    /// PyTorch's count (`FlopCounterMode`) of a forward of diffusers' class with the published sizes, 1024 by 768 pixels: all but the
    /// embedding of the time, which is left out here.
    #[test]
    fn a_forward_as_pytorch_counts_it() {
        let found = AuraConfig::default().operations(64 * 48, 256);
        let time = 2.0 * (256.0 * 3072.0 + 3072.0 * 3072.0);
        assert_eq!(found.products + found.attention, 32_132_313_907_200.0 - time);
    }

    /// A network of one block of each kind by hand: d = 4, 256 inside, 4 image tokens, 2 text tokens.
    #[test]
    fn a_forward_by_hand() {
        let config = AuraConfig {
            num_mmdit_layers: 1,
            num_single_dit_layers: 1,
            num_attention_heads: 1,
            attention_head_dim: 4,
            in_channels: 1,
            joint_attention_dim: 3,
            ..AuraConfig::default()
        };
        let found = config.operations(4, 2);
        // In and out 4 x 4 x (4 + 4), text 2 x 3 x 4; 14 tokens through 4 d^2 and 3 d 256 in each block, 12 + 6 + 2 modulations.
        assert_eq!(found.products, 2.0 * (128.0 + 24.0 + 2.0 * 14.0 * (64.0 + 3072.0) + 20.0 * 16.0));
        assert_eq!(found.attention, 2.0 * 4.0 * 196.0 * 4.0);
    }
}
