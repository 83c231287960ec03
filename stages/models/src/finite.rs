//! Whether numbers are numbers. Nothing that is not finite is trained on, decoded or saved.

use opdflow_spec::objective::Report;
use tch::{Kind, Tensor, no_grad};

/// Something that is not finite.
#[derive(Debug)]
pub struct NotFinite {
    /// What, such as `the gradient of round 3`.
    pub what: String,
    /// Numbers that go with it.
    pub report: Report,
}

impl NotFinite {
    /// Without numbers.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), report: Report::new() }
    }
}

impl std::fmt::Display for NotFinite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is not finite", self.what)?;
        for (name, value) in &self.report {
            write!(f, ", {name} {value:.3e}")?;
        }
        Ok(())
    }
}

impl std::error::Error for NotFinite {}

/// `t` in a kind whose extremes libtorch knows everywhere; the same values.
fn wide(t: &Tensor) -> Tensor {
    let t = t.detach();
    if matches!(t.kind(), Kind::Half | Kind::BFloat16) { t.to_kind(Kind::Float) } else { t }
}

fn counts(t: &Tensor) -> bool {
    t.defined() && t.is_floating_point() && t.numel() > 0
}

/// The place of the first of these tensors that holds something not finite. Each is read once, where it lies, and the
/// device is waited for once. Tensors of whole numbers are finite.
#[must_use]
pub fn first_broken<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Option<usize> {
    no_grad(|| {
        let (places, ends): (Vec<usize>, Vec<Tensor>) = tensors
            .into_iter()
            .enumerate()
            .filter(|(_, t)| counts(t))
            .map(|(i, t)| {
                // NaN is both the least and the largest of whatever holds it.
                let (least, most) = wide(t).aminmax(None::<i64>, false);
                (i, Tensor::stack(&[least, most], 0).to_kind(Kind::Double))
            })
            .unzip();
        if places.is_empty() {
            return None;
        }
        let whole: Vec<bool> = Vec::try_from(Tensor::stack(&ends, 0).isfinite().all_dim(1, false)).ok()?;
        whole.iter().position(|w| !w).map(|i| places[i])
    })
}

/// Whether all of `t` is finite.
#[must_use]
pub fn is_finite(t: &Tensor) -> bool {
    first_broken([t]).is_none()
}

/// The first row of `[B, ...]` that holds something not finite.
#[must_use]
pub fn first_broken_row(t: &Tensor) -> Option<usize> {
    if !counts(t) {
        return None;
    }
    no_grad(|| {
        let rows = wide(t).reshape([t.size()[0], -1]);
        let (least, most) = rows.aminmax(1i64, false);
        let whole: Vec<bool> = Vec::try_from(least.isfinite().logical_and(&most.isfinite())).ok()?;
        whole.iter().position(|w| !w)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn one_number_is_found_in_every_kind() {
        for kind in [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16] {
            for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let t = Tensor::ones([4, 3, 2], (kind, Device::Cpu));
                assert!(is_finite(&t) && first_broken_row(&t).is_none(), "{kind:?}");
                let _ = t.get(2).get(1).get(0).fill_(bad);
                assert_eq!(first_broken_row(&t), Some(2), "{kind:?} {bad}");
                let whole = Tensor::from_slice(&[f32::MAX, f32::MIN]);
                let count = Tensor::from_slice(&[1_i64]);
                assert_eq!(first_broken([&whole, &count, &t, &t]), Some(2), "{kind:?} {bad}");
                assert_eq!(first_broken([&whole, &count]), None);
            }
        }
        let empty = Tensor::zeros([0, 3], (Kind::Float, Device::Cpu));
        assert!(is_finite(&empty) && is_finite(&Tensor::new()) && first_broken_row(&empty).is_none());
    }
}
