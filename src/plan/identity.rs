//! Which artefact some bytes are: only what tells artefacts apart counts.
//!
//! A configuration is equal in many adapters and says nothing of which one it belongs to. Weights do, and so does a whole
//! output, or a whole folder inside one.

use super::lineage::{Lineage, Origin};
use opdflow_cache::{ActionRecord, Digest, ObjectKind, TreeEntry, tree_digest};
use std::collections::BTreeSet;

/// Endings of files that hold weights.
const WEIGHTS: [&str; 8] = ["safetensors", "bin", "ckpt", "gguf", "npz", "onnx", "pt", "pth"];

/// What is known of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// No result has them.
    Unknown,
    /// These results, of which each has the same: whole outputs before parts of one, what was finished first before what came
    /// later. Never empty.
    Same(Vec<Origin>),
    /// They are a part of these results, which differ: they do not tell which one is meant.
    Several(Vec<Origin>),
}

/// A file or folder inside a result, and what tells it apart.
struct Place {
    origin: Origin,
    digest: Digest,
}

fn is_weights(path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, ending)| WEIGHTS.contains(&ending.to_ascii_lowercase().as_str()))
}

/// The folder of a path in a tree; the root is empty.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The files below a folder of a tree, by their path in it.
fn below(entries: &[TreeEntry], folder: &str) -> Vec<TreeEntry> {
    let inside = |e: &TreeEntry| {
        let path =
            if folder.is_empty() { Some(e.path.as_str()) } else { e.path.strip_prefix(folder)?.strip_prefix('/') };
        Some(TreeEntry { path: path?.to_owned(), ..e.clone() })
    };
    entries.iter().filter_map(inside).collect()
}

/// All folders of a tree below its root.
fn folders(entries: &[TreeEntry]) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for entry in entries {
        let mut at = parent(&entry.path);
        while !at.is_empty() && found.insert(at) {
            at = parent(at);
        }
    }
    found
}

/// Places as an answer: of one content, or of several.
fn answer(places: Vec<Place>) -> Option<Identity> {
    let first = places.first()?.digest;
    let same = places.iter().all(|p| p.digest == first);
    let origins = places.into_iter().map(|p| p.origin).collect();
    Some(if same { Identity::Same(origins) } else { Identity::Several(origins) })
}

impl Lineage<'_> {
    /// Which result a file is, or is a part of. `name` is the file's own.
    #[must_use]
    pub fn of_file(&self, digest: &Digest, name: &str) -> Identity {
        if let Some(whole) = self.outputs(digest) {
            return Identity::Same(whole);
        }
        let mut places = Vec::new();
        for (origin, entries) in self.trees() {
            for file in entries.iter().filter(|e| e.digest == *digest) {
                // Weights are what they are wherever they lie; anything else is known by the folder around it.
                let digest =
                    if is_weights(name) { file.digest } else { tree_digest(below(&entries, parent(&file.path))) };
                places.push(Place { origin: Origin { inside: Some(file.path.clone()), ..origin.clone() }, digest });
            }
        }
        answer(places).unwrap_or(Identity::Unknown)
    }

    /// Which result a folder of these files is, or is a part of. More files may be there, and a configuration may have
    /// changed; the weights may not.
    #[must_use]
    pub fn of_folder(&self, files: &[TreeEntry]) -> Identity {
        let trees = self.trees();
        if let Some(mut whole) = self.outputs(&tree_digest(files.to_vec())) {
            whole.extend(parts(&trees, files).into_iter().map(|place| place.origin));
            return Identity::Same(whole);
        }
        let part = || answer(parts(&trees, files));
        let around = || answer(contained(&trees, files));
        let weights = || answer(by_weights(&trees, files));
        part().or_else(around).or_else(weights).unwrap_or(Identity::Unknown)
    }

    /// The outputs of this digest.
    fn outputs(&self, digest: &Digest) -> Option<Vec<Origin>> {
        let makers = self.makers.get(digest)?;
        let of =
            |record: &&ActionRecord| makers.iter().filter(|(key, _)| *key == record.key).cloned().collect::<Vec<_>>();
        let all = self.finished().iter().flat_map(of).map(|(key, port)| Origin { key, port, inside: None }).collect();
        Some(all)
    }

    /// All folders that stages left, those of the first that was finished first.
    fn trees(&self) -> Vec<(Origin, Vec<TreeEntry>)> {
        let mut found = Vec::new();
        for record in self.finished() {
            for (port, output) in record.outputs.iter().filter(|(_, o)| o.object.kind == ObjectKind::Tree) {
                let origin = Origin { key: record.key, port: port.clone(), inside: None };
                found.push((origin, self.store.tree(&output.object.digest).unwrap_or_default()));
            }
        }
        found
    }

    fn finished(&self) -> Vec<&ActionRecord> {
        let mut all: Vec<&ActionRecord> = self.records.values().collect();
        all.sort_by(|a, b| a.finished.cmp(&b.finished).then(a.key.cmp(&b.key)));
        all
    }
}

