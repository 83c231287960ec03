//! Many images, few at a time.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// Images or texts that go through a network at once. It bounds the memory; at the sizes of these networks a larger
/// number is hardly faster.
pub const BATCH: usize = 8;

/// The rows `[B, width]` (f32) that `each` gives of a few items at a time, without gradients.
pub fn in_batches<T>(items: &[T], width: i64, device: Device, each: impl Fn(&[T]) -> Result<Tensor>) -> Result<Tensor> {
    let _guard = tch::no_grad_guard();
    if items.is_empty() {
        return Ok(Tensor::zeros([0, width], (Kind::Float, device)));
    }
    let rows = items.chunks(BATCH).map(each).collect::<Result<Vec<_>>>()?;
    Ok(Tensor::cat(&rows, 0))
}

/// `[B, 1]` or `[B]` as numbers.
pub fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    Ok(Vec::try_from(x.to_device(Device::Cpu).to_kind(Kind::Double).view(-1))?)
}
