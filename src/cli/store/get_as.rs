//! `opdflow get .. --format`: an adapter in the form that another program reads, made by the program that has tensors.

use crate::cli::store::deliver::put;
use crate::cli::{Exit, Failure, Session, args, tool};
use crate::exec::End;
use opdflow_api::cache::{Output, Store};
use opdflow_api::{Event, ExportLoraOrder};
use std::path::{Path, PathBuf};

pub(crate) fn run(
    session: &Session,
    store: &Store,
    output: &Output,
    args: &args::Get,
    format: args::LoraFormat,
) -> Result<Exit, Failure> {
    let placed = tempfile::tempdir().map_err(|e| Failure::Store(format!("cannot make a temporary folder: {e}")))?;
    let (made, written) = make(store, output, args, format, placed.path())?;
    put(session, store, args, || store.deliver_made(&made, &args.output, args.overwrite))?;
    let path = if written.is_empty() { args.output.clone() } else { args.output.join(written) };
    tell(session, args, output, format, &path);
    Ok(Exit::Done)
}

/// Has an adapter written below the folder `placed`: where it lies, and the path of its file in it.
pub(super) fn make(
    store: &Store,
    output: &Output,
    args: &args::Get,
    format: args::LoraFormat,
    placed: &Path,
) -> Result<(PathBuf, String), Failure> {
    if output.port_type != "lora" {
        return Err(Failure::Usage(format!(
            "`{}` is of type {}, and `--format` is for adapters\nhelp: leave `--format` away",
            args.port, output.port_type
        )));
    }
    if args.output.as_os_str() == "-" {
        return Err(Failure::Usage(
            "an adapter in another form cannot be printed\nhelp: give it a place: `-o PATH`".into(),
        ));
    }
    let named_as_file = args.output.extension().is_some_and(|e| e == "safetensors");
    if named_as_file && format == args::LoraFormat::Peft {
        return Err(Failure::Usage(format!(
            "{} is the name of a file, and a peft adapter is a folder\nhelp: name a folder, or take `--format diffusers`",
            args.output.display()
        )));
    }
    let source = placed.join("lora");
    store.place(&output.object, &source)?;
    let made = placed.join(if named_as_file { "made.safetensors" } else { "made" });
    let order = ExportLoraOrder {
        source,
        format: format.name().to_owned(),
        dtype: args.dtype.name().to_owned(),
        output: made.clone(),
    };
    let written = ask(&order)?;
    Ok((made, written))
}

/// Has it written, and gives the file's path below the order's.
fn ask(order: &ExportLoraOrder) -> Result<String, Failure> {
    let mut written = String::new();
    let end = tool::run("export_lora", order, 1, None, |event| {
        if let Event::Said { text } = event {
            written = text;
        }
    })?;
    match end {
        End::Code(0) => Ok(written),
        end => Err(Failure::Bug(format!("the process ended without a word: {end:?}"))),
    }
}

fn tell(session: &Session, args: &args::Get, output: &Output, format: args::LoraFormat, path: &Path) {
    let shown = path.display().to_string();
    if session.json {
        let found = serde_json::json!({"output": args.port, "type": output.port_type, "digest": output.object.digest,
            "format": format.name(), "dtype": args.dtype.name(), "path": shown});
        session.print(&found.to_string());
    } else if !session.quiet {
        session.note(&format!("{} ({}, {}): {shown}", args.port, format.name(), args.dtype.name()));
    }
}