/// The folders inside results that have these very files.
fn parts(trees: &[(Origin, Vec<TreeEntry>)], files: &[TreeEntry]) -> Vec<Place> {
    let digest = tree_digest(files.to_vec());
    let mut found = Vec::new();
    for (origin, entries) in trees.iter().filter(|(_, e)| e.len() > files.len()) {
        for folder in folders(entries).into_iter().filter(|f| below(entries, f) == files) {
            found.push(Place { origin: Origin { inside: Some(folder.to_owned()), ..origin.clone() }, digest });
        }
    }
    found
}

/// The largest results, or folders with weights inside them, of which every file is there.
fn contained(trees: &[(Origin, Vec<TreeEntry>)], files: &[TreeEntry]) -> Vec<Place> {
    let there: BTreeSet<(&str, Digest)> = files.iter().map(|f| (f.path.as_str(), f.digest)).collect();
    let all_there = |own: &[TreeEntry]| own.iter().all(|e| there.contains(&(e.path.as_str(), e.digest)));
    let mut found: Vec<(u64, Place)> = Vec::new();
    for (origin, entries) in trees {
        let whole = (String::new(), entries.clone());
        let inside = folders(entries).into_iter().map(|f| (f.to_owned(), below(entries, f)));
        let inside = inside.filter(|(_, own)| own.iter().any(|e| is_weights(&e.path)));
        for (folder, own) in std::iter::once(whole).chain(inside) {
            if own.is_empty() || !all_there(&own) {
                continue;
            }
            let size = own.iter().map(|e| e.size).sum();
            let inside = Some(folder).filter(|f| !f.is_empty());
            found.push((size, Place { origin: Origin { inside, ..origin.clone() }, digest: tree_digest(own) }));
        }
    }
    let most = found.iter().map(|(size, _)| *size).max();
    found.into_iter().filter(|(size, _)| Some(*size) == most).map(|(_, place)| place).collect()
}

/// The folders of results that have all the weights that are there, each under its path; of a single file of weights,
/// under any name.
fn by_weights(trees: &[(Origin, Vec<TreeEntry>)], files: &[TreeEntry]) -> Vec<Place> {
    let weights: Vec<&TreeEntry> = files.iter().filter(|f| is_weights(&f.path)).collect();
    let Some(first) = weights.first() else { return Vec::new() };
    let at = |folder: &str, path: &str| if folder.is_empty() { path.to_owned() } else { format!("{folder}/{path}") };
    let digest = tree_digest(weights.iter().map(|w| (*w).clone()).collect());
    let mut found = Vec::new();
    for (origin, entries) in trees {
        let has = |path: &str, digest: Digest| entries.iter().any(|e| e.path == path && e.digest == digest);
        for hit in entries.iter().filter(|e| e.digest == first.digest) {
            let folder = match weights.len() {
                1 => Some(parent(&hit.path)),
                _ if hit.path == first.path => Some(""),
                _ => hit.path.strip_suffix(first.path.as_str()).and_then(|f| f.strip_suffix('/')),
            };
            let Some(folder) = folder else { continue };
            if weights.len() > 1 && !weights.iter().all(|w| has(&at(folder, &w.path), w.digest)) {
                continue;
            }
            let inside = Some(folder.to_owned()).filter(|f| !f.is_empty());
            found.push(Place { origin: Origin { inside, ..origin.clone() }, digest });
        }
    }
    found
}
