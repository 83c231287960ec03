//! Stage kinds for people: the page of the terminal, and the reference in `docs/reference/recipe.md`.

use crate::recipe::reference::{Param, params};
use opdflow_api::{Arity, Description, Input, Kind, Output};
use opdflow_io::markdown::{Cell, Side, Table};
use std::fmt::Write as _;

/// A kind on the terminal.
#[must_use]
pub fn page(kind: &dyn Kind) -> String {
    let about = kind.describe();
    let mut out = format!("{} (version {})\n  {}\n", about.kind, about.semantics, about.about);
    section(&mut out, "needs", about.inputs.iter().map(|p| (input(p), p.about.to_owned())));
    let lines = params(kind).into_iter().map(|p| (p.name.clone(), format!("{}. {}", facts(&p), p.about)));
    section(&mut out, "with", lines.map(|(name, about)| (name, about.trim_end_matches(". ").to_owned())));
    section(&mut out, "leaves", about.outputs.iter().map(|p| (output(p), p.about.to_owned())));
    out
}

fn section(out: &mut String, title: &str, lines: impl Iterator<Item = (String, String)>) {
    let lines: Vec<(String, String)> = lines.collect();
    if lines.is_empty() {
        return;
    }
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let _ = writeln!(out, "  {title}:");
    for (name, about) in lines {
        let _ = writeln!(out, "    {name:width$}  {about}");
    }
}

/// What a parameter takes, and what it is where none is written.
fn facts(param: &Param) -> String {
    let default = match &param.default {
        Some(value) => format!("; default {value}"),
        None if param.required => "; required".to_owned(),
        None => String::new(),
    };
    let outside = if param.in_key { "" } else { "; not in the key" };
    format!("{}{default}{outside}", param.takes)
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

/// A line for each kind: its name and what it does.
#[must_use]
pub fn list<'k>(kinds: impl IntoIterator<Item = &'k (dyn Kind + 'static)>) -> String {
    let about: Vec<Description> = kinds.into_iter().map(Kind::describe).collect();
    let width = about.iter().map(|a| a.kind.len()).max().unwrap_or(0);
    let mut out = String::new();
    for Description { kind, about, .. } in about {
        let first = about.split_once(". ").map_or(about, |(first, _)| first).trim_end_matches('.');
        let _ = writeln!(out, "{kind:width$}  {first}");
    }
    out.push_str("\n`opdflow stages KIND` shows inputs, parameters and outputs of one, `--all` those of all\n");
    out
}

const HEAD: &str = "# Recipes: the kinds of stage

Made by `opdflow stages --markdown` from the kinds themselves; a test keeps it current (`OPDFLOW_GOLDEN=write cargo test --test
schema` writes it anew). `opdflow schema` prints the same as JSON Schema for editors: `recipes/schema/recipe.schema.json`, which the
first line of each shipped recipe names.

## The recipe itself

| name | takes | meaning |
|---|---|---|
| `opdflow` | 1 | the format; required |
| `name` | text | name of the recipe, in the names of runs and pins; a file without one is a part, which others include |
| `seed` | whole number from 0 | seed of every stage that does not set its own; default 0 |
| `numerics` | `portable`, or `{profile: strict, device: cpu}` | whether device class (`cpu`, `cuda`), number type and libtorch's version are in the keys; default `portable` |
| `include` | path, `{recipe: path, stages: [names]}`, or a list of them | recipes whose stages stand in this one too ([engine.md](engine.md#recipes-that-share-parts)) |
| `vars` | map | values for `\"${name}\"` anywhere below; `--set name=value` replaces them; a value may use other variables |
| `defaults` | map of kind to parameters | laid under the `with` of every stage of the kind, name by name |
| `stages` | map of name to stage | required, unless all are included |

A stage has `uses` (its kind, required), `needs` (inputs by port, `stage.port` each), `with` (parameters), and if wanted `seed`,
`matrix` ([engine.md](engine.md#sweeps)) and `resources: {cpus: N, gpus: N, ranks: N, deadline: S, gpu_memory: 16G}` ([several-gpus.md](../how-to/several-gpus.md)). Every stage that reports metrics has the output `metrics` besides
those below.
";

/// The reference of these kinds.
#[must_use]
pub fn markdown<'k>(kinds: impl IntoIterator<Item = &'k (dyn Kind + 'static)>) -> String {
    let mut out = HEAD.to_owned();
    for kind in kinds {
        chapter(&mut out, kind);
    }
    out
}

fn chapter(out: &mut String, kind: &dyn Kind) {
    let about = kind.describe();
    let Description { kind: name, semantics, .. } = about;
    let seed = if about.seeded { "depends on the seed" } else { "does not depend on the seed" };
    let _ = writeln!(out, "\n## `{name}`\n\n{}\n\nVersion {semantics}; {seed}.", about.about);
    if !about.inputs.is_empty() {
        let mut table = columns(["needs", "type", ""]);
        for port in about.inputs {
            let whole = input(port);
            let types = whole.split_once(": ").map_or("", |(_, types)| types);
            let text = format!("{}{}", port.about, outside(about.outside_key.contains(&port.name)));
            table.row([format!("`{}`", port.name), types.to_owned(), text].map(|c| cell(&c)));
        }
        let _ = write!(out, "\n{}", table.finish());
    }
    let all = params(kind);
    if !all.is_empty() {
        let mut table = columns(["with", "takes", "default", ""]);
        for param in all {
            let default = match (&param.default, param.required) {
                (Some(value), _) => format!("`{value}`"),
                (None, true) => "required".to_owned(),
                (None, false) => String::new(),
            };
            let about = format!("{}{}", param.about, outside(!param.in_key));
            table.row([format!("`{}`", param.name), param.takes, default, about].map(|c| cell(&c)));
        }
        let _ = write!(out, "\n{}", table.finish());
    }
    let mut table = columns(["leaves", "type", ""]);
    for port in about.outputs {
        let optional = if port.optional { ", optional" } else { "" };
        let port_type = format!("{}{optional}", port.port_type);
        table.row([format!("`{}`", port.name), port_type, port.about.to_owned()].map(|c| cell(&c)));
    }
    let _ = write!(out, "\n{}", table.finish());
}

/// A word of what is not in the key.
fn outside(it_is: bool) -> &'static str {
    if it_is { " (not in the key)" } else { "" }
}

fn columns<const N: usize>(names: [&str; N]) -> Table {
    Table::new(names.map(|name| (Cell::text(name), Side::Left))).compact()
}

/// What kinds say of themselves is Markdown already, but for the bars.
fn cell(markdown: &str) -> Cell {
    Cell::markup(markdown.replace('|', "\\|"))
}
