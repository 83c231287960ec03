//! `include`: recipes whose stages stand in this one too. What is read here is one document for each file; [`super::read`]
//! puts them together.
//!
//! Variables of an included recipe are variables of the one that includes it, which may give them other values. Defaults of a
//! recipe are those of its own stages and, below their own, of the recipes that include it.

use super::lock::plain;
use super::{Diagnostic, Span};
use crate::recipe::text::bound::Bound;
use crate::recipe::text::near::hint;
use crate::recipe::text::shape::{any_map, map, wrong};
use crate::recipe::text::source::Sources;
use crate::recipe::text::tree::{self, Data, Entry, Node, shown};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Error;
use std::path::{Path, PathBuf};

/// More files than anybody means.
const MOST: usize = 64;

/// One file of a recipe, as YAML.
pub(super) struct Document {
    pub root: Node,
    /// Where faults of the file as a whole are shown.
    pub first: Span,
    /// Where its paths start.
    pub folder: PathBuf,
    pub includes: Vec<Include>,
}

/// A recipe that another includes.
pub(super) struct Include {
    /// Its place among the documents.
    pub document: usize,
    /// The stages that are taken, with all that they need; all of them if it does not say.
    pub stages: Option<Vec<(String, Span)>>,
    pub span: Span,
}

/// The names of the top level.
pub(super) const KNOWN: [&str; 8] = ["opdflow", "name", "seed", "numerics", "include", "vars", "defaults", "stages"];

/// Reads the recipe and all that it includes. A document stands behind those that it includes, the recipe itself last.
/// Nothing if the recipe itself cannot be read.
pub(super) fn documents(
    path: &Path,
    text: &str,
    texts: Option<&BTreeMap<PathBuf, String>>,
    sources: &mut Sources,
    bound: &mut Bound,
    faults: &mut Vec<Diagnostic>,
) -> Option<Vec<Document>> {
    let (documents, known, open) = (Vec::new(), BTreeMap::new(), Vec::new());
    let mut reader = Reader { texts, sources, bound, faults, documents, known, open };
    reader.file(path, text)?;
    Some(reader.documents)
}

struct Reader<'a> {
    /// The texts of all files, where these are not on the disk.
    texts: Option<&'a BTreeMap<PathBuf, String>>,
    sources: &'a mut Sources,
    bound: &'a mut Bound,
    faults: &'a mut Vec<Diagnostic>,
    documents: Vec<Document>,
    /// The documents by their files, so that two ways to one file lead to one document.
    known: BTreeMap<PathBuf, usize>,
    /// The files that are being read, the one above including the one below.
    open: Vec<PathBuf>,
}

