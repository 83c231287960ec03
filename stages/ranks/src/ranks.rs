//! This process among those of its stage, and what it does of the whole.

use crate::group::Group;
use anyhow::{Context as _, Result};
use std::ops::Range;
use std::time::Duration;
use tch::{Device, Kind, Tensor};

/// The processes of a stage, seen from one of them; a stage of one process has nobody beside it. A value to hand around, like a device.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ranks(Option<&'static Group>);

impl PartialEq for Ranks {
    fn eq(&self, other: &Self) -> bool {
        self.0.map(std::ptr::from_ref) == other.0.map(std::ptr::from_ref)
    }
}

impl Ranks {
    /// One process, which does all.
    #[must_use]
    pub const fn alone() -> Self {
        Self(None)
    }

    /// Those of a group. A process has one for as long as it lives, so that it is never freed.
    #[must_use]
    pub fn of(group: Group) -> Self {
        Self(Some(Box::leak(Box::new(group))))
    }

    /// The number of this process, from 0.
    #[must_use]
    pub fn rank(self) -> usize {
        self.0.map_or(0, Group::rank)
    }

    /// How many there are, at least 1.
    #[must_use]
    pub fn world(self) -> usize {
        self.0.map_or(1, Group::world)
    }

    /// Whether it is the one that writes, reports and decides.
    #[must_use]
    pub fn leads(self) -> bool {
        self.rank() == 0
    }

    /// How long this process has waited for the others, in all and in the wait that it is in.
    #[must_use]
    pub fn waited(self) -> (Duration, Option<Duration>) {
        self.0.map_or((Duration::ZERO, None), Group::waited)
    }

    /// Of `count` things the part that process `rank` does: they lie beside each other, and the parts are as equal as can be.
    #[must_use]
    pub fn part(self, count: usize, rank: usize) -> Range<usize> {
        let end = |rank: usize| rank * count / self.world();
        end(rank)..end(rank + 1)
    }

    /// The part of this process.
    #[must_use]
    pub fn own(self, count: usize) -> Range<usize> {
        self.part(count, self.rank())
    }

    /// Of `rows` rows, dealt `step` at a time, those of process `rank`.
    #[must_use]
    pub fn rows_of(self, rows: usize, step: usize, rank: usize) -> Range<usize> {
        let step = step.max(1);
        let part = self.part(rows.div_ceil(step), rank);
        (part.start * step).min(rows)..(part.end * step).min(rows)
    }

    /// Of `rows` rows, dealt `step` at a time, those of this process.
    #[must_use]
    pub fn own_rows(self, rows: usize, step: usize) -> Range<usize> {
        self.rows_of(rows, step, self.rank())
    }

    /// All of `rows` rows that were dealt `step` at a time, in their order: `[rows, ...]`. `own`: those of this process, none of them
    /// too, of one kind and of one shape behind the first dimension everywhere.
    ///
    /// # Errors
    /// [`crate::group::Parted`].
    pub fn gather_rows(self, own: &Tensor, rows: usize, step: usize) -> Result<Tensor> {
        let Some(group) = self.0 else { return Ok(own.shallow_clone()) };
        let counts: Vec<i64> = (0..self.world()).map(|r| self.rows_of(rows, step, r).len() as i64).collect();
        let most = counts.iter().copied().max().unwrap_or(0);
        let _off = tch::no_grad_guard();
        // Of one shape everywhere: a collective knows no other.
        let mut shape = own.size();
        *shape.first_mut().context("rows of a tensor without dimensions")? = most - own.size()[0];
        let padding = Tensor::zeros(&shape, (own.kind(), own.device()));
        let all = group.gather(&Tensor::cat(&[own, &padding], 0))?;
        let parts: Vec<Tensor> = all.iter().zip(counts).map(|(part, count)| part.narrow(0, 0, count)).collect();
        Ok(Tensor::cat(&parts, 0))
    }

    /// The bytes of each process, in their order. They may be of different numbers.
    ///
    /// # Errors
    /// [`crate::group::Parted`].
    pub fn gather_bytes(self, own: &[u8], device: Device) -> Result<Vec<Vec<u8>>> {
        let Some(group) = self.0 else { return Ok(vec![own.to_vec()]) };
        let length = Tensor::from_slice(&[own.len() as i64]).to_device(device);
        let lengths = group.gather(&length)?.iter().map(|t| t.int64_value(&[0])).collect::<Vec<_>>();
        let most = lengths.iter().copied().max().unwrap_or(0);
        let sent = Tensor::zeros([most], (Kind::Uint8, device));
        if !own.is_empty() {
            sent.narrow(0, 0, own.len() as i64).copy_(&Tensor::from_slice(own));
        }
        let all = group.gather(&sent)?;
        let bytes = |(t, length): (&Tensor, i64)| -> Result<Vec<u8>> {
            Ok(Vec::try_from(t.narrow(0, 0, length).to_device(Device::Cpu))?)
        };
        all.iter().zip(lengths).map(bytes).collect()
    }

    /// The tensor of process `root`; elsewhere `own` gives shape and kind.
    ///
    /// # Errors
    /// [`crate::group::Parted`].
    pub fn broadcast(self, own: &Tensor, root: usize) -> Result<Tensor> {
        self.0.map_or_else(|| Ok(own.shallow_clone()), |group| group.broadcast(own, root))
    }
}

/// The least number that both divide: rows that are dealt so many at a time are whole batches of `a` and of `b`.
#[must_use]
pub fn least_common(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a.max(1), b.max(1));
    while y > 0 {
        (x, y) = (y, x % y);
    }
    a.max(1) / x * b.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alone_is_all() {
        let ranks = Ranks::alone();
        assert_eq!((ranks.rank(), ranks.world(), ranks.own(7)), (0, 1, 0..7));
        let rows = Tensor::from_slice(&[1.0, 2.0]).view([2, 1]);
        assert_eq!(ranks.gather_rows(&rows, 2, 8).unwrap(), rows);
        assert_eq!(ranks.gather_bytes(b"ab", Device::Cpu).unwrap(), [b"ab".to_vec()]);
    }

    #[test]
    fn rows_are_whole_batches_of_both() {
        let of = [(24, 8), (12, 8), (5, 8), (1, 8), (128, 1), (0, 8)].map(|(a, b)| least_common(a, b));
        assert_eq!(of, [24, 24, 40, 8, 128, 8]);
    }
}
