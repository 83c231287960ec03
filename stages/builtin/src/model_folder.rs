//! A user's model folder in diffusers' layout: which of its files make the model, what is missing, and how large it is.
//!
//! A downloaded folder holds more than the model: other precisions of the same weights, single-file copies, pictures.
//! Only what would be loaded is taken. All of this is known from names, headers and configuration files; no tensor is
//! read.

use opdflow_flow::mmdit::MmditConfig;
use opdflow_flow::vae::VaeConfig;
use opdflow_flow::weights::shard_paths;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The parts that are loaded, and whether they hold weights.
const PARTS: [(&str, bool); 9] = [
    ("scheduler", false),
    ("text_encoder", true),
    ("text_encoder_2", true),
    ("text_encoder_3", true),
    ("tokenizer", false),
    ("tokenizer_2", false),
    ("tokenizer_3", false),
    ("transformer", true),
    ("vae", true),
];

/// What a file of a folder that is stored by Git LFS, but was not fetched, begins with.
const POINTER: &[u8] = b"version https://git-lfs";

/// The files that make the model, relative to the folder, sorted.
///
/// # Errors
/// Everything that is missing or plainly not what it should be, a line each.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, Vec<String>> {
    let index = match index(folder) {
        Ok(index) => index,
        Err(fault) => return Err(vec![fault]),
    };
    let (mut found, mut missing) = (vec![PathBuf::from("model_index.json")], Vec::new());
    for (part, weighty) in PARTS {
        // A part that is `[null, null]` was left out on purpose.
        if index.get(part).and_then(|v| v.get(1)).is_none_or(Value::is_null) {
            continue;
        }
        let at = folder.join(part);
        if !at.is_dir() {
            missing.push(format!("{}: this folder is missing", at.display()));
        } else if weighty {
            match weights(&at) {
                Ok(files) => found.extend(files.into_iter().filter_map(|f| relative(&f, folder))),
                Err(faults) => missing.extend(faults),
            }
        } else {
            match crate::folder::files_below(&at) {
                Ok(files) if files.is_empty() => missing.push(format!("{}: this folder is empty", at.display())),
                Ok(files) => found.extend(files.into_iter().map(|f| Path::new(part).join(f))),
                Err(e) => missing.push(format!("{e:#}")),
            }
        }
    }
    found.sort();
    if missing.is_empty() { Ok(found) } else { Err(missing) }
}

fn index(folder: &Path) -> Result<Value, String> {
    if !folder.is_dir() {
        return Err(format!("{}: there is no such folder", folder.display()));
    }
    let path = folder.join("model_index.json");
    if !path.is_file() {
        return Err(format!("{} has no model_index.json", folder.display()));
    }
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
}

/// The way from `folder` to a file in it.
pub fn relative(file: &Path, folder: &Path) -> Option<PathBuf> {
    file.strip_prefix(folder).ok().map(Path::to_owned)
}

/// Configuration and weights of one part, absolute.
fn weights(at: &Path) -> Result<Vec<PathBuf>, Vec<String>> {
    let mut missing = Vec::new();
    let config = at.join("config.json");
    if !config.is_file() {
        missing.push(format!("{}: this file is missing", config.display()));
    }
    let shards = match shard_paths(at, None) {
        Ok(shards) => shards,
        Err(e) => {
            missing.push(format!("{e:#}"));
            return Err(missing);
        }
    };
    missing.extend(shards.iter().filter_map(|shard| bytes_of(shard).err()));
    if !missing.is_empty() {
        return Err(missing);
    }
    // Of several shards, the list of them is part of the model.
    let lists = ["diffusion_pytorch_model", "model"].map(|stem| at.join(format!("{stem}.safetensors.index.json")));
    let lists = lists.into_iter().filter(|l| shards.len() > 1 && l.is_file());
    Ok(std::iter::once(config).chain(lists).chain(shards.iter().cloned()).collect())
}

/// Bytes of a file of weights.
///
/// # Errors
/// It is not there, or only a pointer to it.
pub fn bytes_of(path: &Path) -> Result<u64, String> {
    let fault = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => format!("{}: this file is missing", path.display()),
        _ => format!("{}: {e}", path.display()),
    };
    let mut head = [0; POINTER.len()];
    let mut file = File::open(path).map_err(fault)?;
    let size = file.metadata().map_err(fault)?.len();
    match file.read_exact(&mut head) {
        Ok(()) if head == POINTER => {
            Err(format!("{}: only a pointer of Git LFS, not the weights: `git lfs pull` fetches them", path.display()))
        }
        _ => Ok(size),
    }
}

/// What is known of a model before it is loaded: what the memory plan reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sizes {
    /// The transformer's configuration.
    pub transformer: MmditConfig,
    /// The autoencoder's configuration.
    pub vae: VaeConfig,
    /// Parameters of the transformer.
    pub transformer_parameters: u64,
    /// Parameters of the autoencoder.
    pub vae_parameters: u64,
    /// Parameters of the text encoders together.
    pub text_parameters: u64,
    /// Length of the text that the transformer sees, in tokens.
    pub text_tokens: u64,
}

/// Opens a file of a model by its path in the folder, if it is there.
type Open<'a> = dyn Fn(&Path) -> Option<Box<dyn Read>> + 'a;

