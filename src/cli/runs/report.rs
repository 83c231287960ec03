//! `opdflow report`: a run, two runs, or what the store has of a recipe, as a page for a browser.

use super::pages::{Of, made};
use super::serve::serve;
use crate::cli::{Exit, Failure, Session, args};
use crate::render::page::Options;
use crate::runlog::RunFolder;
use anyhow::Context as _;
use opdflow_cache::Store;
use std::collections::BTreeMap;
use std::path::Path;

pub(crate) fn run(session: &Session, args: &args::Report) -> Result<Exit, Failure> {
    let options = Options { no_prompts: args.no_prompts, image_bytes: args.image_megabytes << 20 };
    let of: Vec<Of> = match args.of.as_slice() {
        [] => vec![Of::Run(crate::cli::find_run(&args.run_dir, None)?)],
        names => names.iter().map(|name| named(name, args)).collect::<Result<_, _>>()?,
    };
    let recipe = of.iter().any(|of| matches!(of, Of::Recipe { .. }));
    let store = if recipe { session.open()? } else { Store::reopen(&session.store)? };
    let _in_use = store.shared()?;
    if args.serve {
        return serve(session, &of, &store, options, args.port);
    }
    let folder =
        args.output.with_extension("").file_name().unwrap_or_default().to_string_lossy().into_owned() + "_images";
    let (html, files) = made(session, &of, &store, options, (false, &folder))?;
    let beside = args.output.with_file_name(&folder);
    if !files.is_empty() && beside.exists() && !args.overwrite {
        let what = format!("{}, for images that find no room in the page, is there already", beside.display());
        return Err(Failure::Usage(format!("{what}\nhelp: `--overwrite` writes into it")));
    }
    write(&args.output, &html, args.overwrite)?;
    lay(&beside, &files).map_err(|e| Failure::Store(format!("{e:#}")))?;
    let more =
        if files.is_empty() { String::new() } else { format!(", and {} images in {}", files.len(), beside.display()) };
    session.print(&format!("{}: {} kB{more}", args.output.display(), html.len() / 1000));
    Ok(Exit::Done)
}

/// Writes the images that lie beside a page. Their names are digests: one that is there has the same bytes.
fn lay(folder: &Path, files: &BTreeMap<String, Vec<u8>>) -> anyhow::Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
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
