//! Files that hold a known network under other names: one published layout read as another.

use tch::Tensor;

/// From the name that a model asks for to where its tensor lies in the files. A model is then written once, by the names
/// of one layout; errors name what is in the files.
pub type Layout = fn(&str) -> Place;

/// A tensor's place in files of another layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name there.
    pub name: String,
    /// What part of that tensor is meant.
    pub cut: Cut,
}

/// How the tensor that is asked for is cut out of the one that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// It is the same.
    Whole,
    /// Its two dimensions are swapped: a linear layer that is stored as a bare matrix to multiply by.
    Transposed,
    /// It is the first, second or third (0, 1, 2) of three that are stored one below the other, as q, k and v.
    Third(i64),
    /// It is one of several of different heights that are stored one below the other.
    Part {
        /// Which, from the top.
        which: usize,
        /// Heights of all of them, in units.
        units: &'static [i64],
    },
    /// Its halves are stored in the other order, as scale and shift of a norm.
    Swapped,
    /// A linear layer that is stored as a convolution of one pixel, `[out, in, 1, 1]`.
    Pixel,
}

impl Place {
    /// The whole of `name`.
    pub fn whole(name: impl Into<String>) -> Place {
        Place { name: name.into(), cut: Cut::Whole }
    }

    /// `name`, transposed.
    pub fn transposed(name: impl Into<String>) -> Place {
        Place { name: name.into(), cut: Cut::Transposed }
    }

    /// One of the three parts of `name`.
    pub fn third(name: impl Into<String>, which: i64) -> Place {
        Place { name: name.into(), cut: Cut::Third(which) }
    }
}

impl Cut {
    /// Which of several that are stored one below the other is meant, and their heights in units.
    pub(crate) fn part(self) -> Option<(usize, &'static [i64])> {
        match self {
            Cut::Third(n) => Some((usize::try_from(n).ok()?, &[1, 1, 1])),
            Cut::Part { which, units } => Some((which, units)),
            _ => None,
        }
    }

    /// The shape in the files of what is to have `shape`.
    pub(super) fn there(self, shape: &[i64]) -> Vec<i64> {
        let mut there = shape.to_vec();
        match self {
            Cut::Whole | Cut::Swapped => {}
            Cut::Transposed => there.reverse(),
            Cut::Pixel => there.extend([1, 1]),
            Cut::Part { which, units } => {
                if let Some(rows) = there.first_mut() {
                    *rows = (*rows / units[which].max(1)).saturating_mul(units.iter().sum());
                }
            }
            Cut::Third(_) => {
                if let Some(rows) = there.first_mut() {
                    *rows = rows.saturating_mul(3);
                }
            }
        }
        there
    }

    /// The part of `t`, which has the shape of [`Cut::there`]. A part is copied: it must not keep the whole alive.
    pub(super) fn of(self, t: Tensor) -> Tensor {
        match self {
            Cut::Whole => t,
            Cut::Swapped => {
                let (rows, half) = (t.size()[0], t.size()[0] / 2);
                Tensor::cat(&[t.narrow(0, half, rows - half), t.narrow(0, 0, half)], 0)
            }
            Cut::Pixel => t.flatten(1, -1),
            Cut::Transposed => t.transpose(0, 1).contiguous(),
            Cut::Part { which, units } => {
                let unit = t.size()[0] / units.iter().sum::<i64>().max(1);
                t.narrow(0, units[..which].iter().sum::<i64>() * unit, units[which] * unit).copy()
            }
            Cut::Third(which) => {
                let rows = t.size()[0] / 3;
                t.narrow(0, which * rows, rows).copy()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Weights, save_tensors};
    use super::*;
    use crate::init::Init;
    use tch::{Device, Kind};

    fn renamed(name: &str) -> Place {
        match name {
            "k.weight" => Place::third("in_proj", 1),
            "out.weight" => Place::transposed("proj"),
            other => Place::whole(other),
        }
    }

    #[test]
    fn parts_are_found_and_errors_name_the_file_s_tensors() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("w.safetensors");
        let count =
            |shape: &[i64]| Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, Device::Cpu)).view(shape);
        let tensors = [("in_proj", count(&[6, 2])), ("proj", count(&[2, 3])), ("left", count(&[1]))];
        save_tensors(&file, &tensors.map(|(n, t)| (n.to_owned(), t)), Kind::Float).unwrap();
        let open = || Weights::load(&file, Device::Cpu, Kind::Float).unwrap().with_layout(renamed);
        let weights = open();
        let root = weights.root();
        let flat = |t: Tensor| Vec::<f64>::try_from(t.view(-1)).unwrap();
        assert_eq!(flat(root.get("k.weight", &[2, 2], Init::Zeros).unwrap()), [4.0, 5.0, 6.0, 7.0]);
        assert_eq!(flat(root.get("out.weight", &[3, 2], Init::Zeros).unwrap()), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert!(root.has("k.weight") && !root.has("q"));
        assert_eq!(weights.unused(), ["left"]);
        let wrong = open().root().get("k.weight", &[3, 2], Init::Zeros).unwrap_err().to_string();
        assert!(wrong.contains("tensor `in_proj` has shape [6, 2], expected [9, 2]"), "{wrong}");
        let absent = open().root().get("q", &[3], Init::Zeros).unwrap_err().to_string();
        assert!(absent.contains("tensor `q` is missing"), "{absent}");
    }
}