/// What one file is, however it is written.
fn identity(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

impl Reader<'_> {
    /// Reads one file; its place among the documents.
    fn file(&mut self, path: &Path, text: &str) -> Option<usize> {
        let start = self.sources.add(path, text);
        let mut found = Vec::new();
        let root = tree::parse(text, self.bound, &mut found);
        found.iter_mut().for_each(|d| d.shift(start));
        self.faults.append(&mut found);
        let mut root = match root {
            Some(root) if !root.is_null() => root,
            parsed => {
                if parsed.is_some() || self.faults.is_empty() {
                    let help = "begin with `opdflow: 1`, `name: ...` and `stages:`";
                    let label = "nothing here";
                    let title = "the recipe is empty";
                    self.faults.push(Diagnostic::error("E007", title, start..start, label).help(help));
                }
                return None;
            }
        };
        root.shift(start);
        let begin = start + text.len() - text.trim_start().len();
        map(&root, "a recipe", &KNOWN, self.faults)?;
        let first = root.entries().first().map_or(begin..begin, |e| e.key_span.clone());
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        self.open.push(identity(path));
        let includes = root.get("include").cloned().map_or_else(Vec::new, |entry| self.includes(&entry, &folder));
        self.open.pop();
        self.documents.push(Document { root, first, folder, includes });
        Some(self.documents.len() - 1)
    }

    /// Reads what stands after `include`: a path, a map of one with its stages, or a list of such.
    fn includes(&mut self, entry: &Entry, folder: &Path) -> Vec<Include> {
        match &entry.value.data {
            Data::List(items) => items.iter().filter_map(|item| self.include(item, folder)).collect(),
            _ => self.include(&entry.value, folder).into_iter().collect(),
        }
    }

    fn include(&mut self, node: &Node, folder: &Path) -> Option<Include> {
        const FORM: &str = "a path, or a map such as `{recipe: teachers.yaml, stages: [geneval_best]}`";
        let (place, stages) = match &node.data {
            Data::Map(_) => {
                map(node, "an include", &["recipe", "stages"], self.faults)?;
                let Some(recipe) = node.get("recipe") else {
                    self.faults.push(wrong(node, "an include", FORM));
                    return None;
                };
                let stages = node.get("stages").map(|entry| self.names(&entry.value));
                (&recipe.value, stages)
            }
            _ => (node, None),
        };
        let path = match &place.data {
            Data::Scalar(Value::String(text)) if !text.contains("${") => folder.join(text),
            Data::Unknown => return None,
            _ => {
                self.faults.push(wrong(place, "an include", FORM));
                return None;
            }
        };
        let document = self.follow(&path, &place.span)?;
        Some(Include { document, stages, span: place.span.clone() })
    }

    fn names(&mut self, node: &Node) -> Vec<(String, Span)> {
        let Data::List(items) = &node.data else {
            self.faults.push(wrong(node, "`stages` of an include", "a list of names"));
            return Vec::new();
        };
        let mut names = Vec::new();
        for item in items {
            match &item.data {
                Data::Scalar(Value::String(name)) => names.push((name.clone(), item.span.clone())),
                Data::Unknown => {}
                _ => self.faults.push(wrong(item, "a stage of an include", "a name")),
            }
        }
        names
    }

    /// The document of a file that `span` includes.
    fn follow(&mut self, path: &Path, span: &Span) -> Option<usize> {
        let at = identity(path);
        let mut refuse = |title: String, label: String, help: &str| {
            self.faults.push(Diagnostic::error("E029", title, span.clone(), label).help(help));
            None
        };
        if let Some(first) = self.open.iter().position(|open| *open == at) {
            let circle: Vec<String> = self.open[first..].iter().chain([&at]).map(|p| name(p)).collect();
            let help = "take one of these includes out, or put what several recipes share into a recipe of its own";
            return refuse("a recipe includes itself".to_owned(), circle.join(" includes "), help);
        }
        if let Some(document) = self.known.get(&at) {
            return Some(*document);
        }
        if self.known.len() + self.open.len() > MOST {
            let help = "put several of them into one file";
            return refuse(format!("more than {MOST} recipes are included"), "one too many".to_owned(), help);
        }
        let read = match self.texts {
            None => opdflow_io::file::read_text(path, crate::recipe::text::source::MOST),
            Some(texts) => texts.get(&plain(path)).cloned().ok_or_else(|| Error::other("the lock does not hold it")),
        };
        let text = match read {
            Ok(text) => text,
            Err(error) => {
                let help = "name a recipe by its path from the folder of this file";
                return refuse("an included recipe cannot be read".to_owned(), error.to_string(), help);
            }
        };
        let document = self.file(path, &text)?;
        self.known.insert(at, document);
        Some(document)
    }
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
}

/// The variables of a document, those of what it includes among them: by name the entry that stands uppermost.
pub(super) fn variables(documents: &[Document], faults: &mut Vec<Diagnostic>) -> Vec<Entry> {
    let mut all: Vec<BTreeMap<String, Entry>> = Vec::with_capacity(documents.len());
    for document in documents {
        let own = document.root.get("vars").filter(|e| !e.value.is_null());
        let own = own.and_then(|e| any_map(&e.value, "`vars`", faults)).map(Node::entries).unwrap_or_default();
        let own: BTreeMap<String, Entry> = own.iter().map(|e| (e.key.clone(), e.clone())).collect();
        let mut found: BTreeMap<String, Entry> = BTreeMap::new();
        for include in &document.includes {
            for (name, entry) in all.get(include.document).into_iter().flatten() {
                let before = found.get(name).filter(|b| b.value.json() != entry.value.json());
                if let Some(before) = before.filter(|_| !own.contains_key(name)) {
                    let title = format!("two included recipes give the variable {} different values", shown(name));
                    let help = format!("give `{name}` a value under `vars` of this recipe, which counts for both");
                    let label = "this one gives it another value";
                    let found = Diagnostic::error("E029", title, include.span.clone(), label);
                    faults.push(found.also(before.key_span.clone(), "one of them").help(help));
                }
                found.insert(name.clone(), entry.clone());
            }
        }
        found.extend(own);
        all.push(found);
    }
    all.pop().unwrap_or_default().into_values().collect()
}

/// Of the names of an include those that are of no stage there.
pub(super) fn unknown(name: &str, span: &Span, stages: &[Entry]) -> Diagnostic {
    let names: Vec<&str> = stages.iter().map(|s| s.key.as_str()).collect();
    let title = format!("the included recipe has no stage {}", shown(name));
    Diagnostic::error("E029", title, span.clone(), "not among its stages").maybe_help(hint(name, names))
}

/// A stage that two files have.
pub(super) fn twice(stage: &Entry, before: &Span) -> Diagnostic {
    let title = format!("the stage {} is in two of the recipes", shown(&stage.key));
    let help =
        "give one of the two another name, or name the stages that an include takes: `{recipe: PATH, stages: [...]}`";
    Diagnostic::error("E029", title, stage.key_span.clone(), "here").also(before.clone(), "and here").help(help)
}
