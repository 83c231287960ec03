//! What a lock pins, held against what is here.

use super::Planned;
use crate::recipe::{Pinned, Recipe};
use opdflow_cache::{Digest, Memo};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// So many files are named.
const NAMED: usize = 5;

/// Adds to the stages of a recipe that came from a lock what they would read that the lock does not pin.
pub(super) fn hold(recipe: &Recipe, stages: &mut [Planned], memo: &Memo) {
    let Some(locked) = &recipe.locked else { return };
    let nothing = BTreeMap::new();
    let asked = memo.asked();
    for stage in stages {
        let name = &stage.spec.name;
        let pinned = locked.lock.assets.get(name).unwrap_or(&nothing);
        let found: BTreeMap<String, Digest> = stage.assets.iter().map(|a| (a.name.clone(), a.digest)).collect();
        if &found == pinned || (pinned.is_empty() && !locked.lock.assets.contains_key(name)) {
            continue;
        }
        let files = locked.lock.inputs.get(name).map_or(&[][..], Vec::as_slice);
        let label = if stage.missing.is_empty() { "other content" } else { "files are missing" };
        let help = help(name, files, &asked, &locked.lock.program);
        stage.missing.push(recipe.spans.pin_fault(name, label, help));
    }
}

/// Which files, and the way out.
fn help(stage: &str, files: &[Pinned], asked: &BTreeMap<std::path::PathBuf, (u64, Digest)>, program: &str) -> String {
    if files.is_empty() {
        return format!("it is part of the program: take the one of the lock, {program}");
    }
    let here: BTreeSet<Digest> = asked.values().map(|(_, digest)| *digest).collect();
    let pins: BTreeSet<Digest> = files.iter().map(|f| f.digest).collect();
    let lack: Vec<&Pinned> = files.iter().filter(|f| !here.contains(&f.digest)).collect();
    // Of all files that were read those that are called like one that is missing.
    let called = |path: &Path| lack.iter().any(|f| f.path.file_name() == path.file_name());
    let other = asked.iter().filter(|(path, (_, digest))| !pins.contains(digest) && called(path));
    let mut text = String::new();
    list(&mut text, "pinned", lack.iter().map(|f| (f.path.as_path(), f.size, f.digest)));
    list(&mut text, "found instead", other.map(|(path, (size, digest))| (path.as_path(), *size, *digest)));
    text + &format!("bring the pinned files, or say where they are: `--set {stage}.with.PARAMETER=PATH`")
}

fn list<'a>(text: &mut String, what: &str, files: impl Iterator<Item = (&'a Path, u64, Digest)>) {
    let all: Vec<_> = files.collect();
    for (path, size, digest) in all.iter().take(NAMED) {
        let _ = writeln!(text, "{what}: {}, {size} bytes, {digest}", path.display());
    }
    if all.len() > NAMED {
        let _ = writeln!(text, "{what}: {} more", all.len() - NAMED);
    }
}
