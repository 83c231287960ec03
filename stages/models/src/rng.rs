//! Noise that depends on a seed and on nothing that came before. Seeds of a purpose and a step: [`derive()`]. Noise is always drawn on the CPU and then
//! moved, so that one seed means one image on every device.

pub use opdflow_spec::rng::*;

use crate::transfer::send;
use std::sync::{Mutex, PoisonError};
use tch::{Device, Kind, Tensor};

/// libtorch has one generator for the whole process: seeding and drawing must not come apart between threads.
static DRAWING: Mutex<()> = Mutex::new(());

/// Standard normal noise of `shape`, f32, on `device`.
pub fn normal(shape: &[i64], seed: u64, device: Device) -> Tensor {
    normal_in(Kind::Float, shape, seed, device)
}

/// What PyTorch draws in another kind, as f32: `torch.randn(shape, generator=.., dtype=kind)` on the CPU. The numbers of
/// two kinds have nothing in common.
pub fn normal_in(kind: Kind, shape: &[i64], seed: u64, device: Device) -> Tensor {
    let _alone = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(seed.cast_signed());
    send(&Tensor::randn(shape, (kind, Device::Cpu)).to_kind(Kind::Float), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_draw_apart() {
        let alone: Vec<Tensor> = (0..4).map(|seed| normal(&[4096], seed, Device::Cpu)).collect();
        std::thread::scope(|scope| {
            for (seed, alone) in alone.iter().map(Tensor::shallow_clone).enumerate() {
                scope
                    .spawn(move || (0..100).for_each(|_| assert_eq!(normal(&[4096], seed as u64, Device::Cpu), alone)));
            }
        });
    }

    #[test]
    fn noise_is_pytorchs_own() {
        // torch.manual_seed(0); torch.randn(3)
        let noise = Vec::<f32>::try_from(normal(&[3], 0, Device::Cpu)).unwrap();
        for (ours, theirs) in noise.iter().zip([1.540_996_1, -0.293_428_9, -2.178_789_4]) {
            assert!((ours - theirs).abs() < 1e-6, "{noise:?}");
        }
    }
}
