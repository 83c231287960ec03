//! Typed ports: what a stage reads and what it leaves.

use serde::{Deserialize, Serialize};

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
    /// Whether somebody wants it for its own sake: a stage that leaves one need not be read by another.
    pub result: bool,
    /// Whether people look at it, so that a run puts a copy into its folder, and what the ending of a file is then.
    pub shown: Shown,
    /// Whether its bytes carry meaning. A side output (log, timing, sample image) is kept, but two runs that
    /// differ only in side outputs count as equal.
    pub semantic: bool,
    /// One sentence for the reference.
    pub about: &'static str,
    /// What earlier versions called it.
    #[serde(skip)]
    pub formerly: &'static [&'static str],
}

/// Whether people look at an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    /// They do not: weights and the like, which `opdflow get` takes from the store.
    No,
    /// A folder, or a file whose name needs no ending.
    Plain,
    /// A file with this ending.
    File(&'static str),
}

/// One of several seeds of a stage, where an input collected the cells of a matrix: on `scores.student_seed_1` stands
/// `student` with seed 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfSeed {
    /// The name that its seeds share.
    pub name: String,
    /// The seed.
    pub seed: u64,
}

/// A name below a map port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The name.
    pub name: String,
    /// What it is a seed of, if it is one of several.
    pub of_seed: Option<OfSeed>,
}

/// The members below a map port, of all connected places (`scores.student_seed_1`) with what each is a seed of.
pub(crate) fn members<'p>(places: impl Iterator<Item = (&'p String, &'p Option<OfSeed>)>, port: &str) -> Vec<Member> {
    let below = |(place, of_seed): (&String, &Option<OfSeed>)| {
        let name = place.strip_prefix(port)?.strip_prefix('.')?.to_owned();
        Some(Member { name, of_seed: of_seed.clone() })
    };
    places.filter_map(below).collect()
}

/// The members that `name` stands for: the one of this name or, where a stage was collected over a matrix of seeds, each of
/// them, by number. Empty if there is none.
#[must_use]
pub fn meant<'m>(members: &'m [Member], name: &str) -> Vec<&'m str> {
    if let Some(one) = members.iter().find(|m| m.name == name) {
        return vec![&one.name];
    }
    let seed = |m: &Member| m.of_seed.as_ref().filter(|of| of.name == name).map(|of| of.seed);
    let mut found: Vec<(u64, &str)> = members.iter().filter_map(|m| Some((seed(m)?, m.name.as_str()))).collect();
    found.sort_unstable();
    found.into_iter().map(|(_, name)| name).collect()
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
        Self { name, port_type, optional: false, result: false, shown: Shown::No, semantic: true, about, formerly: &[] }
    }
    /// An output that carries no meaning: logs, timings, sample images.
    pub const fn side(name: &'static str, port_type: &'static str, about: &'static str) -> Self {
        Self { name, port_type, optional: true, result: false, shown: Shown::No, semantic: false, about, formerly: &[] }
    }
    /// The same output, which earlier versions called by these names.
    #[must_use]
    pub const fn formerly(mut self, names: &'static [&'static str]) -> Self {
        self.formerly = names;
        self
    }
    /// The same output, wanted for its own sake.
    #[must_use]
    pub const fn result(mut self) -> Self {
        self.result = true;
        self
    }
    /// The same output, which people look at: a file with this ending.
    #[must_use]
    pub const fn file(mut self, ending: &'static str) -> Self {
        self.shown = Shown::File(ending);
        self
    }
    /// The same output, which people look at: a folder.
    #[must_use]
    pub const fn folder(mut self) -> Self {
        self.shown = Shown::Plain;
        self
    }
    /// The same output, but a stage may leave it out.
    #[must_use]
    pub const fn maybe(mut self) -> Self {
        self.optional = true;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_itself_or_for_its_seeds() {
        let seed = |name: &str, seed| {
            let of_seed = Some(OfSeed { name: name.to_owned(), seed });
            Member { name: format!("{name}_seed_{seed}"), of_seed }
        };
        let one = |name: &str| Member { name: name.to_owned(), of_seed: None };
        let members = [
            one("base"),
            seed("merged", 9),
            seed("merged", 10),
            seed("merged_factors", 9),
            one("ocr"),
            one("looks_seed_3"),
        ];
        assert_eq!(meant(&members, "base"), ["base"]);
        assert_eq!(meant(&members, "merged"), ["merged_seed_9", "merged_seed_10"]);
        assert_eq!(meant(&members, "ocr"), ["ocr"]);
        // A name that somebody gave says nothing of seeds, whatever it looks like.
        assert!(meant(&members, "looks").is_empty());
        assert_eq!(meant(&members, "looks_seed_3"), ["looks_seed_3"]);
    }
}
