//! What of an adapter's files nothing reads: keys of its configuration, and of the metadata of its weights.

use opdflow_stage::warning::{Doubt, IGNORED};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Keys of peft's configuration that are read, and those that say nothing of what the tensors mean. Others are told of
/// where they are set.
const KNOWN: [&str; 27] = [
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "layer_replication",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "megatron_config",
    "megatron_core",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_dora",
    "use_rslora",
    "ensure_weight_tying",
];

/// Keys of a file's metadata that are read, or that every writer sets.
const METADATA: [&str; 2] = ["format", "lora_adapter_metadata"];

/// Larger headers are no adapter's.
const LARGEST: u64 = 100_000_000;

/// Doubts about the adapter at `source`, a folder or a file.
pub fn doubts(source: &Path) -> Vec<Doubt> {
    let help = "see that it means nothing for the result; what does is refused or read";
    let doubt = |what: String| Doubt::new(IGNORED, "source", what, help);
    let config = source.join("adapter_config.json");
    let text = std::fs::read_to_string(&config).unwrap_or_default();
    let keys: Map<String, Value> = serde_json::from_str(&text).unwrap_or_default();
    let unknown = keys.iter().filter(|(key, value)| !KNOWN.contains(&key.as_str()) && says_something(value));
    let mut doubts: Vec<Doubt> =
        unknown.map(|(key, _)| doubt(format!("nothing reads `{key}` of the adapter's adapter_config.json"))).collect();
    let weights = if source.is_dir() { source.join("adapter_model.safetensors") } else { source.to_owned() };
    let unread = metadata(&weights).unwrap_or_default();
    let unread: Vec<String> =
        unread.into_iter().map(|(key, _)| key).filter(|k| !METADATA.contains(&k.as_str())).collect();
    // Trainers write dozens.
    if let [first, rest @ ..] = &unread[..] {
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more keys", rest.len()) };
        doubts.push(doubt(format!("nothing reads `{first}`{more} in the metadata of the adapter's weights")));
    }
    doubts
}

/// Whether a value sets anything.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

/// The metadata of a safetensors file, by its header alone.
fn metadata(path: &Path) -> Option<Map<String, Value>> {
    let mut file = File::open(path).ok()?;
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
        let config = dir.path().join("adapter_config.json");
        std::fs::write(
            &config,
            r#"{"r": 4, "lora_alpha": 8, "revision": null, "corda_config": null, "use_qalora": false}"#,
        )
        .unwrap();
        assert!(words().is_empty(), "{:?}", words());
        std::fs::write(&config, r#"{"r": 4, "corda_config": {"a": 1}, "extra": 0.5}"#).unwrap();
        assert_eq!(words().len(), 2);
        assert!(words()[0].contains("`corda_config`") && words()[1].contains("`extra`"), "{:?}", words());
        std::fs::remove_file(&config).unwrap();
        let weights = dir.path().join("adapter_model.safetensors");
        file(&weights, r#"{"__metadata__": {"format": "pt", "lora_adapter_metadata": "{}"}}"#);
        assert!(words().is_empty());
        file(&weights, r#"{"__metadata__": {"format": "pt", "ss_network_dim": "4", "ss_network_alpha": "8"}}"#);
        assert_eq!(doubts(&weights), doubts(dir.path()));
        assert!(words()[0].contains("and 1 more keys") && words().len() == 1, "{:?}", words());
    }
}
