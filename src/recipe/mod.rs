//! From the text of a recipe to a checked [`Recipe`], or to every mistake in it with its place.
//!
//! The steps, one file each: [`tree`](text::tree) reads YAML into values that know where they stand, [`include`](mod@include) those of other recipes,
//! [`vars`](variables::vars) puts the variables in, those of [`varfile`](variables::varfile) among them, within a [`bound`](text::bound), [`matrix`](variables::matrix) makes cells of stages and
//! [`repeat`](variables::repeat) items of lists and maps, [`set`](variables::set) what the command line sets of stages, [`read`] takes the shape apart, [`params`](check::params)
//! and [`ports`](check::ports) hold it against the stage kinds. A span points into the texts of [`source`](text::source). Each step reports
//! all it finds into one list and goes on with what is sound, so that one look shows everything. [`schema`] and
//! [`reference`](mod@reference) say of the stage kinds what a recipe may hold.

mod cell;
mod check;
mod include;
mod read;
pub mod reference;
pub mod schema;
mod spans;
mod text;
mod variables;

pub use cell::{Cell, select};
pub use spans::{Spans, StageSpans};
pub use text::diagnostic::{Diagnostic, Diagnostics, Level, Span};
pub use text::near::{hint, near};
pub use text::show::{colour_wanted, is_terminal};
pub use text::size::size;
pub use text::source::Sources;
pub use text::tree::SetAt;

use opdflow_stage::{Kind, Registry};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The recipe format that this build reads.
pub const FORMAT: u64 = 1;

/// Most threads that a stage, or all of them together, may be given: libraries start as many as they are told.
pub const MOST_THREADS: usize = 4096;

/// A checked recipe: every kind, port, parameter and variable in it is known to fit.
#[derive(Clone)]
pub struct Recipe {
    /// Where it was read from, as the user named it.
    pub path: PathBuf,
    /// The folder it lies in: relative paths in parameters start here.
    pub folder: PathBuf,
    /// Its text and those that it includes; all spans point into them.
    pub sources: Sources,
    /// Its name.
    pub name: String,
    /// The seed of every stage that does not set its own.
    pub seed: u64,
    /// What the numeric part of a key holds.
    pub numerics: Numerics,
    /// The stages, in the order of the file.
    pub stages: Vec<StageSpec>,
    /// Where things stand in the text.
    pub spans: Spans,
    /// What is legal but looks like a mistake.
    pub warnings: Vec<Diagnostic>,
}

/// One stage of a recipe.
#[derive(Clone)]
pub struct StageSpec {
    /// Its name in the recipe.
    pub name: String,
    /// What it does.
    pub kind: Arc<dyn Kind>,
    /// Its parameters, defaults filled in.
    pub params: serde_json::Value,
    /// What it reads: by port, or `port.name` for one of a map port.
    pub needs: BTreeMap<String, PortRef>,
    /// Its seed: its own, or the recipe's.
    pub seed: u64,
    /// Threads, if the recipe says. Not in the key.
    pub cpus: Option<usize>,
    /// Bytes of a GPU's memory, if the recipe says: the stage may then share one. Not in the key.
    pub gpu_memory: Option<u64>,
    /// The folder of the file that it is written in: its relative paths start there. Not in the key.
    pub folder: PathBuf,
}

/// An output of another stage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PortRef {
    /// The stage.
    pub stage: String,
    /// Its output port.
    pub port: String,
}

impl std::fmt::Display for PortRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.stage, self.port)
    }
}

/// How much of the machine's arithmetic belongs to a result's identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Numerics {
    /// Results are shared between machines whose last bits may differ.
    #[default]
    Portable,
    /// Device class, number type and libtorch version are part of the key.
    Strict,
}

/// What the command line changes in a recipe.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Files of variables, each laid over the recipe's `vars` and over the files before it.
    pub files: Vec<PathBuf>,
    /// Variables, as typed: `iters` -> `5`. The text is read as a YAML scalar, or as a list where the
    /// recipe has one. They are laid over those of files.
    pub vars: BTreeMap<String, String>,
    /// The recipe's seed. Stages that set their own keep it.
    pub seed: Option<u64>,
}

impl Recipe {
    /// The stage of this name, and its place in [`Recipe::stages`].
    #[must_use]
    pub fn stage(&self, name: &str) -> Option<(usize, &StageSpec)> {
        self.stages.iter().enumerate().find(|(_, s)| s.name == name)
    }
    /// The warnings, ready to be shown.
    #[must_use]
    pub fn warnings(&self) -> Diagnostics {
        self.diagnostics(self.warnings.clone())
    }
    /// Binds diagnostics to this recipe's text, sorted by place.
    #[must_use]
    pub fn diagnostics(&self, list: Vec<Diagnostic>) -> Diagnostics {
        Diagnostics::of(self.sources.clone(), list)
    }
}

/// Most bytes of a recipe or a file of variables: texts that people write.
const MOST: u64 = 32 << 20;

/// Reads and checks a recipe.
///
/// # Errors
/// Everything that is wrong with it, sorted by place.
pub fn load(path: &Path, registry: &Registry, overrides: &Overrides) -> Result<Recipe, Diagnostics> {
    let fail = |d: Diagnostic| Err(Diagnostics::new(path, "", vec![d]));
    let bytes = match opdflow_io::file::read(path, MOST) {
        Ok(bytes) => bytes,
        Err(e) => {
            let help = "name a recipe file, such as `recipes/multitask.yaml`";
            return fail(Diagnostic::error("E001", "the recipe cannot be read", 0..0, e.to_string()).help(help));
        }
    };
    match String::from_utf8(bytes) {
        Ok(text) => parse(path, text, registry, overrides),
        Err(e) => {
            let at = e.utf8_error().valid_up_to();
            let label = format!("byte {at} is no part of UTF-8 text");
            fail(
                Diagnostic::error("E002", "the recipe is not a text file", 0..0, label)
                    .help("save the recipe as UTF-8 text"),
            )
        }
    }
}

/// Like [`load`], for text that is already here.
///
/// # Errors
/// As there.
pub fn parse(path: &Path, text: String, registry: &Registry, overrides: &Overrides) -> Result<Recipe, Diagnostics> {
    let mut bound = text::bound::Bound::default();
    let layers =
        overrides.files.iter().map(|f| variables::varfile::read(f, &mut bound)).collect::<Result<Vec<_>, _>>()?;
    let mut faults = Vec::new();
    let outside = variables::vars::Outside { layers, overrides };
    let mut sources = Sources::default();
    let recipe = read::recipe(path, &mut sources, &text, registry, &outside, bound, &mut faults);
    match recipe {
        Some(mut recipe) if !faults.iter().any(|d| d.level == Level::Error) => {
            recipe.warnings = Diagnostics::new(path, "", faults).list;
            Ok(recipe)
        }
        _ => {
            if faults.is_empty() {
                let title = "the recipe was refused without a reason: a bug of ours, please report it with the recipe";
                faults.push(Diagnostic::error("E000", title, 0..0, ""));
            }
            Err(Diagnostics::of(sources, faults))
        }
    }
}
