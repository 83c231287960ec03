//! What a network is conditioned on, as named tensors with a row for each prompt. Only the family knows what is in them;
//! everybody else cuts, joins, moves and stores them.

use crate::finite::first_broken_row;
use crate::transfer::send;
use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};

/// Named tensors whose first dimension counts prompts.
#[derive(Debug)]
pub struct Rows(Vec<(String, Tensor)>);

/// Prompts as the network takes them.
pub type Condition = Rows;

/// Prompts as ids of the tokenizers.
pub type Tokens = Rows;

impl Rows {
    /// Of tensors by name, in the order in which they are stored.
    ///
    /// # Errors
    /// None at all, or some with another number of rows.
    pub fn new<N: Into<String>>(tensors: impl IntoIterator<Item = (N, Tensor)>) -> Result<Rows> {
        let tensors: Vec<(String, Tensor)> = tensors.into_iter().map(|(n, t)| (n.into(), t)).collect();
        let rows = |t: &Tensor| t.size().first().copied();
        let count = tensors.first().and_then(|(_, t)| rows(t));
        ensure!(count.is_some(), "a condition without tensors that have rows");
        if let Some((name, t)) = tensors.iter().find(|(_, t)| rows(t) != count) {
            anyhow::bail!(
                "`{name}` of a condition has shape {:?}, the others have {} rows",
                t.size(),
                count.unwrap_or(0)
            );
        }
        Ok(Rows(tensors))
    }

    /// Number of prompts.
    #[must_use]
    pub fn len(&self) -> i64 {
        self.0.first().map_or(0, |(_, t)| t.size()[0])
    }

