//! From the text of a recipe to a checked [`Recipe`], or to every mistake in it with its place.
//!
//! The steps, one file each: [`tree`](text::tree) reads YAML into values that know where they stand,
//! [`include`](mod@include) those of other recipes, [`vars`](variables::vars) and [`expand`](variables::expand) put the
//! variables in, those of [`varfile`](variables::varfile) among them, within a [`bound`](text::bound),
//! [`matrix`](variables::matrix) makes cells of stages and [`repeat`](variables::repeat) items of lists and maps,
//! [`set`](variables::set) what the command line sets of stages, [`read`] takes the shape apart, [`params`](check::params)
//! and [`ports`](check::ports) hold it against the stage kinds. A span points into the texts of
//! [`source`](text::source). Each step reports all it finds into one list and goes on with what is sound, so that one look
//! shows everything. [`schema`] and [`reference`](mod@reference) say of the stage kinds what a recipe may hold.

mod cell;
mod check;
mod checked;
mod draft;
mod include;
mod lock;
mod numerics;
mod read;
pub mod reference;
mod resources;
pub mod schema;
mod spans;
pub(crate) mod text;
mod variables;

pub use cell::{Cell, select};
pub use checked::{FORMAT, MOST_RANKS, MOST_THREADS, PortRef, Recipe, StageSpec};
pub use lock::{LOCK_FORMAT, Lock, Locked, Pinned, from_folder};
pub use numerics::{Device, Numerics, Strict};
pub use spans::{Spans, StageSpans};
pub use text::diagnostic::{Diagnostic, Diagnostics, Level};
pub use text::near::{hint, near};
pub use text::show::{colour_wanted, is_terminal};
pub use text::size::size;
pub use text::source::{Sources, Span};
pub use text::tree::SetAt;
pub use variables::outside::Overrides;

use opdflow_api::Registry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use text::source::MOST;

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
    if !lock::is_lock(&text) {
        return whole(path, text, registry, overrides, None);
    }
    let locked = Locked::read(path, text)?;
    let (home, overrides) = (locked.home(path), locked.overrides(overrides));
    let text = locked.lock.files.get(&locked.lock.recipe).cloned().unwrap_or_default();
    let mut recipe = whole(&home.join(&locked.lock.recipe), text, registry, &overrides, Some((&locked, &home)))?;
    recipe.path = path.to_owned();
    recipe.locked = Some(Arc::new(locked));
    Ok(recipe)
}

/// A recipe of this text; of a lock, with the texts that it holds instead of files.
fn whole(
    path: &Path,
    text: String,
    registry: &Registry,
    overrides: &Overrides,
    locked: Option<(&Locked, &Path)>,
) -> Result<Recipe, Diagnostics> {
    let mut bound = text::bound::Bound::default();
    let held = locked.map_or(&[][..], |(locked, _)| &locked.lock.vars);
    let held = held.iter().enumerate().map(|(i, text)| {
        let name = PathBuf::from(format!("{} (variables {})", path.display(), i + 1));
        variables::varfile::of_text(&name, text.clone(), &mut bound)
    });
    let mut layers = held.collect::<Result<Vec<_>, _>>()?;
    for file in &overrides.files {
        layers.push(variables::varfile::read(file, &mut bound)?);
    }
    let mut faults = Vec::new();
    let texts = locked.map(|(locked, home)| locked.texts(home));
    let outside = variables::outside::Outside { layers, overrides, texts };
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
