//! `opdflow get`: an output of a stage, out of the store.

use crate::cli::store::deliver::put;
use crate::cli::store::found::found;
use crate::cli::store::{get_as, get_card};
use crate::cli::{Exit, Failure, Session, args};
use opdflow_api::cache::{Object, ObjectKind, Store};
use std::io::IsTerminal as _;

pub(crate) fn run(session: &Session, args: &args::Get) -> Result<Exit, Failure> {
    let store = session.open()?;
    let _in_use = store.shared()?;
    if args.card {
        return get_card::run(session, &store, args);
    }
    if args.no_prompts {
        let help = "add `--card`, or leave `--no-prompts` away";
        return Err(Failure::Usage(format!("`--no-prompts` is for a card, and none is asked for\nhelp: {help}")));
    }
    let (_, _, output) = found(session, &args.recipe, &args.port, &store)?;
    if args.output.as_os_str() == "-" {
        return print(session, &store, &output.object, &args.port);
    }
    if let Some(format) = args.format {
        return get_as::run(session, &store, &output, args, format);
    }
    put(session, &store, args, || store.deliver(&output.object, &args.output, args.overwrite))?;
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

fn print(session: &Session, store: &Store, object: &Object, name: &str) -> Result<Exit, Failure> {
    if object.kind == ObjectKind::Tree {
        return Err(Failure::Usage(format!(
            "`{name}` is a folder and cannot be printed\nhelp: give it a place: `-o FOLDER`"
        )));
    }
    session.out.bytes(&visible(store.read(&object.digest)?));
    Ok(Exit::Done)
}

/// Bytes as they are; on a terminal, where some would act, as text.
fn visible(bytes: Vec<u8>) -> Vec<u8> {
    if !std::io::stdout().is_terminal() {
        return bytes;
    }
    opdflow_io::terminal::shown(&String::from_utf8_lossy(&bytes)).into_owned().into_bytes()
}
