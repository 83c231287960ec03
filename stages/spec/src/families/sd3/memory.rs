//! How much of a forward pass is kept or alive, by the network's configuration.
//!
//! The numbers of tensors below were counted in the network's code, in units of (tokens x width); what a layer keeps for
//! the backward pass is what its derivative reads, with the base's own weights frozen. tests/mini/memory.rs holds the
//! estimate against the memory that a stage took.

use super::MmditConfig;

/// Kept of each block for the backward pass, per token and width: norms and their inputs, query, key and value before
/// and after their norms, attention's output, the feed-forward part before its activation, gates.
const KEPT: u64 = 20;
/// The same of a second attention, for image tokens alone.
const KEPT_SECOND: u64 = 8;
/// Alive at once in a forward without gradients: the streams, one block's feed-forward part before and after its
/// activation.
const ALIVE: u64 = 14;

impl MmditConfig {
    /// Numbers of one row that are kept for the backward pass: rows and columns of patches, and tokens of text.
    pub(super) fn kept(&self, patches: [u64; 2], text: u64, gradient_checkpointing: bool) -> u64 {
        let (image, width) = (patches[0] * patches[1], self.width().max(0).unsigned_abs());
        let (layers, tokens) = (self.num_layers.max(0).unsigned_abs(), image + text);
        let seconds = self.dual_attention_layers.len() as u64;
        let kept = if gradient_checkpointing {
            // What enters each block, and the inside of one while it is computed once more and its gradient comes back.
            layers * tokens + tokens * (KEPT + ALIVE) + seconds.min(1) * image * KEPT_SECOND
        } else {
            layers * tokens * KEPT + seconds * image * KEPT_SECOND
        };
        kept * width
    }

    /// Numbers of one row that are alive at once in a forward without gradients.
    pub(super) fn alive(&self, patches: [u64; 2], text: u64) -> u64 {
        (patches[0] * patches[1] + text) * self.width().max(0).unsigned_abs() * ALIVE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_grows_with_layers_and_tokens() {
        let config = MmditConfig { num_layers: 3, dual_attention_layers: vec![0, 1], ..MmditConfig::default() };
        let width = 18 * 64;
        assert_eq!(config.kept([2, 3], 4, false), width * (3 * 10 * KEPT + 2 * 6 * KEPT_SECOND));
        assert_eq!(config.kept([2, 3], 4, true), width * (3 * 10 + 10 * (KEPT + ALIVE) + 6 * KEPT_SECOND));
        assert_eq!(config.alive([2, 3], 4), width * 10 * ALIVE);
    }
}
