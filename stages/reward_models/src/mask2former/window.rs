//! Attention within windows: transformers `SwinAttention` and the shifts of `SwinLayer`.

use anyhow::Result;
use opdflow_models::init::Init;
use opdflow_models::nn::Linear;
use opdflow_models::weights::Scope;
use tch::{Device, Kind, Tensor};

use opdflow_spec::reward_models::geneval::detector::SwinConfig;

/// What keeps pixels apart that only the shift has brought into one window; -100, as upstream.
const APART: f64 = -100.0;

/// Attention of each pixel to those of its own window, with a bias by relative position. Where `shift` is not 0 the
/// windows lie half a window down and right, wrapped round the edges.
pub(super) struct WindowAttention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    /// `[(2 window - 1)^2, heads]`.
    table: Tensor,
    heads: i64,
    window: i64,
    shift: i64,
}

impl WindowAttention {
    /// Takes its tensors from `scope`, the `attention` of a block.
    pub(super) fn new(scope: &Scope, c: &SwinConfig, stage: usize, shift: i64) -> Result<WindowAttention> {
        let (d, heads, window) = (c.width(stage), c.num_heads[stage], c.window_size);
        let own = scope.sub("self");
        let layer = |name: &str| Linear::new(&own.sub(name), d, d, c.qkv_bias, Init::Xavier);
        let table = [(2 * window - 1) * (2 * window - 1), heads];
        Ok(WindowAttention {
            q: layer("query")?,
            k: layer("key")?,
            v: layer("value")?,
            out: Linear::new(&scope.sub("output.dense"), d, d, true, Init::Xavier)?,
            table: own.get("relative_position_bias_table", &table, Init::Normal(0.02))?,
            heads,
            window,
            shift,
        })
    }

    /// `[B, H, W, C]` to the same shape, for any H and W: what is missing to whole windows is filled with zeros, which
    /// take part in the attention, as upstream.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        let &[b, height, width, c] = &x.size()[..] else { unreachable!("a map of four dimensions") };
        let w = self.window;
        let (down, right) = ((w - height % w) % w, (w - width % w) % w);
        let x = x.constant_pad_nd([0, 0, 0, right, 0, down]);
        let (high, wide) = (height + down, width + right);
        let x = if self.shift > 0 { x.roll([-self.shift; 2], [1, 2]) } else { x };
        let cells = windows(&x, w).flatten(1, 2);
        let [q, k, v] = [&self.q, &self.k, &self.v]
            .map(|layer| layer.forward(&cells, None).view([-1, w * w, self.heads, c / self.heads]).transpose(1, 2));
        let bias = self.bias(b, high, wide);
        let y = Tensor::scaled_dot_product_attention(&q, &k, &v, Some(&bias), 0.0, false, None, false);
        let y = self.out.forward(&y.transpose(1, 2).flatten(2, 3), None);
        let y = y.view([b, high / w, wide / w, w, w, c]).transpose(2, 3).reshape([b, high, wide, c]);
        let y = if self.shift > 0 { y.roll([self.shift; 2], [1, 2]) } else { y };
        y.narrow(1, 0, height).narrow(2, 0, width)
    }

    /// What is added to the attention's logits: `[1, heads, w², w²]` by relative position, or with a shift
    /// `[B windows, heads, w², w²]`, which also keeps apart what does not belong together.
    fn bias(&self, batch: i64, height: i64, width: i64) -> Tensor {
        let n = self.window * self.window;
        let index = relative_index(self.window, self.table.device());
        let bias = self.table.index_select(0, &index).view([n, n, self.heads]).permute([2, 0, 1]).unsqueeze(0);
        if self.shift == 0 {
            return bias;
        }
        let region = regions(height, self.window, self.shift, bias.device()).unsqueeze(1) * 3
            + regions(width, self.window, self.shift, bias.device()).unsqueeze(0);
        let region = windows(&region.view([1, height, width, 1]), self.window).view([-1, n]);
        let same = region.unsqueeze(1).eq_tensor(&region.unsqueeze(2));
        let apart = same.logical_not().to_kind(bias.kind()) * APART;
        bias + apart.unsqueeze(1).repeat([batch, 1, 1, 1])
    }
}

/// `[B, H, W, C]` to windows `[B windows, w, w, C]`; H and W are multiples of `w`.
fn windows(x: &Tensor, w: i64) -> Tensor {
    let &[b, height, width, c] = &x.size()[..] else { unreachable!("a map of four dimensions") };
    x.reshape([b, height / w, w, width / w, w, c]).transpose(2, 3).reshape([-1, w, w, c])
}

/// Row of the bias table for each pair of a window's pixels, `[w⁴]` Int64.
fn relative_index(w: i64, device: Device) -> Tensor {
    let pixel = Tensor::arange(w * w, (Kind::Int64, device));
    let (y, x) = (pixel.divide_scalar_mode(w, "floor"), pixel.remainder(w));
    let between = |v: &Tensor| v.unsqueeze(1) - v.unsqueeze(0) + (w - 1);
    (between(&y) * (2 * w - 1) + between(&x)).flatten(0, 1)
}

/// Along one axis: 0 in the windows that the shift leaves whole, then 1, and 2 for what was wrapped round. `[n]` Int64.
fn regions(n: i64, window: i64, shift: i64, device: Device) -> Tensor {
    let i = Tensor::arange(n, (Kind::Int64, device));
    i.ge(n - window).to_kind(Kind::Int64) + i.ge(n - shift).to_kind(Kind::Int64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_regions_and_distances_by_hand() {
        let map = Tensor::arange(16, (Kind::Int64, Device::Cpu)).view([1, 4, 4, 1]);
        let cut = Vec::<i64>::try_from(windows(&map, 2).flatten(0, -1)).unwrap();
        assert_eq!(cut, [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]);
        assert_eq!(Vec::<i64>::try_from(regions(7, 3, 1, Device::Cpu)).unwrap(), [0, 0, 0, 0, 1, 1, 2]);
        // Four pixels: (0,0) to itself is the middle of the 3x3 table, (0,0) to (1,1) its first row.
        let index = Vec::<i64>::try_from(relative_index(2, Device::Cpu)).unwrap();
        assert_eq!(index, [4, 3, 1, 0, 5, 4, 2, 1, 7, 6, 4, 3, 8, 7, 5, 4]);
    }
}
