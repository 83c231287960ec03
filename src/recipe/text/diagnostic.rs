//! One mistake in a recipe, and a list of them with the text they point into.

use crate::recipe::text::source::{Sources, Span};
use opdflow_io::terminal;
use std::fmt;
use std::path::{Path, PathBuf};

/// Whether a recipe with it can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It cannot run.
    Error,
    /// It can, but this looks like a mistake.
    Warning,
}

/// One mistake: its code, what was found, what was expected, the way out. `docs/reference/errors.md` lists the codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// `E…` for an error, `W…` for a warning.
    pub code: &'static str,
    /// One line, whole in itself.
    pub title: String,
    /// The place.
    pub span: Span,
    /// What to say at the place.
    pub label: String,
    /// Other places that belong to it.
    pub also: Vec<(Span, String)>,
    /// The way out.
    pub help: Option<String>,
    /// Error or warning.
    pub level: Level,
}

impl Diagnostic {
    /// An error at `span`.
    pub fn error(code: &'static str, title: impl Into<String>, span: Span, label: impl Into<String>) -> Self {
        Self { code, title: title.into(), span, label: label.into(), also: Vec::new(), help: None, level: Level::Error }
    }
    /// A warning at `span`.
    pub fn warning(code: &'static str, title: impl Into<String>, span: Span, label: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::error(code, title, span, label) }
    }
    /// Moves it behind the texts that stand before its own.
    pub(crate) fn shift(&mut self, by: usize) {
        for span in std::iter::once(&mut self.span).chain(self.also.iter_mut().map(|(span, _)| span)) {
            *span = span.start + by..span.end + by;
        }
    }
    /// Adds another place.
    #[must_use]
    pub fn also(mut self, span: Span, label: impl Into<String>) -> Self {
        self.also.push((span, label.into()));
        self
    }
    /// Adds the way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
    /// Adds the way out, if one is known.
    #[must_use]
    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }
}

/// Everything that was found in one recipe, sorted by place. Shown by [`Diagnostics::render`] or as JSON.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    /// The recipe.
    pub path: PathBuf,
    /// Its text and those that it includes; empty if it could not be read.
    pub sources: Sources,
    /// What was found.
    pub list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Sorts by place and drops what says the same about the same place twice (a default that does not fit is
    /// wrong once, not once for each stage that takes it). Nothing in the messages acts on a terminal.
    #[must_use]
    pub fn new(path: &Path, text: &str, list: Vec<Diagnostic>) -> Self {
        Self::of(Sources::one(path, text), list)
    }
    /// The same for a recipe of several files.
    #[must_use]
    pub fn of(sources: Sources, mut list: Vec<Diagnostic>) -> Self {
        list.sort_by(|a, b| {
            (a.span.start, a.span.end, a.code, &a.title).cmp(&(b.span.start, b.span.end, b.code, &b.title))
        });
        // What a message quotes may be anything, and of any length.
        for d in &mut list {
            let also = d.also.iter_mut().map(|(_, label)| label);
            let texts = [&mut d.title, &mut d.label].into_iter().chain(also).chain(&mut d.help);
            texts.for_each(|text| *text = terminal::message(text));
        }
        list.dedup_by(|b, a| a.span == b.span && a.code == b.code && a.label == b.label && !a.label.is_empty());
        Self { path: sources.path(0).to_owned(), sources, list }
    }
    /// The same with every warning an error, as `--strict` has it.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.list.iter_mut().for_each(|d| d.level = Level::Error);
        self
    }
    /// How many errors and how many warnings.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let errors = self.list.iter().filter(|d| d.level == Level::Error).count();
        (errors, self.list.len() - errors)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}
