//! Random numbers that depend on a seed, a purpose and a step, and on nothing that came before.
//!
//! A training round draws its noise from `(seed, purpose, round)`. So there is no generator state to save: a run
//! that continues at round 40 draws what an undisturbed run draws there. Noise is always drawn on the CPU and then
//! moved, so that one seed means one picture on every device.

use std::sync::{Mutex, PoisonError};
use tch::{Device, Kind, Tensor};

/// libtorch has one generator for the whole process: seeding and drawing must not come apart between threads.
static DRAWING: Mutex<()> = Mutex::new(());

/// A seed for one purpose at one step.
#[must_use]
pub fn derive(seed: u64, purpose: &str, step: u64) -> u64 {
    // FNV-1a over the purpose keeps the streams of two purposes apart; splitmix64 spreads neighbouring steps.
    let tag = purpose.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    mix(mix(seed ^ tag).wrapping_add(step))
}

/// One round of splitmix64's output function.
const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Standard normal noise of `shape`, f32, on `device`.
pub fn normal(shape: &[i64], seed: u64, device: Device) -> Tensor {
    normal_in(Kind::Float, shape, seed, device)
}

/// What PyTorch draws in another kind, as f32: `torch.randn(shape, generator=.., dtype=kind)` on the CPU. The numbers of
/// two kinds have nothing in common.
pub fn normal_in(kind: Kind, shape: &[i64], seed: u64, device: Device) -> Tensor {
    let _alone = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(seed.cast_signed());
    Tensor::randn(shape, (kind, Device::Cpu)).to_kind(Kind::Float).to_device(device)
}

/// A small generator for choices on the host: which prompts, which times.
#[derive(Clone, Debug)]
pub struct Choices(u64);

impl Choices {
    /// A generator of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }
    /// The next 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }
    /// A number in `0..n`. `n` must not be 0; then it is 0.
    pub const fn below(&mut self, n: usize) -> usize {
        // 128-bit multiply: the bias is below n / 2^64.
        ((self.bits() as u128 * n as u128) >> 64) as usize
    }
    /// A number in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }
    /// `0..n` in random order.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_and_steps_do_not_meet() {
        let mut seen = std::collections::BTreeSet::new();
        for purpose in ["rollout", "start", "times"] {
            for step in 0..1000 {
                assert!(seen.insert(derive(42, purpose, step)));
            }
        }
    }

    #[test]
    fn a_permutation_is_one() {
        let mut order = Choices::new(3).permutation(17);
        order.sort_unstable();
        assert_eq!(order, (0..17).collect::<Vec<_>>());
    }

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
