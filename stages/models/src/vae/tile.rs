//! Decoding a large latent in overlapping tiles, so that memory does not grow with the image: diffusers'
//! `AutoencoderKL.tiled_decode`, what `enable_vae_tiling` switches on.

use super::Vae;
use tch::{IndexOp as _, Tensor};

/// Share of a tile that the next one covers too (`tile_overlap_factor`).
const OVERLAP: f64 = 0.25;

impl Vae {
    /// As [`Vae::decode`], tile by tile where a side is longer than a tile (the config's `sample_size`). The result
    /// differs a little: a tile does not see what lies beyond it.
    pub fn decode_tiled(&self, z: &Tensor) -> Tensor {
        let (factor, side) = (self.config().factor(), self.config().sample_size);
        // Integers are cut as Python's `int` cuts them.
        let cut = |x: i64, share: f64| (x as f64 * share) as i64;
        let tile = side / factor;
        let (h, w) = (z.size()[2], z.size()[3]);
        let (stride, blend) = (cut(tile, 1.0 - OVERLAP), cut(side, OVERLAP));
        if (h <= tile && w <= tile) || stride < 1 {
            return self.decode(z);
        }
        let keep = side - blend;
        let starts = |length: i64| (0..length).step_by(stride as usize);
        let mut above: Vec<Tensor> = Vec::new();
        let mut rows = Vec::new();
        for y in starts(h) {
            let mut row: Vec<Tensor> = Vec::new();
            for (j, x) in starts(w).enumerate() {
                let part = z.narrow(2, y, tile.min(h - y)).narrow(3, x, tile.min(w - x));
                let mut image = self.decode(&part);
                if let Some(up) = above.get(j) {
                    image = blended(up, &image, 2, blend);
                }
                if let Some(left) = row.last() {
                    image = blended(left, &image, 3, blend);
                }
                row.push(image);
            }
            let kept: Vec<Tensor> =
                row.iter().map(|t| t.i((.., .., ..keep.min(t.size()[2]), ..keep.min(t.size()[3])))).collect();
            rows.push(Tensor::cat(&kept, 3));
            above = row;
        }
        Tensor::cat(&rows, 2)
    }
}

/// `b` with its beginning along `axis` faded in from the end of `a`.
fn blended(a: &Tensor, b: &Tensor, axis: i64, extent: i64) -> Tensor {
    let (end, length) = (a.size()[axis as usize], b.size()[axis as usize]);
    let extent = extent.min(end).min(length);
    if extent < 1 {
        return b.shallow_clone();
    }
    let mut shape = [1_i64; 4];
    shape[axis as usize] = extent;
    let share = (Tensor::arange(extent, (b.kind(), b.device())) / extent as f64).view(shape);
    let fade = a.narrow(axis, end - extent, extent) * (1.0 - &share) + b.narrow(axis, 0, extent) * &share;
    Tensor::cat(&[fade, b.narrow(axis, extent, length - extent)], axis)
}
