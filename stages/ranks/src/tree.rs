//! Sums over a fixed tree: the terms in their order are the leaves, neighbours are added first, then neighbours of these. Sums of
//! floating-point numbers hang on the order in which they are added, so the order here is that of the terms, whoever has them.

use std::ops::Range;
use tch::Tensor;

/// Where a sum stands in the tree: it is that of the terms `index << level` to `(index + 1) << level`, as far as there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    level: u32,
    index: usize,
}

/// What stands at neighbouring places of a tree over `terms` leaves, in their order; what are two halves of a whole is joined.
struct Row<T> {
    terms: usize,
    nodes: Vec<(Place, T)>,
}

impl<T> Row<T> {
    fn of(terms: usize) -> Self {
        Self { terms, nodes: Vec::new() }
    }

    /// Adds what stands at the place after the last.
    fn add(&mut self, mut place: Place, mut value: T, join: impl Fn(T, T) -> T) {
        while (1 << place.level) < self.terms {
            let left = (place.level, place.index.wrapping_sub(1));
            if place.index.is_multiple_of(2) {
                // Where nothing comes to the right, the whole is this half.
                if (place.index + 1) << place.level < self.terms {
                    break;
                }
            } else if self.nodes.last().is_some_and(|(place, _)| (place.level, place.index) == left) {
                if let Some((_, half)) = self.nodes.pop() {
                    value = join(half, value);
                }
            } else {
                break;
            }
            place = Place { level: place.level + 1, index: place.index / 2 };
        }
        self.nodes.push((place, value));
    }
}

/// Some neighbouring terms of a sum, added up as far as they alone decide.
pub struct Tree(Row<Tensor>);

impl Tree {
    /// Of `terms` terms in all.
    #[must_use]
    pub fn of(terms: usize) -> Self {
        Self(Row::of(terms))
    }

    /// Adds term `index`, the one after the last. The tensor is the tree's from now on.
    pub fn push(&mut self, index: usize, term: Tensor) {
        self.graft(Place { level: 0, index }, term);
    }

    /// Adds a sum that another process has, at its place. The tensor is the tree's from now on.
    pub fn graft(&mut self, place: Place, sum: Tensor) {
        self.0.add(place, sum, |mut left, right| tch::no_grad(|| left.g_add_(&right)));
    }

    /// Takes the sums out, in their order: as many as [`places`] says of the terms that were pushed.
    #[must_use]
    pub fn sums(self) -> Vec<Tensor> {
        self.0.nodes.into_iter().map(|(_, sum)| sum).collect()
    }

    /// The sum of all terms, once all were added; nothing if there are none, or if some are missing.
    #[must_use]
    pub fn root(mut self) -> Option<Tensor> {
        let (place, sum) = self.0.nodes.pop()?;
        let whole = place.index == 0 && (1 << place.level) >= self.0.terms;
        (whole && self.0.nodes.is_empty()).then_some(sum)
    }
}

/// The places of the sums that one has who has added the terms `own` of `terms`: at most two for each level.
#[must_use]
pub fn places(own: Range<usize>, terms: usize) -> Vec<Place> {
    let mut row = Row::of(terms);
    own.for_each(|index| row.add(Place { level: 0, index }, (), |(), ()| ()));
    row.nodes.into_iter().map(|(place, ())| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers whose sum hangs on the order.
    fn term(i: usize) -> f32 {
        ((i * 2_654_435_761) % 1000) as f32 * 10f32.powi((i % 7) as i32 - 3)
    }

    /// The sum of the terms in a range of the tree, by the definition.
    fn by_hand(level: u32, index: usize, terms: usize) -> Option<f32> {
        if index << level >= terms {
            return None;
        }
        if level == 0 {
            return Some(term(index));
        }
        let left = by_hand(level - 1, index * 2, terms);
        let right = by_hand(level - 1, index * 2 + 1, terms);
        left.map(|l| right.map_or(l, |r| l + r))
    }

    #[test]
    fn the_sum_is_the_tree_s_whoever_has_the_terms() {
        let of = |value: f32| Tensor::from_slice(&[value]);
        for terms in (1..40).chain([63, 64, 65, 200]) {
            let level = (0..).find(|l| 1 << l >= terms).unwrap();
            let wanted = by_hand(level, 0, terms).unwrap();
            for world in [1, 2, 3, 4, 7, 16] {
                let mut whole = Tree::of(terms);
                for rank in 0..world {
                    let own = rank * terms / world..(rank + 1) * terms / world;
                    let mut part = Tree::of(terms);
                    own.clone().for_each(|i| part.push(i, of(term(i))));
                    let (places, sums) = (places(own, terms), part.sums());
                    assert_eq!(places.len(), sums.len());
                    places.into_iter().zip(sums).for_each(|(place, sum)| whole.graft(place, sum));
                }
                let found = whole.root().expect("all terms are there").double_value(&[0]) as f32;
                assert_eq!(found.to_bits(), wanted.to_bits(), "{terms} terms, {world} processes");
            }
        }
    }

    #[test]
    fn a_sum_that_is_not_whole_is_none() {
        let mut tree = Tree::of(3);
        tree.push(0, Tensor::from_slice(&[1.0]));
        tree.push(1, Tensor::from_slice(&[1.0]));
        assert!(tree.root().is_none());
        assert!(Tree::of(0).root().is_none());
    }
}
