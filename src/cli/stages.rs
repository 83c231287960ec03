//! `opdflow stages`: the kinds of stage of this build, their ports and parameters.

use super::{Exit, Failure, Session, args};
use opdflow_stage::{Arity, Description, Input, Output};
use serde_json::json;

pub(super) fn run(session: &Session, args: &args::Stages) -> Result<Exit, Failure> {
    let kinds: Vec<Description> = match &args.kind {
        None => session.registry.kinds().map(|k| k.describe()).collect(),
        Some(name) => {
            let Some(kind) = session.registry.get(name) else {
                let help = crate::recipe::hint(name, session.registry.names().collect::<Vec<_>>());
                let help = help.map_or(String::new(), |h| format!("\nhelp: {h}"));
                return Err(Failure::Usage(format!("there is no stage kind `{name}`{help}")));
            };
            vec![kind.describe()]
        }
    };
    if session.json {
        session.print(&json!(kinds).to_string());
    } else {
        let pages: Vec<String> = kinds.iter().map(page).collect();
        session.print(pages.join("\n").trim_end());
    }
    Ok(Exit::Done)
}

fn page(about: &Description) -> String {
    let mut out = format!("{} (version {})\n  {}\n", about.kind, about.semantics, about.about);
    section(&mut out, "needs", about.inputs.iter().map(|p| (input(p), p.about)));
    section(&mut out, "with", about.params.iter().map(|p| (p.name.to_owned(), p.about)));
    section(&mut out, "leaves", about.outputs.iter().map(|p| (output(p), p.about)));
    out
}

fn section<'a>(out: &mut String, title: &str, lines: impl Iterator<Item = (String, &'a str)>) {
    let lines: Vec<(String, &str)> = lines.collect();
    if lines.is_empty() {
        return;
    }
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    out.push_str(&format!("  {title}:\n"));
    for (name, about) in lines {
        out.push_str(&format!("    {name:width$}  {about}\n"));
    }
}

fn input(port: &Input) -> String {
    let types = if port.types.is_empty() { "anything".to_owned() } else { port.types.join(" or ") };
    match port.arity {
        Arity::One => format!("{}: {types}", port.name),
        Arity::Optional => format!("{}: {types}, optional", port.name),
        Arity::Many => format!("{}: map of {types}", port.name),
        Arity::Any => format!("{}: map of {types}, optional", port.name),
    }
}

fn output(port: &Output) -> String {
    let optional = if port.optional { ", optional" } else { "" };
    format!("{}: {}{optional}", port.name, port.port_type)
}
