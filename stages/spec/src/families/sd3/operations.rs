//! How many floating-point operations the network has to do, by its configuration. Products of matrices and attention are
//! counted; norms, activations and adapters are not: at full size they are a few percent.

use super::MmditConfig;
use crate::family::Forward;

/// A size of a configuration, as a number to count with.
fn n(size: i64) -> f64 {
    size.max(0) as f64
}

impl MmditConfig {
    /// One row through the network: rows and columns of patches, and tokens of text.
    pub(super) fn forward_operations(&self, patches: [u64; 2], text: u64) -> Forward {
        let patch = self.patch_size.max(1);
        let (d, image, text) = (n(self.width()), patches[0] as f64 * patches[1] as f64, text as f64);
        let all = image + text;
        let ends = image * d * n(patch).powi(2) * n(self.in_channels + self.channels_out())
            + text * n(self.joint_attention_dim) * d;
        let mut found = Forward { products: 2.0 * ends, attention: 0.0 };
        for layer in 0..self.num_layers {
            let (last, dual) = (layer == self.num_layers - 1, self.dual_attention_layers.contains(&layer));
            // Queries, keys and values of both, image out, feed-forward part of four widths in and out; the modulations once a row.
            let mut weights = 3.0 * all + image + 8.0 * image;
            weights += if last { 0.0 } else { text + 8.0 * text };
            weights += if dual { 9.0 } else { 6.0 } + if last { 2.0 } else { 6.0 };
            found.attention += 4.0 * all * all * d;
            if dual {
                weights += 4.0 * image;
                found.attention += 4.0 * image * image * d;
            }
            found.products += 2.0 * weights * d * d;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2.44 TFLOP a forward of Stable Diffusion 3.5 Medium at 512 pixels with 333 text tokens.
    #[test]
    fn a_forward_of_the_published_size() {
        let medium = MmditConfig {
            num_layers: 24,
            num_attention_heads: 24,
            attention_head_dim: 64,
            caption_projection_dim: 1536,
            dual_attention_layers: (0..13).collect(),
            ..MmditConfig::default()
        };
        let Forward { products, attention } = medium.forward_operations([32, 32], 333);
        assert!(((products + attention) / 1e12 - 2.44).abs() < 0.02, "{products} {attention}");
        // Attention alone: 24 times 4 S^2 d over 1357 tokens, 13 times over 1024.
        let by_hand = 4.0 * 1536.0 * (24.0 * 1357_f64.powi(2) + 13.0 * 1024_f64.powi(2));
        assert!((attention - by_hand).abs() < 1.0, "{attention}");
        assert_eq!(medium.forward_operations([16, 64], 333), Forward { products, attention }, "as many tokens");
    }

    /// A network of one block by hand: d = 4, 4 image tokens, 2 text tokens.
    #[test]
    fn a_forward_by_hand() {
        let config = MmditConfig {
            num_layers: 1,
            num_attention_heads: 1,
            attention_head_dim: 4,
            in_channels: 1,
            out_channels: Some(1),
            patch_size: 1,
            joint_attention_dim: 3,
            ..MmditConfig::default()
        };
        let found = config.forward_operations([2, 2], 2);
        // In and out 4 x 4 x (1 + 1), text 2 x 3 x 4; q, k, v of 6 tokens, out of 4, feed-forward part of 4, 6 + 2 modulations.
        assert_eq!(found.products, 2.0 * (32.0 + 24.0) + 2.0 * (18.0 + 4.0 + 32.0 + 8.0) * 16.0);
        assert_eq!(found.attention, 4.0 * 36.0 * 4.0);
    }
}
