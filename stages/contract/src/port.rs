//! Typed ports: what a stage reads and what it leaves.

use serde::Serialize;

/// How many artefacts an input takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arity {
    /// Exactly one.
    One,
    /// One or none.
    Optional,
    /// A map of one or more, each under a name that the recipe chooses. The job sees them as `port.name`.
    Many,
    /// A map of any number, none included.
    Any,
}

/// One input port.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Input {
    /// The name, as in a recipe's `needs`.
    pub name: &'static str,
    /// The port types it takes; empty means any.
    pub types: &'static [&'static str],
    /// How many.
    pub arity: Arity,
    /// One sentence for the reference.
    pub about: &'static str,
    /// What earlier versions called it.
    #[serde(skip)]
    pub formerly: &'static [&'static str],
}

/// One output port.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Output {
    /// The name after the dot in `stage.port`.
    pub name: &'static str,
    /// Its port type, matched against [`Input::types`].
    pub port_type: &'static str,
    /// Whether it is always there. A stage may leave an optional output out.
    pub optional: bool,
    /// Whether its bytes carry meaning. A side output (log, timing, sample picture) is kept, but two runs that
    /// differ only in side outputs count as equal.
    pub semantic: bool,
    /// One sentence for the reference.
    pub about: &'static str,
    /// What earlier versions called it.
    #[serde(skip)]
    pub formerly: &'static [&'static str],
}

/// The name of an input that was collected over seeds, without its cell: `student` and 1 of `student_seed_1`.
#[must_use]
pub fn seedless(name: &str) -> Option<(&str, u64)> {
    let (rest, seed) = name.rsplit_once("_seed_")?;
    Some((rest, seed.parse().ok()?))
}

impl Input {
    /// Exactly one artefact of one of `types`.
    pub const fn one(name: &'static str, types: &'static [&'static str], about: &'static str) -> Self {
        Self { name, types, arity: Arity::One, about, formerly: &[] }
    }
    /// At most one artefact.
    pub const fn optional(name: &'static str, types: &'static [&'static str], about: &'static str) -> Self {
        Self { name, types, arity: Arity::Optional, about, formerly: &[] }
    }
    /// A map of one or more artefacts.
    pub const fn many(name: &'static str, types: &'static [&'static str], about: &'static str) -> Self {
        Self { name, types, arity: Arity::Many, about, formerly: &[] }
    }
    /// A map of artefacts that may be empty.
    pub const fn any(name: &'static str, types: &'static [&'static str], about: &'static str) -> Self {
        Self { name, types, arity: Arity::Any, about, formerly: &[] }
    }
    /// The same input, which earlier versions called by these names.
    #[must_use]
    pub const fn formerly(mut self, names: &'static [&'static str]) -> Self {
        self.formerly = names;
        self
    }
    /// Whether an artefact of `port_type` fits.
    #[must_use]
    pub fn takes(&self, port_type: &str) -> bool {
        self.types.is_empty() || self.types.contains(&port_type)
    }
}

impl Output {
    /// An output whose bytes carry meaning.
    pub const fn new(name: &'static str, port_type: &'static str, about: &'static str) -> Self {
        Self { name, port_type, optional: false, semantic: true, about, formerly: &[] }
    }
    /// An output that carries no meaning: logs, timings, sample pictures.
    pub const fn side(name: &'static str, port_type: &'static str, about: &'static str) -> Self {
        Self { name, port_type, optional: true, semantic: false, about, formerly: &[] }
    }
    /// The same output, which earlier versions called by these names.
    #[must_use]
    pub const fn formerly(mut self, names: &'static [&'static str]) -> Self {
        self.formerly = names;
        self
    }
    /// The same output, but a stage may leave it out.
    #[must_use]
    pub const fn maybe(mut self) -> Self {
        self.optional = true;
        self
    }
}
