//! What decoding takes of operations and of memory, by the autoencoder's configuration.

use super::VaeConfig;

/// Alive at once in the decoder's widest place, per pixel and channel there: a residual block's input, its norm and the
/// two sides of a convolution.
const DECODED: u64 = 5;

/// A size of a configuration, as a number to count with.
fn n(size: i64) -> f64 {
    size.max(0) as f64
}

impl VaeConfig {
    /// Floating-point operations of decoding one latent of these channels, height and width; a multiplication and an addition
    /// count as two.
    #[must_use]
    pub fn decoding_operations(&self, latent: [i64; 3]) -> f64 {
        let conv = |pixels: f64, from: f64, to: f64| 2.0 * 9.0 * pixels * from * to;
        let block = |pixels: f64, from: f64, to: f64| {
            let aside = if from == to { 0.0 } else { 2.0 * pixels * from * to };
            conv(pixels, from, to) + conv(pixels, to, to) + aside
        };
        let widths: Vec<f64> = self.block_out_channels.iter().rev().map(|c| n(*c)).collect();
        let Some(&coarse) = widths.first() else { return 0.0 };
        let mut pixels = n(latent[1]) * n(latent[2]);
        let mut sum = conv(pixels, n(self.latent_channels), coarse) + 2.0 * block(pixels, coarse, coarse);
        if self.mid_block_add_attention {
            sum += 8.0 * pixels * coarse * coarse + 4.0 * pixels * pixels * coarse;
        }
        let mut from = coarse;
        for (level, &to) in widths.iter().enumerate() {
            for _ in 0..=self.layers_per_block {
                sum += block(pixels, from, to);
                from = to;
            }
            if level + 1 < widths.len() {
                pixels *= 4.0;
                sum += conv(pixels, to, to);
            }
        }
        sum + conv(pixels, from, n(self.out_channels))
    }

    /// Numbers that are alive at once where one latent of these channels, height and width is decoded.
    #[must_use]
    pub fn decoded(&self, latent: [i64; 3]) -> u64 {
        // At full size the decoder still has the second level's channels.
        let channels = &self.block_out_channels;
        let widest = channels.get(1).or(channels.first()).copied().unwrap_or(1).max(1).unsigned_abs();
        let side = |latent: i64| latent.max(0).unsigned_abs() * self.factor().max(1).unsigned_abs();
        side(latent[1]) * side(latent[2]) * widest * DECODED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without levels to speak of: one level of width 2, one layer, no attention, a latent of 1 channel and side 3.
    #[test]
    fn decoding_by_hand() {
        let config = VaeConfig {
            block_out_channels: vec![2],
            layers_per_block: 1,
            latent_channels: 1,
            mid_block_add_attention: false,
            ..VaeConfig::default()
        };
        let nine = 2.0 * 9.0 * 9.0;
        // In 1 to 2, four blocks of two convolutions 2 to 2, out 2 to 3.
        assert_eq!(config.decoding_operations([1, 3, 3]), nine * (2.0 + 4.0 * 2.0 * 4.0 + 6.0));
        let finer = VaeConfig { block_out_channels: vec![2, 2], ..config };
        // The upper level has four times the pixels: its convolution and two blocks, and the last.
        let level = 4.0 * nine * (4.0 + 2.0 * 2.0 * 4.0 + 6.0);
        assert_eq!(finer.decoding_operations([1, 3, 3]), nine * (2.0 + 4.0 * 2.0 * 4.0) + level);
        assert_eq!(finer.decoded([1, 3, 5]), 6 * 10 * 2 * DECODED);
    }

    /// Published as 1.24 T multiplications and additions for the decoder at 512 pixels.
    #[test]
    fn decoding_of_the_published_size() {
        let config = VaeConfig {
            block_out_channels: vec![128, 256, 512, 512],
            layers_per_block: 2,
            latent_channels: 16,
            ..VaeConfig::default()
        };
        let found = config.decoding_operations([16, 64, 64]);
        assert!((found / 2.48e12 - 1.0).abs() < 0.03, "{found}");
    }
}
