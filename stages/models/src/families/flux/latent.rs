//! Latents as the network takes them: patches of 2 by 2 pixels as tokens, row by row (diffusers `FluxPipeline`,
//! `_pack_latents` and `_unpack_latents`). Everything outside of the network sees ordinary latents.

use super::PATCH;
use tch::Tensor;

/// A latent `[B, C, H, W]` with even sides as tokens `[B, H/2 W/2, 4 C]`; the four pixels of a channel lie together.
pub fn pack(latent: &Tensor) -> Tensor {
    let size = latent.size();
    let (b, c, h, w) = (size[0], size[1], size[2] / PATCH, size[3] / PATCH);
    latent.reshape([b, c, h, PATCH, w, PATCH]).permute([0, 2, 4, 1, 3, 5]).reshape([b, h * w, c * PATCH * PATCH])
}

/// Tokens `[B, H/2 W/2, 4 C]` as a latent `[B, C, H, W]` of these sides.
pub fn unpack(tokens: &Tensor, height: i64, width: i64) -> Tensor {
    let size = tokens.size();
    let (b, c, h, w) = (size[0], size[2] / (PATCH * PATCH), height / PATCH, width / PATCH);
    tokens.reshape([b, h, w, c, PATCH, PATCH]).permute([0, 3, 1, 4, 2, 5]).reshape([b, c, height, width])
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn a_patch_is_a_token_and_comes_back() {
        // Each number says where it is: channel, row, column.
        let latent = Tensor::arange(2 * 3 * 4 * 6, (Kind::Float, Device::Cpu)).view([2, 3, 4, 6]);
        let tokens = pack(&latent);
        assert_eq!(tokens.size(), [2, 6, 12]);
        // The token at row 1, column 2 of the second sample, channel 1: rows 2 and 3, columns 4 and 5.
        let found: Vec<f32> = Vec::try_from(tokens.get(1).get(5).narrow(0, 4, 4)).unwrap();
        let at = |row: i64, col: i64| (((3 + 1) * 4 + row) * 6 + col) as f32;
        assert_eq!(found, [at(2, 4), at(2, 5), at(3, 4), at(3, 5)]);
        assert!(unpack(&tokens, 4, 6) == latent);
        assert!(unpack(&pack(&latent.transpose(2, 3)), 6, 4) == latent.transpose(2, 3));
    }
}
