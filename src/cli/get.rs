//! `opdflow get`: an output of a stage, out of the store.

use super::{Exit, Failure, Session, args, get_as};
use crate::plan::{Plan, Verdict, verdicts};
use crate::recipe::near;
use opdflow_stage::cache::{Digest, Object, ObjectKind, Output, Store};
use std::io::Write as _;
use std::path::{Path, PathBuf};

pub(super) fn run(session: &Session, args: &args::Get) -> Result<Exit, Failure> {
    let plan = session.plan(&args.recipe)?;
    let (stage, port) = parse(session, &plan, &args.port)?;
    let store = session.open()?;
    let _in_use = store.shared()?;
    let (_, output) = find(&plan, &store, stage, &port)?;
    if args.output.as_os_str() == "-" {
        return print(&store, &output.object, &args.port);
    }
    if let Some(format) = args.format {
        return get_as::run(session, &store, &output, args, format);
    }
    put(output.object.kind == ObjectKind::Tree, &args.output, args.overwrite, |to| {
        Ok(store.place(&output.object, to)?)
    })?;
    let name = &args.port;
    if session.json {
        let found = serde_json::json!({"output": name, "type": output.port_type, "digest": output.object.digest,
            "size": output.object.size, "path": args.output.display().to_string()});
        session.print(&found.to_string());
    } else if !session.quiet {
        session.note(&format!(
            "{name} ({}, {} bytes): {}",
            output.port_type,
            output.object.size,
            args.output.display()
        ));
    }
    Ok(Exit::Done)
}

/// The key and the port of `stage.port`, if its result is in the store.
pub(super) fn locate(session: &Session, recipe: &Path, text: &str, store: &Store) -> Result<(Digest, String), Failure> {
    let plan = session.plan(recipe)?;
    let (stage, port) = parse(session, &plan, text)?;
    Ok((find(&plan, store, stage, &port)?.0, port))
}

/// `stage.port`, as a stage of the plan and a port that it has.
fn parse(session: &Session, plan: &Plan, text: &str) -> Result<(usize, String), Failure> {
    let Some((stage, port)) = text.rsplit_once('.') else {
        let stage = session.stage(plan, text)?;
        return Err(Failure::Usage(format!(
            "`{text}` names a stage and no output of it\nhelp: {}",
            ports(plan, stage)
        )));
    };
    let stage = session.stage(plan, stage)?;
    if plan.stages[stage].spec.kind.output(port).is_some() {
        return Ok((stage, port.to_owned()));
    }
    let kind = plan.stages[stage].spec.kind.describe();
    let help = near(port, kind.outputs.iter().map(|o| o.name))
        .map_or_else(|| ports(plan, stage), |n| format!("did you mean `{n}`?"));
    Err(Failure::Usage(format!("`{}` has no output `{port}`\nhelp: {help}", plan.stages[stage].spec.name)))
}

fn ports(plan: &Plan, stage: usize) -> String {
    let spec = &plan.stages[stage].spec;
    let names = spec.kind.describe().outputs.iter().map(|o| format!("`{}.{}`", spec.name, o.name));
    format!("its outputs are {}", names.collect::<Vec<_>>().join(", "))
}

/// The output with its stage's key, if the stage and all that it stands on have their results.
fn find(plan: &Plan, store: &Store, stage: usize, port: &str) -> Result<(Digest, Output), Failure> {
    let verdicts = verdicts(plan, store);
    let name = &plan.stages[stage].spec.name;
    if let Verdict::Hit { record } = &verdicts[stage].0 {
        return record.outputs.get(port).map(|output| (record.key, output.clone())).ok_or_else(|| {
            let there: Vec<_> = record.outputs.keys().map(|p| format!("`{name}.{p}`")).collect();
            Failure::Usage(format!("`{name}` left no output `{port}` when it ran\nhelp: it left {}", there.join(", ")))
        });
    }
    let missing = plan.needed(&[stage]).into_iter().find(|i| !matches!(verdicts[*i].0, Verdict::Hit { .. }));
    let missing = missing.map_or(name, |i| &plan.stages[i].spec.name);
    let why = if missing == name { String::new() } else { format!(", because `{missing}` has none") };
    let recipe = plan.recipe.path.display();
    Err(Failure::Usage(format!(
        "`{name}` has no result in the store{why}\nhelp: run `opdflow run {recipe} --until {name}` first"
    )))
}

fn print(store: &Store, object: &Object, name: &str) -> Result<Exit, Failure> {
    if object.kind == ObjectKind::Tree {
        return Err(Failure::Usage(format!(
            "`{name}` is a folder and cannot be printed\nhelp: give it a place: `-o FOLDER`"
        )));
    }
    let bytes = store.read(&object.digest)?;
    let mut out = std::io::stdout().lock();
    // Nobody reading it is no error.
    let _ = out.write_all(&bytes).and_then(|()| out.flush());
    Ok(Exit::Done)
}

/// Has `write` make what goes to `dest`, a folder or a file as `folder` says. What is there stays until the new thing is
/// whole.
pub(super) fn put(
    folder: bool,
    dest: &Path,
    overwrite: bool,
    write: impl FnOnce(&Path) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let Ok(there) = dest.symlink_metadata() else { return write(dest) };
    let shown = dest.display();
    if !overwrite {
        return Err(Failure::Usage(format!(
            "{shown} exists already\nhelp: add `--overwrite`, or choose another place"
        )));
    }
    if there.is_dir() != folder {
        let (is, wants) = if folder { ("file", "folder") } else { ("folder", "file") };
        return Err(Failure::Usage(format!(
            "{shown} is a {is}, and the output is a {wants}\nhelp: choose another place"
        )));
    }
    if folder && holds_us(dest) {
        return Err(Failure::Usage(format!(
            "{shown} holds the current folder and is not replaced\nhelp: choose another place"
        )));
    }
    let (fresh, old) = (beside(dest, "new"), beside(dest, "old"));
    write(&fresh)?;
    let swapped = std::fs::rename(dest, &old).and_then(|()| std::fs::rename(&fresh, dest));
    swapped.map_err(|e| Failure::Store(format!("cannot replace {shown}: {e}; the new one is {}", fresh.display())))?;
    let removed = if folder { std::fs::remove_dir_all(&old) } else { std::fs::remove_file(&old) };
    removed.map_err(|e| Failure::Store(format!("{shown} is in place, but {} cannot be removed: {e}", old.display())))
}

/// Whether the current folder lies in `dest`, or is it.
fn holds_us(dest: &Path) -> bool {
    match (std::env::current_dir().and_then(|d| d.canonicalize()), dest.canonicalize()) {
        (Ok(here), Ok(dest)) => here.starts_with(dest),
        _ => true,
    }
}

/// A name beside `dest` that keeps its ending.
fn beside(dest: &Path, word: &str) -> PathBuf {
    let name = dest.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let end = dest.extension().map_or_else(String::new, |e| format!(".{}", e.to_string_lossy()));
    dest.with_file_name(format!(".{name}.{}.{word}{end}", std::process::id()))
}
