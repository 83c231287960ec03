//! Positions of a map's pixels as sines: transformers `Mask2FormerSinePositionEmbedding`, normalised.

use std::f64::consts::PI;
use tch::{Device, Kind, Tensor};

/// Keeps the division finite, as upstream.
const EPS: f64 = 1e-6;

/// `[1, height width, channels]`, row by row: the first half of the channels tell y, the other x, each in pairs of sine
/// and cosine of falling frequency. `channels` is a multiple of 4.
pub(super) fn positions(height: i64, width: i64, channels: i64, on: (Kind, Device)) -> Tensor {
    let half = channels / 2;
    let down = axis(height, half, on).unsqueeze(1).expand([height, width, half], false);
    let right = axis(width, half, on).unsqueeze(0).expand([height, width, half], false);
    Tensor::cat(&[down, right], 2).view([1, height * width, channels])
}

/// `[n, channels]` for the places 1 to n, stretched to a full turn.
fn axis(n: i64, channels: i64, on: (Kind, Device)) -> Tensor {
    let place = Tensor::arange_start(1, n + 1, on);
    let turn = &place / (place.narrow(0, n - 1, 1) + EPS) * (2.0 * PI);
    let pair = Tensor::arange(channels, (Kind::Int64, on.1)).divide_scalar_mode(2, "floor").to_kind(on.0);
    let period = Tensor::pow_scalar(10000.0, &(pair * 2 / channels as f64));
    let angle = turn.unsqueeze(1) / period;
    let (even, odd) = (angle.slice(1, 0, None, 2), angle.slice(1, 1, None, 2));
    Tensor::stack(&[even.sin(), odd.cos()], 2).flatten(1, 2)
}
