//! Random numbers that depend on a seed, a purpose and a step, and on nothing that came before.
//!
//! A training round draws from `(seed, purpose, round)`. So there is no generator state to save: a run that continues at round
//! 40 draws what an undisturbed run draws there.

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
}
