//! `opdflow report`: a run, two runs, or what the store has of a recipe, as a page for a browser.

use super::pages::{Of, html};
use super::serve::serve;
use crate::cli::{Exit, Failure, Session, args};
use crate::render::page::Hidden;
use crate::runlog::RunFolder;
use anyhow::Context as _;
use opdflow_cache::Store;
use std::path::Path;

pub(crate) fn run(session: &Session, args: &args::Report) -> Result<Exit, Failure> {
    let hidden = Hidden { prompts: args.no_prompts };
    let of: Vec<Of> = match args.of.as_slice() {
        [] => vec![Of::Run(crate::cli::find_run(&args.run_dir, None)?)],
        names => names.iter().map(|name| named(name, args)).collect::<Result<_, _>>()?,
    };
    let recipe = of.iter().any(|of| matches!(of, Of::Recipe { .. }));
    let store = if recipe { session.open()? } else { Store::reopen(&session.store)? };
    let _in_use = store.shared()?;
    if args.serve {
        return serve(session, &of, &store, hidden, args.port);
    }
    let html = html(session, &of, &store, hidden, false)?;
    write(&args.output, &html, args.overwrite)?;
    session.print(&format!("{}: {} kB", args.output.display(), html.len() / 1000));
    Ok(Exit::Done)
}

/// What a name means: a file is a recipe, anything else a run.
fn named(name: &str, args: &args::Report) -> Result<Of, Failure> {
    if Path::new(name).is_file() {
        return Ok(Of::Recipe { path: name.into(), home: RunFolder::home(&args.run_dir) });
    }
    crate::cli::find_run(&args.run_dir, Some(name)).map(Of::Run)
}

/// Writes the page whole or not at all, and never over what is no page of ours unless it is asked to.
fn write(path: &Path, html: &str, overwrite: bool) -> Result<(), Failure> {
    if path.is_dir() {
        return Err(Failure::Usage(format!("{} is a folder\nhelp: name the file: `-o report.html`", path.display())));
    }
    if path.symlink_metadata().is_ok() && !overwrite {
        let help = "`--overwrite` replaces it";
        return Err(Failure::Usage(format!("{} is there already\nhelp: {help}", path.display())));
    }
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let put = || -> anyhow::Result<()> {
        let mut part =
            tempfile::NamedTempFile::new_in(parent).with_context(|| format!("cannot write in {}", parent.display()))?;
        std::io::Write::write_all(&mut part, html.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        part.as_file().set_permissions(mode).with_context(|| format!("cannot write {}", path.display()))?;
        part.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(())
    };
    put().map_err(|e| Failure::Store(format!("{e:#}")))
}
