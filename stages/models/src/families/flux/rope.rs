//! Rotary positions: diffusers `FluxPosEmbed`, `get_1d_rotary_pos_embed` and `apply_rotary_emb`.

use super::FluxConfig;
use tch::{Device, Kind, Tensor};

/// The base of the frequencies, fixed in the upstream class.
const THETA: f64 = 10_000.0;

/// What turns with a token's coordinates: for each pair of a head's numbers a frequency, f64.
pub(super) struct Rope {
    /// Of the coordinate that is 0 for all tokens; how many pairs it has.
    still: i64,
    rows: Tensor,
    cols: Tensor,
}

/// Cosines and sines for each token, `[1, L + N, 1, head / 2]`, f32.
pub(super) struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    pub(super) fn new(config: &FluxConfig, device: Device) -> Rope {
        let frequencies = |dim: i64| {
            let exponents = Tensor::arange_start_step(0, dim, 2, (Kind::Double, Device::Cpu)) / dim as f64;
            let powers = Tensor::from(THETA).to_kind(Kind::Double).pow(&exponents);
            powers.reciprocal().to_device(device)
        };
        let axis = |i: usize| config.axes_dims_rope.get(i).copied().unwrap_or(0);
        Rope { still: axis(0) / 2, rows: frequencies(axis(1)), cols: frequencies(axis(2)) }
    }

    /// The angles of `text` tokens, all at the origin, and of `h` by `w` patches after them, row by row. Made in f64, as
    /// upstream, so that far patches keep their places.
    pub(super) fn angles(&self, text: i64, h: i64, w: i64) -> Angles {
        let double = (Kind::Double, self.rows.device());
        let axis = |n: i64, frequencies: &Tensor| Tensor::arange(n, double).outer(frequencies);
        let wide = |t: Tensor| t.expand([h, w, t.size()[2]], false).reshape([h * w, -1]);
        let rows = wide(axis(h, &self.rows).unsqueeze(1));
        let cols = wide(axis(w, &self.cols).unsqueeze(0));
        let image = Tensor::cat(&[Tensor::zeros([h * w, self.still], double), rows, cols], 1);
        let all = Tensor::cat(&[Tensor::zeros([text, image.size()[1]], double), image], 0);
        let of = |t: Tensor| t.to_kind(Kind::Float).unsqueeze(0).unsqueeze(2);
        Angles { cos: of(all.cos()), sin: of(all.sin()) }
    }
}

impl Angles {
    /// Turns queries or keys `[B, L + N, heads, head]`, in f32, and gives their kind back.
    pub(super) fn turn(&self, x: &Tensor) -> Tensor {
        let size = x.size();
        let pairs = x.to_kind(Kind::Float).view([size[0], size[1], size[2], size[3] / 2, 2]);
        let (a, b) = (pairs.select(4, 0), pairs.select(4, 1));
        let turned = Tensor::stack(&[&a * &self.cos - &b * &self.sin, &b * &self.cos + &a * &self.sin], -1);
        turned.flatten(3, 4).to_kind(x.kind())
    }

    /// Cosines and sines as upstream lays them out, `[L + N, head]`, each twice.
    #[cfg(test)]
    pub(super) fn table(&self) -> (Tensor, Tensor) {
        let of = |t: &Tensor| t.squeeze_dim(2).squeeze_dim(0).repeat_interleave_self_int(2, 1, None);
        (of(&self.cos), of(&self.sin))
    }
}
