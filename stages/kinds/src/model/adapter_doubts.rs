//! What of an adapter's files nothing reads: keys of the metadata of its weights. Unknown fields of its configuration are
//! refused where it is read.

use opdflow_api::warning::{Doubt, IGNORED};
use opdflow_io::file;
use opdflow_spec::adapter::Files;
use serde_json::{Map, Value};
use std::io::Read as _;
use std::path::Path;

/// Keys of a file's metadata that are read, or that every writer sets.
const METADATA: [&str; 2] = ["format", "lora_adapter_metadata"];

/// Beginnings of keys under which sd-scripts, and what follows its customs, tell how an adapter was trained. They too read
/// the scale from the tensors.
const HISTORY: [&str; 3] = ["ss_", "sshs_", "modelspec."];

/// Larger headers are no adapter's.
const LARGEST: u64 = 100_000_000;

/// Doubts about the adapter at `source`, a folder or a file.
pub fn doubts(source: &Path) -> Vec<Doubt> {
    let help = "see that it means nothing for the result; what does is refused or read";
    let keys = Files::of(source).ok().and_then(|files| metadata(&files.weights)).unwrap_or_default();
    let known = |key: &str| METADATA.contains(&key) || HISTORY.iter().any(|start| key.starts_with(start));
    let unread: Vec<String> = keys.into_iter().map(|(key, _)| key).filter(|key| !known(key)).collect();
    // Trainers write dozens.
    let [first, rest @ ..] = &unread[..] else { return Vec::new() };
    let more = if rest.is_empty() { String::new() } else { format!(" and {} more keys", rest.len()) };
    let what = format!("nothing reads `{first}`{more} in the metadata of the adapter's weights");
    vec![Doubt::new(IGNORED, "source", what, help)]
}

/// The metadata of a safetensors file, by its header alone.
fn metadata(path: &Path) -> Option<Map<String, Value>> {
    let mut file = file::open(path).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let mut header = Vec::new();
    file.take(u64::from_le_bytes(length).min(LARGEST)).read_to_end(&mut header).ok()?;
    let mut header: Map<String, Value> = serde_json::from_slice(&header).ok()?;
    match header.remove("__metadata__")? {
        Value::Object(keys) => Some(keys),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &Path, header: &str) {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn keys_that_nothing_reads_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let words = || doubts(dir.path()).into_iter().map(|d| d.message).collect::<Vec<_>>();
        assert!(words().is_empty(), "nothing there is others' to tell of");
        std::fs::write(dir.path().join("adapter_config.json"), "{}").unwrap();
        let weights = dir.path().join("adapter_model.safetensors");
        file(&weights, r#"{"__metadata__": {"format": "pt", "lora_adapter_metadata": "{}"}}"#);
        assert!(words().is_empty());
        file(&weights, r#"{"__metadata__": {"format": "pt", "ss_network_alpha": "8", "modelspec.title": "x"}}"#);
        assert!(words().is_empty(), "{:?}", words());
        file(&weights, r#"{"__metadata__": {"format": "pt", "strength": "4", "trigger": "8", "ss_network_dim": "4"}}"#);
        assert_eq!(doubts(&weights), doubts(dir.path()));
        assert!(words()[0].contains("`strength` and 1 more keys") && words().len() == 1, "{:?}", words());
    }
}
