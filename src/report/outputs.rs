//! What a finished run hands to the user: copies of tables, reports and images in the folder of the run.

use crate::plan::Plan;
use crate::runlog::RunFolder;
use opdflow_api::Shown;
use opdflow_api::cache::{ActionRecord, ObjectKind, Output, Store, StoreError};
use std::path::PathBuf;

/// An output that was copied out of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Its stage.
    pub stage: String,
    /// Its port.
    pub port: String,
    /// Where it is now.
    pub path: PathBuf,
    /// Its text, if it is Markdown: for the terminal.
    pub markdown: Option<String>,
}

/// Copies the readable outputs of the `wanted` stages that none of the others reads into the folder of the run.
///
/// Each is a copy, or the trouble with it: one unreadable output does not hide the others.
#[must_use]
pub fn copy_finals(
    plan: &Plan,
    wanted: &[bool],
    records: &[Option<ActionRecord>],
    store: &Store,
    folder: &RunFolder,
) -> Vec<Result<Copied, StoreError>> {
    let is_final = |i: usize| wanted[i] && !plan.dependents(i).into_iter().any(|d| wanted[d]);
    let finals = records.iter().enumerate().filter(|(i, _)| is_final(*i));
    finals
        .filter_map(|(i, record)| Some((&plan.stages[i].spec, record.as_ref()?)))
        .flat_map(|(spec, record)| record.outputs.iter().map(move |(port, output)| (spec, port, output)))
        .filter_map(|(spec, port, output)| {
            // A record of another version of the kind may have an output that this one lacks.
            let shown = spec.kind.describe().outputs.iter().find(|o| o.name == port).map_or(Shown::No, |o| o.shown);
            copy(&spec.name, port, output, shown, store, folder).transpose()
        })
        .collect()
}

fn copy(
    stage: &str,
    port: &str,
    output: &Output,
    shown: Shown,
    store: &Store,
    folder: &RunFolder,
) -> Result<Option<Copied>, StoreError> {
    let extension = match shown {
        Shown::No => return Ok(None),
        Shown::Plain => None,
        Shown::File(ending) => Some(ending),
    };
    let is_file = output.object.kind == ObjectKind::Blob;
    let path = place(folder, stage, port, output, extension.filter(|_| is_file));
    store.place(&output.object, &path)?;
    let markdown = (extension == Some("md") && is_file).then(|| std::fs::read_to_string(&path).ok()).flatten();
    Ok(Some(Copied { stage: stage.to_owned(), port: port.to_owned(), path, markdown }))
}

/// `table1.csv` for a port that is called as its type or as its files' ending; `table1.candidates.md` for any other, and
/// where the short name is taken by a port of the same stage.
fn place(folder: &RunFolder, stage: &str, port: &str, output: &Output, extension: Option<&str>) -> PathBuf {
    let says_it_all = extension == Some(port) || (extension.is_some() && output.port_type == port);
    let short = folder.output(stage, None, extension);
    if says_it_all && !short.exists() { short } else { folder.output(stage, Some(port), extension) }
}
