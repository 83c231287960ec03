//! A parameter that does not fit: where, what was found and expected, and who found it.

use std::fmt;

/// A parameter that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamFault {
    /// Where, below `with`: `algorithm.diffusion_nft.beta`; empty for `with` itself.
    pub path: String,
    /// What was found and expected.
    pub message: String,
    /// The way out.
    pub help: Option<String>,
    /// What sort of fault it is.
    pub cause: Cause,
    /// The connected port that it is about, if it is about one and not about a parameter: `prompts.ocr`.
    pub port: Option<String>,
}

/// Who found that a parameter does not fit, and how it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// The kind, which looked at a value that its type takes.
    #[default]
    Value,
    /// The type.
    Type(Mismatch),
    /// Nobody but us: a bug.
    Bug,
}

impl ParamFault {
    /// A fault at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), help: None, cause: Cause::Value, port: None }
    }
    /// A fault of what is connected to `port`.
    pub fn of_port(port: impl Into<String>, message: impl Into<String>) -> Self {
        Self { port: Some(port.into()), ..Self::new("", message) }
    }
    /// A fault of ours.
    pub(crate) fn bug(message: String) -> Self {
        Self { cause: Cause::Bug, ..Self::new("", message) }
    }
    /// Adds the way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// How a value does not fit its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// It is of another type, or the type does not take this value.
    Other {
        /// What was found, in words.
        found: String,
        /// What was expected, as the type says it.
        expected: String,
    },
    /// A name that the type does not have.
    UnknownField {
        /// The name.
        name: String,
        /// Those it has.
        known: &'static [&'static str],
    },
    /// A name that must be there is not.
    MissingField {
        /// The name.
        name: &'static str,
    },
    /// None of the choices.
    UnknownVariant {
        /// What was found.
        name: String,
        /// The choices.
        known: &'static [&'static str],
    },
    /// A choice is a map with one name, and this one has none or several.
    NotOneName,
    /// The type's own words.
    Said(String),
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other { found, expected } => write!(f, "found {found}, expected {expected}"),
            Self::UnknownField { name, .. } => write!(f, "there is no `{name}`"),
            Self::MissingField { name } => write!(f, "`{name}` is missing"),
            Self::UnknownVariant { name, .. } => write!(f, "`{name}` is no choice here"),
            Self::NotOneName => f.write_str("found a map with several names or none, expected a map with a single key"),
            Self::Said(text) => f.write_str(text),
        }
    }
}

/// The path of `name` below `at`.
pub(crate) fn below(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}
