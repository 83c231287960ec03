//! Files that hold a known network under other names: one published layout read as another.

/// From the name that a model asks for to where its tensor lies in the files. A model is then written once, by the names
/// of one layout; errors name what is in the files.
pub type Layout = fn(&str) -> Place;

/// The same where it depends on what is in a configuration or a header.
pub type LayoutOf = Box<dyn Fn(&str) -> Place + Send>;

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
    #[must_use]
    pub fn part(self) -> Option<(usize, &'static [i64])> {
        match self {
            Cut::Third(n) => Some((usize::try_from(n).ok()?, &[1, 1, 1])),
            Cut::Part { which, units } => Some((which, units)),
            _ => None,
        }
    }

    /// The shape in the files of what is to have `shape`.
    #[must_use]
    pub fn there(self, shape: &[i64]) -> Vec<i64> {
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
}
