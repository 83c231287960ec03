//! `opdflow report`: a run as a page for a browser.

use crate::cli::{Exit, Failure, Session, args};
use crate::render::page::{self, Hidden, Page};
use crate::runlog;
use anyhow::Context as _;
use opdflow_cache::Store;
use std::path::Path;

pub(crate) fn run(session: &Session, args: &args::Report) -> Result<Exit, Failure> {
    let usage = |e: anyhow::Error| Failure::Usage(format!("{e:#}"));
    let folder = crate::cli::find_run(&args.run_dir, args.run.as_deref())?;
    // Asked before the log is read, as `status` does.
    let alive = runlog::is_alive(&folder);
    let record = runlog::read(&folder).map_err(usage)?;
    let store = Store::reopen(&session.store)?;
    let _in_use = store.shared()?;
    let hidden = Hidden { prompts: args.no_prompts };
    let page = Page::of(&folder, &record.lines, alive, &store, &session.registry, hidden);
    let html = page::html(&page);
    write(&args.output, &html, args.overwrite)?;
    session.print(&format!("{}: {} kB", args.output.display(), html.len() / 1000));
    Ok(Exit::Done)
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
