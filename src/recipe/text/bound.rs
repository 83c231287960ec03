//! How large a recipe may become. A few short lines of variables and matrices can stand for more than any memory holds,
//! so what each of them brings is counted before it is made.

use crate::recipe::{Diagnostic, Span};

/// Most values of a recipe with its variables and matrices put in. A value in a list counts one; a name in a map, with
/// its value, three, which is about what it takes of memory.
pub const MOST_VALUES: usize = 3_000_000;

/// Most bytes of all its names and texts together.
pub const MOST_BYTES: usize = 64 << 20;

/// What a part of a recipe comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub values: usize,
    pub bytes: usize,
}

impl Extent {
    /// A value beside others.
    pub const VALUE: Self = Self { values: 1, bytes: 0 };

    /// A name in a map, without the value.
    pub fn name(name: &str) -> Self {
        Self { values: 2, bytes: name.len() }
    }
    /// A text, besides the value that holds it.
    pub fn text(text: &str) -> Self {
        Self { values: 0, bytes: text.len() }
    }
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { values: self.values.saturating_add(other.values), bytes: self.bytes.saturating_add(other.bytes) }
    }
}

/// What of the bound is left.
#[derive(Debug)]
pub(crate) struct Bound {
    left: Extent,
    /// Where it was passed first.
    passed: Option<Span>,
}

impl Default for Bound {
    fn default() -> Self {
        Self { left: Extent { values: MOST_VALUES, bytes: MOST_BYTES }, passed: None }
    }
}

impl Bound {
    /// Makes room for what is about to be made at `span`. False if there is none, now or before: then it must not be
    /// made.
    pub fn take(&mut self, extent: Extent, span: &Span) -> bool {
        if self.passed.is_none() {
            let values = self.left.values.checked_sub(extent.values);
            match values.zip(self.left.bytes.checked_sub(extent.bytes)) {
                Some((values, bytes)) => self.left = Extent { values, bytes },
                None => self.passed = Some(span.clone()),
            }
        }
        self.passed.is_none()
    }

    /// The fault, if the bound was passed.
    pub fn fault(&self) -> Option<Diagnostic> {
        let span = self.passed.clone()?;
        let title = "the recipe is too large with its variables, defaults and matrices put in";
        let label = format!("more than {MOST_VALUES} values, or {} MiB of text, from here on", MOST_BYTES >> 20);
        let help = "shorten what is repeated here, take values out of the matrix, or make several recipes of it; \
                    long lists and texts belong into files";
        Some(Diagnostic::error("E028", title, span, label).help(help))
    }
}
