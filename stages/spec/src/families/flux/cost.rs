//! What a network takes, by its configuration: numbers that a forward pass keeps or has alive, and operations.
//!
//! Tensors were counted in the network's code, in units of (tokens x width): what a layer keeps for the backward pass is what
//! its derivative reads, with the base's own weights frozen. Products of matrices and attention are counted as operations; norms,
//! activations, rotations and adapters are not: at full size they are a few percent.

use super::FluxConfig;
use crate::family::Forward;

/// Kept of each double block: norms and their inputs, query, key and value before and after norms and rotation, attention's
/// output, the feed-forward part before its activation, gates.
const KEPT: u64 = 20;
/// Kept of each single block: norm and its input, query, key and value, attention's output, the feed-forward part before its
/// activation, both side by side as they enter the last product, what that gives.
const KEPT_SINGLE: u64 = 20;
/// Alive at once in a forward without gradients, in a single block: the stream, its norm, attention's output, the feed-forward
/// part before and after its activation and beside attention's output.
const ALIVE: u64 = 17;

/// A size of a configuration, as a number to count with.
fn n(size: i64) -> f64 {
    size.max(0) as f64
}

impl FluxConfig {
    /// Numbers of one row that are kept for the backward pass: tokens of image and text. With `gradient_checkpointing`
    /// the inside of the blocks is not.
    #[must_use]
    pub fn kept(&self, image: u64, text: u64, gradient_checkpointing: bool) -> u64 {
        let size = |x: i64| x.max(0).unsigned_abs();
        let (double, single, tokens) = (size(self.num_layers), size(self.num_single_layers), image + text);
        let each = if gradient_checkpointing {
            // What enters each block, and the inside of one while it is computed once more and its gradient comes back.
            double + single + KEPT.max(KEPT_SINGLE) + ALIVE
        } else {
            // The inside of all blocks, and what is alive while the gradient of one comes back.
            double * KEPT + single * KEPT_SINGLE + ALIVE
        };
        tokens * each * size(self.width())
    }

    /// Numbers of one row that are alive at once in a forward without gradients.
    #[must_use]
    pub fn alive(&self, image: u64, text: u64) -> u64 {
        (image + text) * self.width().max(0).unsigned_abs() * ALIVE
    }

    /// Numbers of the condition of one prompt of this many tokens.
    #[must_use]
    pub fn condition(&self, text: u64) -> u64 {
        text * self.joint_attention_dim.max(0).unsigned_abs() + self.pooled_projection_dim.max(0).unsigned_abs()
    }

    /// Operations of one row through the network: tokens of image and text.
    #[must_use]
    pub fn operations(&self, image: u64, text: u64) -> Forward {
        let (d, image, text) = (n(self.width()), image as f64, text as f64);
        let all = image + text;
        let ends = image * d * n(self.in_channels + self.channels_out()) + text * n(self.joint_attention_dim) * d;
        // Query, key, value, output, feed-forward part of four widths in and out; the modulations once a row.
        let double = 12.0 * all + 12.0;
        let single = 3.0 * all + 4.0 * all + 5.0 * all + 3.0;
        let blocks = n(self.num_layers) * double + n(self.num_single_layers) * single;
        Forward {
            products: 2.0 * (ends + blocks * d * d),
            attention: (n(self.num_layers) + n(self.num_single_layers)) * 4.0 * all * all * d,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_grows_with_blocks_and_tokens() {
        let config = FluxConfig { num_layers: 2, num_single_layers: 3, ..FluxConfig::default() };
        assert_eq!(config.kept(6, 4, false), 3072 * 10 * (2 * KEPT + 3 * KEPT_SINGLE + ALIVE));
        assert_eq!(config.kept(6, 4, true), 3072 * 10 * (5 + 20 + ALIVE));
        assert_eq!(config.alive(6, 4), 3072 * 10 * ALIVE);
        assert_eq!(config.condition(512), 512 * 4096 + 768);
    }

    /// FLUX.1 at 1024 pixels with 512 text tokens: about 60 TFLOP of products (12 d^2 for each token and block, as the sizes of the
    /// weights say) and 15 of attention.
    #[test]
    fn a_forward_of_the_published_size() {
        let found = FluxConfig::default().operations(4096, 512);
        let by_hand = 2.0 * (57.0 * 12.0 * 4608.0) * 3072.0 * 3072.0;
        assert!((found.products / by_hand - 1.0).abs() < 0.001, "{found:?}");
        assert_eq!(found.attention, 57.0 * 4.0 * 4608.0 * 4608.0 * 3072.0);
        assert!((found.products / 1e12 - 59.5).abs() < 0.2, "{found:?}");
    }

    /// A network of one block of each kind by hand: d = 4, 4 image tokens, 2 text tokens.
    #[test]
    fn a_forward_by_hand() {
        let config = FluxConfig {
            num_layers: 1,
            num_single_layers: 1,
            num_attention_heads: 1,
            attention_head_dim: 4,
            in_channels: 4,
            joint_attention_dim: 3,
            ..FluxConfig::default()
        };
        let found = config.operations(4, 2);
        // In and out 4 x 4 x (4 + 4), text 2 x 3 x 4; 6 tokens through 12 d^2 in each block, 12 + 3 modulations.
        assert_eq!(found.products, 2.0 * (128.0 + 24.0 + (72.0 + 12.0 + 72.0 + 3.0) * 16.0));
        assert_eq!(found.attention, 2.0 * 4.0 * 36.0 * 4.0);
    }
}
