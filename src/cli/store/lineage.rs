//! `opdflow lineage`: from an output, a file or a cell of a table back to all that it was made of.

use crate::cli::store::found;
use crate::cli::{Exit, Failure, Session, args};
use crate::plan::history::kind_of;
use crate::plan::identity::Identity;
use crate::plan::lineage::{Lineage, Origin, Read, beside};
use crate::recipe::hint;
use opdflow_cache::{ActionRecord, Digest, Object, TreeEntry, tree_digest};
use opdflow_io::terminal::{cut, line};
use opdflow_io::{csv, file as files};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

pub(crate) fn run(session: &Session, args: &args::Lineage) -> Result<Exit, Failure> {
    let store = session.open()?;
    let _in_use = store.shared()?;
    let lineage = Lineage::of(&store);
    let (what, origins) = match &args.output {
        Some(output) => {
            let (key, port) = found::locate(session, &args.from, output, &store)?;
            (output.clone(), vec![Origin { key, port, inside: None }])
        }
        None => (args.from.display().to_string(), file(&lineage, &args.from, session)?),
    };
    let cell = match &args.row {
        Some(row) if args.output.is_none() => Some(cell(&args.from, row, args.column.as_deref())?),
        Some(_) => {
            return Err(Failure::Usage(
                "`--row` reads a table's CSV file\nhelp: name that file alone, such as the one in the run's `outputs`"
                    .into(),
            ));
        }
        None => None,
    };
    let Some((origin, also)) = origins.split_first() else {
        return Err(Failure::Bug(format!("nothing is known of {what}")));
    };
    let Some(record) = lineage.record(&origin.key) else {
        return Err(Failure::Usage(format!("the record of {what} is not in the store any more")));
    };
    let only = args.row.as_ref().map(|row| beside(record, row, &lineage.reads(record))).filter(|o| !o.is_empty());
    let told = Told { lineage: &lineage, what: &what, origin, also, cell: cell.as_deref(), only: only.as_ref() };
    session.print(if session.json { told.json().to_string() } else { told.text() }.trim_end());
    Ok(Exit::Done)
}

/// The outputs that a file or folder is a copy of, or a part of: the one that was finished first, and others that have the
/// same.
fn file(lineage: &Lineage<'_>, path: &Path, session: &Session) -> Result<Vec<Origin>, Failure> {
    if path.symlink_metadata().is_err() {
        return Err(Failure::Usage(format!(
            "there is no file {}\nhelp: name a file or folder, or a recipe and an output: `opdflow lineage RECIPE STAGE.PORT`",
            path.display()
        )));
    }
    let (digest, identity) = if path.is_dir() {
        let files = TreeEntry::of_folder(path)?;
        let identity = lineage.of_folder(&files);
        (tree_digest(files), identity)
    } else {
        let digest = Object::of_path(path)?.digest;
        (digest, lineage.of_file(&digest, &path.file_name().unwrap_or_default().to_string_lossy()))
    };
    match identity {
        Identity::Same(origins) => Ok(origins),
        Identity::Several(origins) => Err(Failure::Usage(format!(
            "{} is part of {} results that differ, so that it does not tell which one is meant:\n{}\n\
             help: name the weights beside it, or the whole folder",
            path.display(),
            origins.len(),
            origins.iter().map(|o| format!("  {}", named(lineage, o))).collect::<Vec<_>>().join("\n")
        ))),
        Identity::Unknown => Err(Failure::Usage(format!(
            "no result in the store {} has the bytes of {} ({})\n\
             help: it was changed, or made elsewhere, or `gc` has taken its record away",
            session.store.display(),
            path.display(),
            digest.short()
        ))),
    }
}

/// An output in words: its port, the stage, the key, and the place in it.
fn named(lineage: &Lineage<'_>, origin: &Origin) -> String {
    let stage = lineage.record(&origin.key).and_then(|r| r.note.get("stage")).map_or("a stage", String::as_str);
    let inside = origin.inside.as_ref().map_or(String::new(), |p| format!(", {p} in it"));
    format!("output `{}` of {stage} (key {}){inside}", origin.port, origin.key.short())
}

/// A cell of a CSV file, in words. The row is known by its first cell, the column by its head.
fn cell(path: &Path, row: &str, column: Option<&str>) -> Result<String, Failure> {
    let at = path.display();
    let text =
        files::read_text(path, files::DESCRIPTION).map_err(|e| Failure::Usage(format!("cannot read {at}: {e}")))?;
    let rows = csv::read(&text).map_err(|e| Failure::Usage(format!("cannot read {at}: {e}")))?;
    let unknown = |what: &str, name: &str, names: Vec<String>| {
        let help = hint(name, names.iter().map(String::as_str)).map_or(String::new(), |h| format!("\nhelp: {h}"));
        Failure::Usage(format!("{at} has no {what} `{name}`{help}"))
    };
    let firsts = || rows.iter().skip(1).filter_map(|r| r.first().cloned()).collect();
    let found = rows.iter().skip(1).find(|r| r.first().is_some_and(|f| f == row));
    let Some(found) = found else { return Err(unknown("row", row, firsts())) };
    let Some(column) = column else { return Ok(format!("row `{row}`: {}", found.join(", "))) };
    let heads = rows.first().cloned().unwrap_or_default();
    let Some(place) = heads.iter().position(|h| h == column) else { return Err(unknown("column", column, heads)) };
    Ok(format!("row `{row}`, column `{column}`: {}", found.get(place).map_or("", String::as_str)))
}

/// What there is to tell.
struct Told<'a> {
    lineage: &'a Lineage<'a>,
    what: &'a str,
    origin: &'a Origin,
    /// Other outputs that have the same bytes.
    also: &'a [Origin],
    cell: Option<&'a str>,
    /// Of the first stage, the inputs to follow.
    only: Option<&'a BTreeSet<String>>,
}

