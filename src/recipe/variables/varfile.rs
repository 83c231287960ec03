//! A file of variables that is laid over a recipe's `vars`: `--vars small.vars.yaml`.
//!
//! It is a map from names to values, as under `vars`. It sets what the recipe has and adds nothing, so that one recipe
//! runs at several sizes and a mistyped name is found. Paths in it start at the recipe's folder, as everywhere.

use crate::recipe::text::bound::Bound;
use crate::recipe::text::places::Places;
use crate::recipe::text::shape::any_map;
use crate::recipe::text::tree::{self, Node};
use crate::recipe::{Diagnostic, Diagnostics, Level};
use std::path::{Path, PathBuf};

/// The variables of one file.
pub(crate) struct Layer {
    path: PathBuf,
    text: String,
    root: Node,
}

impl Layer {
    /// Names, values, and where each stands: `small.vars.yaml:3`.
    pub fn values(&self) -> impl Iterator<Item = (&str, &Node, String)> {
        let places = Places::of(&self.text);
        let place = move |byte| format!("{}:{}", self.path.display(), places.place(byte).0);
        self.root.entries().iter().map(move |e| (e.key.as_str(), &e.value, place(e.key_span.start)))
    }
}

/// Reads a file of variables.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn read(path: &Path, bound: &mut Bound) -> Result<Layer, Diagnostics> {
    let text = match opdflow_io::file::read_text(path, crate::recipe::text::source::MOST) {
        Ok(text) => text,
        Err(e) => {
            let found = Diagnostic::error("E027", "the file of variables cannot be read", 0..0, e.to_string());
            let help = "name a YAML file of names and values, such as `iterations: 2`";
            return Err(Diagnostics::new(path, "", vec![found.help(help)]));
        }
    };
    of_text(path, text, bound)
}

/// The same of a text that is already here.
///
/// # Errors
/// As there.
pub(crate) fn of_text(path: &Path, text: String, bound: &mut Bound) -> Result<Layer, Diagnostics> {
    let mut faults = Vec::new();
    let root = tree::parse(&text, bound, &mut faults);
    if let Some(root) = &root {
        any_map(root, "a file of variables", &mut faults);
    }
    match root {
        Some(root) if !faults.iter().any(|d| d.level == Level::Error) => {
            Ok(Layer { path: path.to_owned(), text, root })
        }
        _ => {
            if faults.is_empty() {
                let found = Diagnostic::error("E027", "the file of variables is empty", 0..0, "nothing here");
                faults.push(found.help("write names and values, such as `iterations: 2`, or leave `--vars` out"));
            }
            Err(Diagnostics::new(path, &text, faults))
        }
    }
}
