//! Digests of sources, and the table of versions that is committed beside them.
//!
//! `build.rs` and `tests/semantics.rs` share this file: what is in a build's keys and what the test holds against the table
//! are the same digests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The committed version of a part and the digest of its sources then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Raised by hand when the part gives other results.
    pub version: u32,
    /// See [`digest`].
    pub digest: String,
}

/// Reads the table: lines `name version digest`. Other lines, such as what a merge leaves, are passed over; of several lines
/// of one name, the one with the highest version counts.
pub fn table(text: &str) -> BTreeMap<String, Committed> {
    let mut found: BTreeMap<String, Committed> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, version, digest] = words[..] else { continue };
        let Ok(version) = version.parse::<u32>() else { continue };
        if found.get(name).is_none_or(|known| known.version <= version) {
            found.insert(name.to_owned(), Committed { version, digest: digest.to_owned() });
        }
    }
    found
}

/// The files of `listed` (files and folders below `stages`), sorted. What is not there is left out.
pub fn files(stages: &Path, listed: &[&str]) -> Vec<PathBuf> {
    let found: BTreeSet<PathBuf> = listed.iter().flat_map(|entry| below(&stages.join(entry))).collect();
    found.into_iter().collect()
}

fn below(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.flat_map(|entry| below(&entry.path())).collect()
}

/// Digest of the sources of a part: paths and code, without comments, spacing and tests. Nothing if the crate that it begins
/// in is not there, as in a package.
pub fn digest(stages: &Path, listed: &[&str]) -> Option<String> {
    let home = stages.join(listed.first()?.split('/').next()?).join("src");
    home.is_dir().then(|| digest_of(stages, &files(stages, listed)))
}

/// The same of these files.
pub fn digest_of(stages: &Path, files: &[PathBuf]) -> String {
    let mut hasher = blake3::Hasher::new();
    for path in files {
        let bytes = std::fs::read(path).unwrap_or_default();
        let is_code = path.extension().is_some_and(|e| e == "rs");
        let text = if is_code { code(&String::from_utf8_lossy(&bytes)).into_bytes() } else { bytes };
        let name = path.strip_prefix(stages).unwrap_or(path).to_string_lossy().into_owned();
        for piece in [name.as_bytes(), &text] {
            hasher.update(&(piece.len() as u64).to_le_bytes());
            hasher.update(piece);
        }
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// One character of code, and whether it stands outside of texts.
type Letter = (char, bool);

/// The code alone: comments, spacing and the modules of tests are left out. What stands in a text stays as it is.
pub fn code(text: &str) -> String {
    let mut letters = plain(&text.chars().collect::<Vec<_>>());
    while let Some((from, until)) = tests(&letters) {
        letters.drain(from..until);
    }
    let all: String = letters.iter().map(|(c, _)| *c).collect();
    all.trim().to_owned()
}

/// Without comments, and with one space where spacing is.
fn plain(text: &[char]) -> Vec<Letter> {
    let mut out: Vec<Letter> = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let (taken, kept) = match rest {
            ['/', '/', ..] => (rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()), false),
            ['/', '*', ..] => (comment(rest), false),
            [c, ..] if c.is_whitespace() => (1, false),
            _ => {
                let word = out.last().is_some_and(|(c, code)| *code && (c.is_alphanumeric() || *c == '_'));
                (literal(rest, word), true)
            }
        };
        if kept {
            let quoted = taken > 1;
            out.extend(rest[..taken].iter().map(|c| (*c, !quoted)));
        } else if out.last().is_some_and(|last| *last != (' ', true)) {
            out.push((' ', true));
        }
        at += taken;
    }
    out
}

/// The length of a block comment. They nest.
fn comment(text: &[char]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        match text[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth.saturating_sub(1), at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The length of the text or character that begins here, or 1 if none does. `word`: whether this goes on a word.
fn literal(text: &[char], word: bool) -> usize {
    match text {
        ['"', ..] => ended(text, 1, '"'),
        ['\'', '\\', ..] => ended(text, 1, '\''),
        // Anything else after an apostrophe is a lifetime.
        ['\'', _, '\'', ..] => 3,
        ['r', ..] if !word => raw(text, 1),
        ['b' | 'c', 'r', ..] if !word => raw(text, 2),
        _ => 1,
    }
}

/// The length of a raw text whose hashes begin at `from`.
fn raw(text: &[char], from: usize) -> usize {
    let hashes = text[from..].iter().take_while(|c| **c == '#').count();
    if text.get(from + hashes) != Some(&'"') {
        return 1;
    }
    let mut end = vec!['"'];
    end.extend(std::iter::repeat_n('#', hashes));
    let inside = from + hashes + 1;
    let found = text[inside..].windows(end.len()).position(|w| w == end);
    found.map_or(text.len(), |place| inside + place + end.len())
}

/// The length up to and with the next `end` that no backslash stands before.
fn ended(text: &[char], from: usize, end: char) -> usize {
    let mut at = from;
    while at < text.len() {
        match text[at] {
            '\\' => at += 2,
            c if c == end => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// Where a module of tests stands.
fn tests(letters: &[Letter]) -> Option<(usize, usize)> {
    let mark: Vec<Letter> = "#[cfg(test)] ".chars().map(|c| (c, true)).collect();
    let starts = letters.windows(mark.len()).enumerate().filter(|(_, w)| *w == mark.as_slice());
    for (from, _) in starts {
        let head = from + mark.len();
        let stop = letters[head..].iter().position(|l| matches!(l, ('{' | ';', true)))? + head;
        let words: String = letters[head..stop].iter().map(|(c, _)| *c).collect();
        let words: Vec<&str> = words.split_whitespace().collect();
        let is_module = matches!(words[..], ["mod", _]) || (words.len() == 3 && words[1] == "mod");
        if !is_module || letters[stop].0 != '{' {
            continue;
        }
        let mut depth = 0_usize;
        for (i, letter) in letters.iter().enumerate().skip(stop) {
            match letter {
                ('{', true) => depth += 1,
                ('}', true) => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Some((from, i + 1));
            }
        }
    }
    None
}
