//! Names of stages, sets and metrics, which may hold anything, as names of files and of what lies in them. Two names never
//! become one.

use opdflow_api::cache::Digest;

/// Most bytes of a name of a file: file systems take 255.
const MOST: usize = 200;

/// A stage's name as the name of a folder: all but plain characters as `%2F`, bytes in hexadecimal.
pub(super) fn folder(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.,=+@()[]{} ".contains(&b);
    short(name, '%', escaped(name, '%', plain))
}

/// A name as a part of what MLflow takes for the name of a metric, a parameter or a tag: letters, digits and `_-. `, all else as `:2F`.
pub(super) fn mlflow(name: &str) -> String {
    short(name, ':', escaped(name, ':', |b| b.is_ascii_alphanumeric() || b"_-. ".contains(&b)))
}

fn escaped(name: &str, mark: char, plain: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(name.len());
    for (i, byte) in name.bytes().enumerate() {
        // Neither hidden, nor `.` or `..`.
        if plain(byte) && !(byte == b'.' && i == 0) {
            out.push(char::from(byte));
        } else {
            out.push(mark);
            out.push_str(&format!("{byte:02X}"));
        }
    }
    // Of no name, what no other becomes.
    if out.is_empty() { mark.to_string() } else { out }
}

/// What is too long for a file ends in the digest of the whole. No other name does: after its mark stand two hexadecimal digits.
fn short(name: &str, mark: char, escaped: String) -> String {
    if escaped.len() <= MOST {
        return escaped;
    }
    format!("{}{mark}{mark}{}", &escaped[..MOST - 66], Digest::of(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_stay_apart_and_are_names_of_files() {
        let long = "é".repeat(500);
        let longer = format!("{long}x");
        let names = [
            "a",
            "a/b",
            "a%2Fb",
            "a:2Fb",
            "a_2Fb",
            "",
            ".",
            "..",
            "../x",
            ".hidden",
            "a\nb",
            "\u{202e}a",
            "a b",
            "%",
            ":",
            "é",
            &long,
            &longer,
            "teacher[task=ocr,seed=1]",
        ];
        for escape in [folder, mlflow] {
            let files: BTreeSet<String> = names.iter().map(|n| escape(n)).collect();
            assert_eq!(files.len(), names.len(), "{files:?}");
            for file in &files {
                assert!(!file.is_empty() && file.len() <= MOST && file.is_ascii(), "{file}");
                assert!(!file.contains(['/', '\n']) && !file.starts_with('.'), "{file}");
            }
        }
        assert_eq!(folder("teacher[task=ocr]"), "teacher[task=ocr]");
        assert_eq!(folder("a/b"), "a%2Fb");
        assert_eq!(mlflow("reward.ocr"), "reward.ocr");
        assert_eq!(mlflow("a[b]"), "a:5Bb:5D");
    }
}
