//! What files of prompts are doubted for, before a run: duplicates, leaks, one file as two sets, fields that nothing reads.

use crate::prompt::record::Record;
use opdflow_api::cache::Digest;
use opdflow_api::warning::{DUPLICATES, Doubt, IGNORED, LEAK, ONE_FILE};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A file of prompts as a set.
pub struct File {
    /// `train`, `validation` or `test`.
    pub set: &'static str,
    /// Its bytes' digest.
    pub digest: Digest,
    /// Its lines.
    pub text: String,
    /// What was read of them.
    pub records: Vec<Record>,
}

/// Fields of a line that is a JSON object with `text`, and of one in GenEval's form.
const OURS: [&str; 3] = ["text", "target", "geneval"];
const GENEVALS: [&str; 6] = ["prompt", "tag", "include", "exclude", "target", "geneval"];

/// Doubts about files, and about the sets that are drawn of them, by name.
pub fn doubts(files: &[File], sets: &[(&str, Vec<Record>)]) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    for file in files {
        doubts.extend(duplicates(file));
        doubts.extend(unread(file));
    }
    doubts.extend(leaks(files, sets));
    doubts
}

/// Prompts that stand more than once in a file. One with other metadata is another prompt.
fn duplicates(file: &File) -> Option<Doubt> {
    let key = |r: &Record| serde_json::to_string(r).unwrap_or_default();
    let different: BTreeSet<String> = file.records.iter().map(key).collect();
    let again = file.records.len() - different.len();
    let set = file.set;
    (again > 0).then(|| {
        let what = format!(
            "a prompt in the file of `{set}` is a copy of one before it: it counts as often as it stands there"
        );
        let help = "take the copies out, unless it is meant to weigh more";
        Doubt::new(DUPLICATES, format!("files.{set}"), what, help).times(again)
    })
}

/// Fields of JSON lines that no reward reads, by name.
fn unread(file: &File) -> Vec<Doubt> {
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for line in file.text.lines().map(str::trim).filter(|l| l.starts_with('{')) {
        let Ok(Value::Object(fields)) = serde_json::from_str(line) else { continue };
        let known = if fields.contains_key("text") { &OURS[..] } else { &GENEVALS[..] };
        for name in fields.keys().filter(|n| !known.contains(&n.as_str())) {
            *found.entry(name.clone()).or_default() += 1;
        }
    }
    let doubt = |(name, count): (String, usize)| {
        let what = format!("the field `{name}` of a prompt in the file of `{}` is read by nothing", file.set);
        let help = "a line may have `text`, `target` and `geneval`, or the fields of GenEval's own files";
        Doubt::new(IGNORED, format!("files.{}", file.set), what, help).times(count)
    };
    found.into_iter().map(doubt).collect()
}

/// Prompts of one set in another that should be held out.
fn leaks(files: &[File], sets: &[(&str, Vec<Record>)]) -> Vec<Doubt> {
    let texts = |name: &str| -> BTreeSet<&str> {
        let own = sets.iter().filter(|(set, _)| *set == name);
        own.flat_map(|(_, records)| records.iter().map(|r| r.text.as_str())).collect()
    };
    // A set without a file of its own is drawn out of the training file.
    let own = |name: &str| files.iter().find(|f| f.set == name);
    let source = |name: &str| own(name).or_else(|| own("train")).map(|f| f.digest);
    let mut doubts = Vec::new();
    for (first, second) in [("train", "validation"), ("train", "test"), ("validation", "test")] {
        let shared = texts(first).intersection(&texts(second)).count();
        if shared == 0 {
            continue;
        }
        let (code, what, help) = if source(first) == source(second) {
            let what = format!("a prompt is in both `{first}` and `{second}`, which come from the same file");
            (
                ONE_FILE,
                what,
                "give each set a file of its own; validation prompts can be drawn: `draw: {validation: 96}`",
            )
        } else {
            let what = format!("a prompt of `{first}` is in `{second}` too, which should be held out from it");
            (
                LEAK,
                what,
                "take it out of one of the sets: scores on prompts that were trained on say nothing of new ones",
            )
        };
        let at = if own(second).is_some() { second } else { first };
        doubts.push(Doubt::new(code, format!("files.{at}"), what, help).times(shared));
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(set: &'static str, text: &str) -> File {
        let records = text.lines().filter(|l| !l.starts_with('{')).map(Record::plain).collect();
        File { set, digest: Digest::of(text.as_bytes()), text: text.to_owned(), records }
    }

    fn found(files: &[File]) -> Vec<(&'static str, String, u64)> {
        let sets: Vec<(&str, Vec<Record>)> = files.iter().map(|f| (f.set, f.records.clone())).collect();
        doubts(files, &sets).into_iter().map(|d| (d.code, d.path, d.count)).collect()
    }

    #[test]
    fn each_is_found_with_its_number() {
        assert!(found(&[file("train", "a\nb\n"), file("test", "c\nd\n")]).is_empty());
        let at = |code, path: &str, count| (code, path.to_owned(), count);
        assert_eq!(found(&[file("train", "a\na\nb\na\n")]), [at(DUPLICATES, "files.train", 2)]);
        let sets = [file("train", "a\nb\nc\n"), file("validation", "x\n"), file("test", "b\nx\nc\n")];
        assert_eq!(found(&sets), [at(LEAK, "files.test", 2), at(LEAK, "files.test", 1)]);
        let same = [file("train", "a\nb\n"), file("test", "a\nb\n")];
        assert_eq!(found(&same), [at(ONE_FILE, "files.test", 2)]);
        let json = "{\"text\": \"a\", \"note\": 1}\n{\"text\": \"b\", \"note\": 2, \"tag\": 0}\n{\"prompt\": \"c\", \"tag\": 0, \"id\": 3}\n";
        let fields: Vec<_> = found(&[file("train", json)]);
        assert_eq!(
            fields,
            [at(IGNORED, "files.train", 1), at(IGNORED, "files.train", 2), at(IGNORED, "files.train", 1)]
        );
    }
}