impl Sizes {
    /// Reads configurations and headers of a folder, or nothing if it is not whole.
    #[must_use]
    pub fn of(folder: &Path) -> Option<Self> {
        let files = files(folder).ok()?;
        Self::read(&files, |relative| Some(Box::new(File::open(folder.join(relative)).ok()?)))
    }

    /// The same of a list of files, wherever they lie.
    #[must_use]
    pub fn read(files: &[PathBuf], open: impl Fn(&Path) -> Option<Box<dyn Read>>) -> Option<Self> {
        fn json<T: DeserializeOwned>(open: &Open, path: &str) -> Option<T> {
            serde_json::from_reader(open(Path::new(path))?).ok()
        }
        let count = |part: &str| -> Option<u64> {
            let own = files.iter().filter(|f| f.starts_with(part) && f.extension().is_some_and(|e| e == "safetensors"));
            own.map(|f| parameters(open(f)?)).sum()
        };
        let longest = |tokenizer: &str| -> Option<u64> {
            json::<Value>(&open, &format!("{tokenizer}/tokenizer_config.json"))?.get("model_max_length")?.as_u64()
        };
        let encoders = ["text_encoder", "text_encoder_2", "text_encoder_3"];
        Some(Self {
            transformer: json(&open, "transformer/config.json")?,
            vae: json(&open, "vae/config.json")?,
            transformer_parameters: count("transformer")?,
            vae_parameters: count("vae")?,
            text_parameters: encoders.iter().map(|part| count(part)).sum::<Option<u64>>()?,
            // Lengths as `TextEncoders` has them: the first tokenizer's, and at most 256 of T5.
            text_tokens: longest("tokenizer").unwrap_or(77) + longest("tokenizer_3").unwrap_or(256).min(256),
        })
    }
}

/// Numbers in a safetensors file, by its header.
pub fn parameters(file: Box<dyn Read>) -> Option<u64> {
    Some(shapes(file)?.into_values().map(|shape| shape.iter().product::<u64>()).sum())
}

/// Longer headers are not read.
const LONGEST: u64 = 100_000_000;

/// The shapes of a safetensors file's tensors by name, by its header.
pub fn shapes(mut file: Box<dyn Read>) -> Option<BTreeMap<String, Vec<u64>>> {
    #[derive(Deserialize)]
    struct Tensor {
        shape: Vec<u64>,
    }
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let mut header = Vec::new();
    file.take(u64::from_le_bytes(length).min(LONGEST)).read_to_end(&mut header).ok()?;
    let header: serde_json::Map<String, Value> = serde_json::from_slice(&header).ok()?;
    let tensors = header.into_iter().filter(|(name, _)| name != "__metadata__");
    tensors.map(|(name, v)| Some((name, serde_json::from_value::<Tensor>(v).ok()?.shape))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The miniature's folder with things around it that are not the model.
    fn mini() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("mini");
        crate::folder::copy(&own, dir.path(), |_| true).unwrap();
        dir
    }

    #[test]
    fn only_what_would_be_loaded_is_the_model() {
        let dir = mini();
        let before = files(dir.path()).unwrap();
        assert_eq!(before, crate::folder::files_below(dir.path()).unwrap(), "the miniature is nothing but the model");
        for extra in ["README.md", "transformer/model.fp16.safetensors", "text_encoder/flax_model.msgpack"] {
            std::fs::write(dir.path().join(extra), "x").unwrap();
        }
        assert_eq!(files(dir.path()).unwrap(), before);
    }

    #[test]
    fn everything_that_is_missing_is_named_at_once() {
        let dir = mini();
        std::fs::remove_dir_all(dir.path().join("vae")).unwrap();
        std::fs::remove_file(dir.path().join("transformer/config.json")).unwrap();
        std::fs::write(
            dir.path().join("text_encoder/model.safetensors.index.json"),
            r#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#,
        )
        .unwrap();
        std::fs::remove_file(dir.path().join("text_encoder/model.safetensors")).unwrap();
        std::fs::write(
            dir.path().join("text_encoder/model-00002-of-00002.safetensors"),
            "version https://git-lfs.example/spec/v1\noid sha256:00\nsize 5\n",
        )
        .unwrap();
        let missing = files(dir.path()).unwrap_err().join("\n");
        for part in ["/vae: ", "transformer/config.json: ", "model-00001-of-00002.safetensors: this", "git lfs pull"] {
            assert!(missing.contains(part), "no `{part}` in {missing}");
        }
        assert!(files(&dir.path().join("nothing")).unwrap_err()[0].contains("no such folder"));
        assert_eq!(Sizes::of(dir.path()), None);
    }

    #[test]
    fn sizes_come_from_headers() {
        let dir = mini();
        let sizes = Sizes::of(dir.path()).unwrap();
        assert_eq!(sizes.transformer.in_channels, sizes.vae.latent_channels);
        // The miniature is kept in f16: two bytes a parameter, and a header.
        let file = std::fs::metadata(dir.path().join("transformer/diffusion_pytorch_model.safetensors")).unwrap().len();
        assert!((sizes.transformer_parameters * 2..sizes.transformer_parameters * 2 + 100_000).contains(&file));
    }
}
