//! Numbers for reports that are summed where the tensors are, and read once: an inner loop does not wait for its device.

use tch::{Kind, Tensor, no_grad};

/// A running sum, or a running maximum, of what a loop computes; nothing yet is 0.
#[derive(Default)]
pub struct Tally(Option<Tensor>);

impl Tally {
    /// Adds the sum of `x`, of any shape and kind, times `scale`. In f64, in the order of the calls.
    pub fn add(&mut self, x: &Tensor, scale: f64) {
        self.take(|so_far| {
            let more = x.detach().sum(Kind::Float).to_kind(Kind::Double) * scale;
            so_far.map_or_else(|| more.shallow_clone(), |sum| sum + &more)
        });
    }

    /// Takes the largest of `x` and all before.
    pub fn most(&mut self, x: &Tensor) {
        self.take(|so_far| {
            let most = x.detach().max().to_kind(Kind::Double);
            so_far.map_or_else(|| most.shallow_clone(), |max| max.maximum(&most))
        });
    }

    fn take(&mut self, next: impl FnOnce(Option<Tensor>) -> Tensor) {
        let so_far = self.0.take();
        self.0 = Some(no_grad(|| next(so_far)));
    }

    /// The number. Waits for the device.
    #[must_use]
    pub fn read(&self) -> f64 {
        self.0.as_ref().map_or(0.0, |t| t.double_value(&[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_maxima_are_those_of_plain_numbers() {
        let (mut sum, mut most) = (Tally::default(), Tally::default());
        assert_eq!((sum.read(), most.read()), (0.0, 0.0));
        let (mut plain, mut top) = (0.0, f64::NEG_INFINITY);
        for k in 1..20 {
            let x = Tensor::from_slice(&[0.1_f32 * k as f32, -1.7 / k as f32]).set_requires_grad(true);
            let y = &x * 3.0;
            sum.add(&y, 0.3);
            most.most(&y);
            plain += y.sum(Kind::Float).double_value(&[]) * 0.3;
            top = top.max(y.max().double_value(&[]));
        }
        assert_eq!((sum.read().to_bits(), most.read().to_bits()), (plain.to_bits(), top.to_bits()));
    }
}