    /// Whether there are no prompts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tensors by name, to store them.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(n, t)| (n.as_str(), t))
    }

    /// The tensor of this name: for the family alone.
    ///
    /// # Errors
    /// There is none: these are another family's.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        let found = self.0.iter().find(|(n, _)| n == name).map(|(_, t)| t);
        found.ok_or_else(|| {
            let there = self.0.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>().join(", ");
            anyhow::anyhow!("what prompts were encoded to has no `{name}` (it has {there}): it is another model's")
        })
    }

    /// Holds tensors against what a network takes: by name the rank, and the width of the last dimension.
    ///
    /// # Errors
    /// A tensor that is not there or has another shape.
    pub fn fits(&self, wanted: &[(&str, usize, i64)]) -> Result<()> {
        for &(name, rank, width) in wanted {
            let shape = self.tensor(name)?.size();
            ensure!(
                shape.len() == rank && shape.last() == Some(&width),
                "`{name}` of the encoded prompts has shape {shape:?}, the transformer takes {width} channels"
            );
        }
        Ok(())
    }

    fn map(&self, f: impl Fn(&Tensor) -> Tensor) -> Rows {
        Rows(self.0.iter().map(|(n, t)| (n.clone(), f(t))).collect())
    }

    /// The rows named by `index` `[n]` (Int64), in its order, repeats allowed.
    #[must_use]
    pub fn select(&self, index: &Tensor) -> Rows {
        self.map(|t| t.index_select(0, &send(index, t.device())))
    }

    /// The rows of `index`, repeats allowed.
    #[must_use]
    pub fn rows(&self, index: &[i64]) -> Rows {
        self.select(&Tensor::from_slice(index))
    }

    /// `count` rows from `start`.
    #[must_use]
    pub fn narrow(&self, start: i64, count: i64) -> Rows {
        self.map(|t| t.narrow(0, start, count))
    }

    /// The one row of this `n` times, without copying it.
    #[must_use]
    pub fn repeated(&self, n: i64) -> Rows {
        self.map(|t| {
            let mut shape = t.size();
            shape[0] = n;
            t.expand(shape, false)
        })
    }

    /// Several one after the other, of which each has the names of the first.
    #[must_use]
    pub fn cat(parts: &[&Rows]) -> Rows {
        let Some(first) = parts.first() else { return Rows(Vec::new()) };
        let all = |i: usize| Tensor::cat(&parts.iter().map(|p| &p.0[i].1).collect::<Vec<_>>(), 0);
        Rows(first.0.iter().enumerate().map(|(i, (n, _))| (n.clone(), all(i))).collect())
    }

    /// Rows of two, chosen by `first`, `[n]` of ones and zeros: the own rows where it is 1, those of `other` where it is 0.
    /// Both are whole numbers; `other` may have a single row.
    ///
    /// # Errors
    /// The two have other names.
    pub fn mixed(&self, other: &Rows, first: &Tensor) -> Result<Rows> {
        let mix = |(name, own): (&str, &Tensor)| {
            let first = first.unsqueeze(1);
            Ok((name.to_owned(), own * &first + other.tensor(name)? * (1i64 - &first)))
        };
        Ok(Rows(self.tensors().map(mix).collect::<Result<_>>()?))
    }

    /// The same rows on another device and in another kind.
    #[must_use]
    pub fn to(&self, device: Device, kind: Kind) -> Rows {
        self.map(|t| t.to_device(device).to_kind(kind))
    }

    /// Where they are.
    #[must_use]
    pub fn device(&self) -> Device {
        self.0.first().map_or(Device::Cpu, |(_, t)| t.device())
    }

    /// The same rows on another device.
    #[must_use]
    pub fn to_device(&self, device: Device) -> Rows {
        self.map(|t| t.to_device(device))
    }

    /// Bytes of all numbers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|(_, t)| t.numel() * t.kind().elt_size_in_bytes()).sum()
    }

    /// The first row with a number that is not finite.
    #[must_use]
    pub fn first_broken_row(&self) -> Option<usize> {
        self.0.iter().find_map(|(_, t)| first_broken_row(t))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(n: i64) -> Rows {
        let numbers =
            |shape: &[i64]| Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, Device::Cpu)).reshape(shape);
        Rows::new([("tokens", numbers(&[n, 3, 2])), ("pooled", numbers(&[n, 2]))]).unwrap()
    }

    #[test]
    fn rows_stay_together() {
        let all = rows(4);
        let (some, one) = (all.rows(&[3, 0, 3]), all.narrow(2, 1));
        assert_eq!((some.len(), one.len(), all.bytes()), (3, 1, 4 * 8 * 4));
        let both = Rows::cat(&[&one.repeated(2), &some]);
        assert_eq!(both.len(), 5);
        for (name, t) in both.tensors() {
            let whole = all.tensor(name).unwrap();
            for (at, from) in [2, 2, 3, 0, 3].into_iter().enumerate() {
                assert_eq!(t.get(at as i64), whole.get(from), "{name} {at}");
            }
        }
        let names: Vec<&str> = both.tensors().map(|(n, _)| n).collect();
        assert_eq!(names, ["tokens", "pooled"], "the order of storing");
    }

    #[test]
    fn what_is_none_is_refused() {
        let t = |n: i64| Tensor::zeros([n, 2], (Kind::Float, Device::Cpu));
        assert!(Rows::new([("a", t(2)), ("b", t(3))]).unwrap_err().to_string().contains("`b`"));
        assert!(Rows::new(Vec::<(String, Tensor)>::new()).is_err());
        let error = rows(1).tensor("context").unwrap_err().to_string();
        assert!(error.contains("no `context`") && error.contains("tokens, pooled"), "{error}");
    }

    #[test]
    fn ids_are_mixed_row_by_row() {
        let ids = |from: i64, n: i64| {
            let t = Tensor::arange_start(from, from + 2 * n, (Kind::Int64, Device::Cpu)).view([n, 2]);
            Rows::new([("ids", t)]).unwrap()
        };
        let (own, empty) = (ids(0, 3), ids(100, 1));
        let mixed = own.mixed(&empty, &Tensor::from_slice(&[1i64, 0, 1])).unwrap();
        let found = Vec::<i64>::try_from(mixed.tensor("ids").unwrap().view(-1)).unwrap();
        assert_eq!(found, [0, 1, 100, 101, 4, 5]);
    }

    #[test]
    fn a_row_that_is_not_finite_is_found_in_any_tensor() {
        let all = rows(3);
        assert_eq!(all.first_broken_row(), None);
        let _ = all.tensor("pooled").unwrap().get(1).fill_(f64::NAN);
        assert_eq!(all.first_broken_row(), Some(1));
    }
}