impl Told<'_> {
    fn reads(&self, record: &ActionRecord) -> Vec<Read> {
        let mut reads = self.lineage.reads(record);
        if let Some(only) = self.only.filter(|_| record.key == self.origin.key) {
            reads.retain(|r| only.contains(&r.port));
        }
        reads
    }

    fn text(&self) -> String {
        let inside = self.origin.inside.as_ref().map_or(String::new(), |p| format!(", {} in it", line(&p.to_string())));
        let mut out = format!("{}: output `{}`{inside}\n", line(self.what), line(&self.origin.port));
        for other in self.also {
            let _ = writeln!(out, "the same bytes: {}", named(self.lineage, other));
        }
        if let Some(cell) = self.cell {
            let _ = writeln!(out, "{cell}");
        }
        self.branch(&self.origin.key, "", "", &mut BTreeSet::new(), &mut out);
        out
    }

    /// One stage and, below it, what it read. `first` stands before its own line, `rest` before all others.
    fn branch(&self, key: &Digest, first: &str, rest: &str, seen: &mut BTreeSet<Digest>, out: &mut String) {
        let Some(record) = self.lineage.record(key) else { return };
        let again = !seen.insert(*key);
        let _ = writeln!(out, "{first}{}{}", head(record), if again { "  (above)" } else { "" });
        if again {
            return;
        }
        let reads = self.reads(record);
        let bar = if reads.is_empty() { "  " } else { "| " };
        if let Some(params) = record.manifest.get("params").filter(|p| p.as_object().is_some_and(|m| !m.is_empty())) {
            let _ = writeln!(out, "{rest}{bar}with {}", cut(&params.to_string(), 4000));
        }
        for (name, digest) in assets(record) {
            let _ = writeln!(out, "{rest}{bar}asset {} {}", line(name), line(digest.get(..12).unwrap_or(digest)));
        }
        for (i, read) in reads.iter().enumerate() {
            let last = i + 1 == reads.len();
            match &read.from {
                Some((from, output)) => {
                    let first = format!("{rest}+-{} <- {} of ", line(&read.port), line(output));
                    let rest = format!("{rest}{}", if last { "  " } else { "| " });
                    self.branch(from, &first, &rest, seen, out);
                }
                None => {
                    let digest = read.digest.short();
                    let _ = writeln!(out, "{rest}+-{} <- {digest}, whose record is not in the store", line(&read.port));
                }
            }
        }
    }

    fn json(&self) -> Value {
        let mut stages = BTreeMap::new();
        let mut open = vec![self.origin.key];
        while let Some(key) = open.pop() {
            let Some(record) = self.lineage.record(&key).filter(|_| !stages.contains_key(&key.to_string())) else {
                continue;
            };
            let reads = self.reads(record);
            open.extend(reads.iter().filter_map(|r| r.from.as_ref().map(|(key, _)| *key)));
            let inputs: BTreeMap<&str, Value> = reads
                .iter()
                .map(|r| {
                    let (from, output) = r.from.as_ref().map_or((None, None), |(key, port)| (Some(key), Some(port)));
                    (r.port.as_str(), json!({"digest": r.digest, "from": from, "output": output}))
                })
                .collect();
            let outputs: BTreeMap<&String, Digest> =
                record.outputs.iter().map(|(port, o)| (port, o.object.digest)).collect();
            stages.insert(
                key.to_string(),
                json!({"note": record.note, "finished": record.finished, "seconds": record.seconds,
                    "manifest": record.manifest, "inputs": inputs, "outputs": outputs}),
            );
        }
        let Origin { key, port, inside } = self.origin;
        let also: Vec<Value> =
            self.also.iter().map(|o| json!({"key": o.key, "output": o.port, "file": o.inside})).collect();
        json!({"what": self.what, "also": also, "cell": self.cell, "key": key, "output": port, "file": inside, "stages": stages})
    }
}

/// The line of a stage.
fn head(record: &ActionRecord) -> String {
    let fact = |name: &str| record.note.get(name).map(String::as_str).filter(|v| !v.is_empty());
    let seed = record.manifest.get("seed").map(|seed| format!("seed {seed}"));
    let semantics = record.manifest.get("semantics").and_then(Value::as_u64).unwrap_or(0);
    let name = format!("{} ({} v{semantics})", fact("stage").unwrap_or("a stage"), kind_of(record).unwrap_or("?"));
    let facts = [
        Some(name),
        Some(format!("key {}", record.key.short())),
        seed,
        Some(record.finished.clone()),
        fact("device").map(ToOwned::to_owned),
        fact("program").map(ToOwned::to_owned),
    ];
    facts.into_iter().flatten().map(|f| line(&cut(&f, 200)).into_owned()).collect::<Vec<_>>().join("  ")
}

fn assets(record: &ActionRecord) -> impl Iterator<Item = (&String, &str)> {
    let assets = record.manifest.get("assets").and_then(Value::as_object);
    assets.into_iter().flatten().filter_map(|(name, digest)| Some((name, digest.as_str()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_found_by_the_words_that_were_given() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        let mut table = csv::Table::new(["model", "ocr"]);
        table.row(["a, \"b\"\nc", "0.5"]);
        table.row(["=1+1", "0.25"]);
        std::fs::write(&path, table.finish()).unwrap();
        let found = |row: &str, column: &str| cell(&path, row, Some(column)).unwrap();
        assert!(found("a, \"b\"\nc", "ocr").ends_with(": 0.5"));
        assert!(found("=1+1", "ocr").ends_with(": 0.25"));
        assert!(cell(&path, "b", None).is_err());
    }
}
