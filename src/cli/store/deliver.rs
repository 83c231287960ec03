//! An output of a stage on its way to a place of the user's.

use crate::cli::{Failure, Session, args};
use opdflow_api::cache::{Store, StoreError};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Has `deliver` write to the place that was asked for, unless the command reads that place itself. What is there stays
/// until the new thing is whole.
pub(crate) fn put(
    session: &Session,
    store: &Store,
    args: &args::Get,
    deliver: impl FnOnce() -> Result<(), StoreError>,
) -> Result<(), Failure> {
    let dest = &args.output;
    let given = session.overrides.files.iter().chain([&args.recipe]);
    if let Some(path) = given.into_iter().find(|path| same_file(path, dest)) {
        return Err(Failure::Usage(format!(
            "{} is {}, which this command reads, and is not replaced\nhelp: choose another place",
            dest.display(),
            path.display()
        )));
    }
    deliver().map_err(refusal)?;
    for warning in store.warnings() {
        session.note(&format!("warning: {warning}"));
    }
    Ok(())
}

/// Why something was not written to a place of the user's.
pub(crate) fn refusal(error: StoreError) -> Failure {
    match error {
        StoreError::Exists { path } => Failure::Usage(format!(
            "{} exists already\nhelp: add `--overwrite`, or choose another place",
            path.display()
        )),
        StoreError::Foreign { .. } | StoreError::Protected { .. } => Failure::Usage(error.to_string()),
        other => other.into(),
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    let of = |path: &Path| path.metadata().ok().map(|m| (m.dev(), m.ino()));
    of(a).is_some() && of(a) == of(b)
}
