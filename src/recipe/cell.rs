//! Names of cells: a stage with a `matrix` becomes `train[seed=1,rate=0.1]` and so on. A name that leaves axes out, or all
//! of them, means every cell that has the axes it gives.

/// A stage's name taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell<'a> {
    /// The stage as written in the recipe.
    pub stage: &'a str,
    /// Its axes and their values; none if it is no cell.
    pub axes: Vec<(&'a str, &'a str)>,
}

impl<'a> Cell<'a> {
    /// Takes a name apart; nothing if its brackets are not whole.
    #[must_use]
    pub fn parse(name: &'a str) -> Option<Self> {
        let Some((stage, rest)) = name.split_once('[') else { return Some(Self { stage: name, axes: Vec::new() }) };
        let axis = |pair: &'a str| pair.split_once('=').map(|(axis, value)| (axis.trim(), value.trim()));
        let axes = rest.strip_suffix(']')?.split(',').map(axis).collect::<Option<_>>()?;
        Some(Self { stage, axes })
    }

    /// Whether `other` is one of those that this name means.
    #[must_use]
    pub fn means(&self, other: &Self) -> bool {
        self.stage == other.stage && self.axes.iter().all(|axis| other.axes.contains(axis))
    }

    /// The same name, as the cell `reader` means it: it leaves out no axis that the reader has a value of and that
    /// `others`, which are those it means elsewhere, have too.
    #[must_use]
    pub fn read_by<'o>(mut self, reader: &Self, others: impl Iterator<Item = &'o Self> + Clone) -> Self
    where
        'a: 'o,
    {
        for axis in &reader.axes {
            let own = self.axes.iter().any(|(name, _)| *name == axis.0);
            if !own && others.clone().any(|o| o.axes.iter().any(|(name, _)| *name == axis.0)) {
                self.axes.push(*axis);
            }
        }
        self
    }

    /// What tells `other` from the rest of those that this name means, in the letters of names: `seed_1__rate_0_1`.
    /// Empty if this name means that one cell.
    #[must_use]
    pub fn label(&self, other: &Self) -> String {
        label(self.open(other))
    }

    /// The same, less the axis `seed`, and the value of that axis if it is open.
    #[must_use]
    pub fn less_seed(&self, other: &Self) -> (String, Option<u64>) {
        let is_seed = |(axis, value): &(&str, &str)| (*axis == SEED).then(|| value.parse::<u64>().ok()).flatten();
        let seed = self.open(other).find_map(is_seed);
        (label(self.open(other).filter(|pair| is_seed(pair).is_none())), seed)
    }

    /// The axes of `other` that this name leaves out, with their values.
    fn open<'s>(&'s self, other: &'s Self) -> impl Iterator<Item = &'s (&'a str, &'a str)> {
        other.axes.iter().filter(|(axis, _)| !self.axes.iter().any(|(own, _)| own == axis))
    }
}

/// The axis whose cells are one thing several times.
const SEED: &str = "seed";

/// Axes and values in the letters of names.
fn label<'p>(axes: impl Iterator<Item = &'p (&'p str, &'p str)>) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let one = |(axis, value): &(&str, &str)| format!("{axis}_{}", value.chars().map(plain).collect::<String>());
    axes.map(one).collect::<Vec<_>>().join("__")
}

/// Those of `names` that `wanted` means, in their order.
#[must_use]
pub fn select<'n>(wanted: &str, names: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
    let Some(wanted) = Cell::parse(wanted) else { return Vec::new() };
    names.into_iter().filter(|name| Cell::parse(name).is_some_and(|cell| wanted.means(&cell))).collect()
}

/// `stage.port` as its two parts. Values in brackets may have points of their own.
#[must_use]
pub fn reference(text: &str) -> (&str, Option<&str>) {
    let from = text.find(']').unwrap_or(0);
    text[from..].find('.').map_or((text, None), |at| (&text[..from + at], Some(&text[from + at + 1..])))
}

/// Whether `name` is made of lower-case letters, digits and `_`.
pub(crate) fn plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_the_cells_that_have_its_axes() {
        let names = ["base", "train[seed=1,rate=0.1]", "train[seed=1,rate=0.2]", "train[seed=2,rate=0.1]", "trainer"];
        assert_eq!(select("base", names), ["base"]);
        assert_eq!(select("train", names).len(), 3);
        assert_eq!(select("train[seed=1]", names), names[1..3]);
        assert_eq!(select("train[rate=0.1, seed=2]", names), ["train[seed=2,rate=0.1]"]);
        for none in ["train[seed=3]", "train[seed=1", "train[seed]", "base[seed=1]", ""] {
            assert!(select(none, names).is_empty(), "{none}");
        }
    }

    #[test]
    fn labels_name_what_is_left_open() {
        let cell = Cell::parse("t[seed=1,rate=-0.5,by=SGD]").unwrap();
        assert_eq!(Cell::parse("t").unwrap().label(&cell), "seed_1__rate__0_5__by_sgd");
        assert_eq!(Cell::parse("t[by=SGD,seed=1]").unwrap().label(&cell), "rate__0_5");
        assert_eq!(cell.label(&cell), "");
        assert_eq!(Cell::parse("t").unwrap().less_seed(&cell), ("rate__0_5__by_sgd".into(), Some(1)));
        assert_eq!(Cell::parse("t[seed=1]").unwrap().less_seed(&cell), ("rate__0_5__by_sgd".into(), None));
    }

    #[test]
    fn a_cell_follows_its_own_axes() {
        let others = ["t[seed=1,rate=0.1]", "t[seed=2,rate=0.1]"].map(|n| Cell::parse(n).unwrap());
        let reader = Cell::parse("e[seed=2,size=9]").unwrap();
        let meant = |name| Cell::parse(name).unwrap().read_by(&reader, others.iter());
        assert_eq!(meant("t").axes, [("seed", "2")]);
        assert_eq!(meant("t[rate=0.1]").label(&others[1]), "");
        // What is written stands.
        assert_eq!(meant("t[seed=1]").axes, [("seed", "1")]);
    }

    #[test]
    fn references_end_at_their_point() {
        assert_eq!(reference("a.b"), ("a", Some("b")));
        assert_eq!(reference("a"), ("a", None));
        assert_eq!(reference("a[x=0.5].b"), ("a[x=0.5]", Some("b")));
        assert_eq!(reference("a[x=0.5]"), ("a[x=0.5]", None));
    }
}
