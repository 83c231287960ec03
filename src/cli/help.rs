//! `opdflow help`, `man` and `completions`: the program about itself. What a code means stands in `docs/reference/errors.md`, which
//! travels inside the program.

use super::{Exit, Failure, Session, args};
use crate::recipe::near;
use clap::CommandFactory as _;
use serde_json::json;

const ERRORS: &str = include_str!("../../docs/reference/errors.md");

/// A row of the tables in `docs/reference/errors.md`.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    code: String,
    section: String,
    meaning: String,
    way_out: String,
}

pub(super) fn run(session: &Session, args: &args::Help) -> Result<Exit, Failure> {
    let mut program = args::Opdflow::command();
    // Names and options of commands are whole only after this.
    program.build();
    let Some(about) = &args.about else {
        session.out.by(|| program.print_long_help());
        return Ok(Exit::Done);
    };
    if let Some(entry) = entries().into_iter().find(|e| e.code.eq_ignore_ascii_case(about)) {
        let Entry { code, section, meaning, way_out } = entry;
        if session.json {
            session
                .print(&json!({"code": code, "section": section, "meaning": meaning, "way_out": way_out}).to_string());
        } else {
            let way_out = if way_out.is_empty() { String::new() } else { format!("\nway out: {way_out}") };
            session.print(&format!("{code} ({}): {meaning}{way_out}", section.to_lowercase()));
        }
        return Ok(Exit::Done);
    }
    let names: Vec<String> =
        program.get_subcommands().filter(|c| !c.is_hide_set()).map(|c| c.get_name().to_owned()).collect();
    if let Some(command) = program.find_subcommand_mut(about) {
        session.out.by(|| command.print_long_help());
        return Ok(Exit::Done);
    }
    let codes: Vec<String> = entries().into_iter().map(|e| e.code).collect();
    let near = near(about, names.iter().chain(&codes).map(String::as_str)).map(|n| format!("did you mean `{n}`?"));
    let help = near.unwrap_or_else(|| {
        format!("codes are those of error messages and exit codes; commands are {}", names.join(", "))
    });
    Err(Failure::Usage(format!("there is no code and no command `{about}`\nhelp: {help}")))
}

pub(super) fn completions(session: &Session, args: &args::Completions) -> Exit {
    let whole = args::Opdflow::command();
    // Not the commands that are none of people's business.
    let shown = whole.get_subcommands().filter(|c| !c.is_hide_set()).cloned();
    let mut program = clap::Command::new("opdflow")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .args(whole.get_arguments().cloned())
        .subcommands(shown);
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut program, "opdflow", &mut text);
    session.print(String::from_utf8_lossy(&text).trim_end());
    Exit::Done
}

/// The manual page of the program, or of one of its commands.
pub(super) fn manual(session: &Session, args: &args::Man) -> Result<Exit, Failure> {
    let mut program = args::Opdflow::command();
    program.build();
    let page = match &args.command {
        None => clap_mangen::Man::new(program),
        Some(name) => {
            let Some(command) = program.find_subcommand(name).filter(|c| !c.is_hide_set()) else {
                let shown = program.get_subcommands().filter(|c| !c.is_hide_set());
                let names: Vec<&str> = shown.map(clap::Command::get_name).collect();
                let help = crate::recipe::hint(name, names).map_or(String::new(), |h| format!("\nhelp: {h}"));
                return Err(Failure::Usage(format!("there is no command `{name}`{help}")));
            };
            clap_mangen::Man::new(command.clone()).title(format!("opdflow-{name}"))
        }
    };
    let mut text = Vec::new();
    page.render(&mut text).map_err(|e| Failure::Bug(e.to_string()))?;
    session.print(String::from_utf8_lossy(&text).trim_end());
    Ok(Exit::Done)
}

/// All rows whose first cell is a code.
fn entries() -> Vec<Entry> {
    let mut section = "";
    let mut found = Vec::new();
    for line in ERRORS.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title;
        }
        let Some(row) = line.strip_prefix("| ").and_then(|l| l.strip_suffix('|')) else { continue };
        let mut cells = row.split(" | ").map(str::trim);
        let code = cells.next().unwrap_or_default().trim_matches('`');
        let is_code = code.trim_start_matches(['E', 'W']).parse::<u16>().is_ok();
        if let Some(meaning) = cells.next().filter(|_| is_code) {
            let way_out = cells.next().unwrap_or_default();
            found.push(Entry {
                code: code.to_owned(),
                section: section.to_owned(),
                meaning: meaning.to_owned(),
                way_out: way_out.to_owned(),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_read_whole() {
        let all = entries();
        let rows = ERRORS
            .lines()
            .filter(|l| l.starts_with("| `E") || l.starts_with("| `W") || l.starts_with("| 0") || l.starts_with("| 1"))
            .count();
        assert!(all.len() >= rows, "{} of {rows}", all.len());
        let entry = all.iter().find(|e| e.code == "E012").unwrap();
        assert_eq!((entry.section.as_str(), entry.meaning.as_str()), ("The shape", "a value of another type"));
        assert!(all.iter().any(|e| e.code == "75" && e.section == "Exit codes"));
        assert!(all.iter().all(|e| !e.meaning.is_empty()));
    }
}
