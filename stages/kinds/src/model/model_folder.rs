//! A user's model, a folder in diffusers' layout or a single file: which files make it, what is missing, and how large it is.
//!
//! A downloaded folder holds more than the model: other precisions of the same weights, single-file copies, images.
//! Only what would be loaded is taken. All of this is known from names, headers and configuration files; no tensor is
//! read.

use opdflow_io::file;
use opdflow_spec::base_files::{BaseFiles, SINGLE_FILE, SingleFile};
use opdflow_spec::family::{Architecture, Configs, Family, Part, Role};
use opdflow_spec::weights::{index_of, shard_paths};
use opdflow_spec::{families, weights as flow_weights};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What a file of a folder that is stored by Git LFS, but was not fetched, begins with.
const POINTER: &[u8] = b"version https://git-lfs";

/// A file of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Its path in the model's folder, as a stage keeps it.
    pub name: PathBuf,
    /// Where it lies.
    pub path: PathBuf,
}

/// The files that make the model at `source`, a folder or a single file, sorted by name.
///
/// # Errors
/// Everything that is missing or plainly not what it should be, a line each.
pub fn files(source: &Path) -> Result<Vec<Own>, Vec<String>> {
    files_of(source, None, false)
}

/// The same for the weights of a variant (`fp16` for `model.fp16.safetensors`, where a part has them), and, with `drop_t5`,
/// without the parts that the family can do without.
///
/// # Errors
/// As [`files`].
pub fn files_of(source: &Path, variant: Option<&str>, drop_t5: bool) -> Result<Vec<Own>, Vec<String>> {
    if !file::is_named(source) {
        return Err(vec![format!("{}: there is no such file or folder", source.display())]);
    }
    let mut base = BaseFiles::of(source).map_err(|e| vec![format!("{e:#}")])?;
    let family = base.family().map_err(|e| vec![format!("{e:#}")])?;
    let folder = base.folder.clone();
    let own = |name: PathBuf| Own { path: folder.join(&name), name };
    let (mut found, mut missing, mut single) = (Vec::new(), Vec::new(), None);
    if file::is_named(&folder.join("model_index.json")) {
        found.push(own(PathBuf::from("model_index.json")));
    }
    for known in family.parts().iter().filter(|part| !(drop_t5 && part.droppable)) {
        let (part, weighty) = (known.name, known.has_weights());
        // A part that is `[null, null]` was left out on purpose.
        if base.index.get(part).and_then(|v| v.get(1)).is_none_or(Value::is_null) {
            continue;
        }
        let at = folder.join(part);
        if weighty && (base.named || shard_paths(&at, variant).is_err()) {
            if let Err(e) = base.look_for_single() {
                missing.push(format!("{e:#}"));
            }
            if let Some(file) = base.single.as_ref().filter(|f| f.has(part)) {
                missing.extend(file.check(part).err().map(|e| format!("{e:#}")));
                single = Some(file.path().to_owned());
                let config = own(Path::new(part).join("config.json"));
                if file::is_named(&config.path) {
                    missing.extend(absent(&config.path).err());
                    found.push(config);
                }
                continue;
            }
        }
        if !at.is_dir() {
            // What all models have, and no single file has a folder for.
            if known.role != Role::Scheduler || base.single.is_none() {
                let beside = match &base.single {
                    None => "",
                    Some(_) if known.role == Role::Tokenizer => {
                        ", and a single file holds no tokenizers: put it beside the file"
                    }
                    Some(_) => ", and the single file has no such part",
                };
                missing.push(format!("{}: this folder is missing{beside}", at.display()));
            }
        } else if weighty {
            match weights(&at, variant) {
                Ok(files) => found.extend(files.into_iter().filter_map(|f| Some(own(relative(&f, &folder)?)))),
                Err(faults) => missing.extend(faults),
            }
        } else {
            match crate::model::folder::files_below(&at) {
                Ok(files) if files.is_empty() => missing.push(format!("{}: this folder is empty", at.display())),
                Ok(files) => found.extend(files.into_iter().map(|f| own(Path::new(part).join(f)))),
                Err(e) => missing.push(format!("{e:#}")),
            }
        }
    }
    found.extend(single.map(|path| Own { name: PathBuf::from(SINGLE_FILE), path }));
    found.sort_by(|a, b| a.name.cmp(&b.name));
    if missing.is_empty() { Ok(found) } else { Err(missing) }
}

/// Components that the model's index names and nothing loads, sorted. One that is `[null, null]` is not there.
#[must_use]
pub fn unread(source: &Path) -> Vec<String> {
    let Ok(base) = BaseFiles::of(source) else { return Vec::new() };
    let Ok(family) = base.family() else { return Vec::new() };
    let Value::Object(index) = base.index else { return Vec::new() };
    let there = |value: &Value| value.get(1).is_some_and(|class| !class.is_null());
    let known = |name: &str| family.parts().iter().any(|part| part.name == name);
    index.into_iter().filter(|(name, value)| there(value) && !known(name)).map(|(name, _)| name).collect()
}

/// The way from `folder` to a file in it.
pub fn relative(file: &Path, folder: &Path) -> Option<PathBuf> {
    file.strip_prefix(folder).ok().map(Path::to_owned)
}

/// Configuration and weights of one part, absolute.
fn weights(at: &Path, variant: Option<&str>) -> Result<Vec<PathBuf>, Vec<String>> {
    let mut missing = Vec::new();
    let config = at.join("config.json");
    missing.extend(absent(&config).err());
    let shards = match shard_paths(at, variant) {
        Ok(shards) => shards,
        Err(e) => {
            missing.push(format!("{e:#}"));
            return Err(missing);
        }
    };
    // Whole, a safetensors file, and in number formats that are read: all of it shows in the header.
    missing.extend(shards.iter().filter_map(|shard| {
        bytes_of(shard).err().or_else(|| flow_weights::check(shard, |_| true).err().map(|e| format!("{e:#}")))
    }));
    if !missing.is_empty() {
        return Err(missing);
    }
    // Of several shards, the list of them is part of the model.
    Ok(std::iter::once(config).chain(index_of(at, variant)).chain(shards.iter().cloned()).collect())
}

/// Whether a file of a model is there, and a regular one.
fn absent(path: &Path) -> Result<(), String> {
    file::regular(path).map(drop).map_err(|e| fault(path, &e))
}

fn fault(path: &Path, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound if !file::is_named(path) => format!("{}: this file is missing", path.display()),
        // A download that was broken off leaves links to files that are not there yet.
        std::io::ErrorKind::NotFound => format!("{}: {error}; download it again", path.display()),
        _ => format!("{}: {error}", path.display()),
    }
}

/// Bytes of a file of weights.
///
/// # Errors
/// It is not there, no regular file, or only a pointer to it.
pub fn bytes_of(path: &Path) -> Result<u64, String> {
    let fault = |e: std::io::Error| fault(path, &e);
    let mut head = [0; POINTER.len()];
    let mut file = file::open(path).map_err(fault)?;
    let size = file.metadata().map_err(fault)?.len();
    match file.read_exact(&mut head) {
        Ok(()) if head == POINTER => {
            Err(format!("{}: only a pointer of Git LFS, not the weights: `git lfs pull` fetches them", path.display()))
        }
        _ => Ok(size),
    }
}

/// Bytes of the files that make the model, or nothing if it is not whole.
#[must_use]
pub fn bytes(source: &Path) -> Option<u64> {
    files(source).ok()?.iter().map(|f| Some(std::fs::metadata(&f.path).ok()?.len())).sum()
}

/// The parts that the model at `source` can do without.
#[must_use]
pub fn droppable(source: &Path) -> Vec<Part> {
    let family = BaseFiles::of(source).and_then(|base| base.family());
    let parts = family.map_or(&[][..], |family| family.parts());
    parts.iter().filter(|part| part.droppable).copied().collect()
}

/// What is known of a model before it is loaded: what the memory plan reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sizes {
    /// The family's class.
    pub family: String,
    /// The configurations of network, autoencoder and noise levels, by the name of the part.
    pub configs: BTreeMap<String, Value>,
    /// Parameters of each part that has weights.
    pub parameters: BTreeMap<String, u64>,
    /// Length of the text that the network sees, in tokens.
    pub text_tokens: u64,
}

/// Opens a file of a model by its path in the folder, if it is there.
type Open<'a> = dyn Fn(&Path) -> Option<Box<dyn Read>> + 'a;

impl Sizes {
    /// Reads configurations and headers of a folder or a single file, or nothing if it is not whole.
    #[must_use]
    pub fn of(source: &Path) -> Option<Self> {
        let files = files(source).ok()?;
        let at = |name: &Path| files.iter().find(|f| f.name == name).map(|f| &f.path);
        let single = at(Path::new(SINGLE_FILE)).and_then(|path| families::single(path).ok()?);
        let names: Vec<PathBuf> = files.iter().map(|f| f.name.clone()).collect();
        let open = |name: &Path| Some(Box::new(file::open(at(name)?).ok()?) as Box<dyn Read>);
        // Beside a single file there may be no index.
        let family = single.as_ref().map(|file| file.family()).or_else(|| BaseFiles::of(source).ok()?.family().ok())?;
        Self::read_with(family, &names, &open, single.as_deref())
    }

    /// The same of a list of files, wherever they lie.
    #[must_use]
    pub fn read(files: &[PathBuf], open: impl Fn(&Path) -> Option<Box<dyn Read>>) -> Option<Self> {
        let index: Value = json(&open, "model_index.json")?;
        Self::read_with(families::of_index(&index, "model_index.json").ok()?, files, &open, None)
    }

    fn read_with(family: &dyn Family, files: &[PathBuf], open: &Open, single: Option<&dyn SingleFile>) -> Option<Self> {
        let config = |part: &Part| -> Option<Value> {
            let own = json(open, &format!("{}/{}", part.name, part.config_file()?));
            own.or_else(|| single?.config(part.name).ok())
        };
        let count = |part: &Part| -> Option<u64> {
            let kept = |f: &&PathBuf| f.starts_with(part.name) && f.extension().is_some_and(|e| e == "safetensors");
            let own = files.iter().filter(kept).map(|f| parameters(open(f)?)).sum::<Option<u64>>()?;
            let in_single = single.map_or(0, |file| file.parameters(part.name));
            Some(if own > 0 { own } else { in_single })
        };
        let longest = |tokenizer: &str| -> Option<u64> {
            json(open, &format!("{tokenizer}/tokenizer_config.json"))?.get("model_max_length")?.as_u64()
        };
        let (mut configs, mut counts) = (BTreeMap::new(), BTreeMap::new());
        for part in family.parts() {
            let found = match part.role {
                Role::Network | Role::Autoencoder => Some(config(part)?),
                Role::Scheduler => config(part),
                Role::Encoder | Role::Tokenizer => None,
            };
            configs.extend(found.map(|value| (part.name.to_owned(), value)));
            if part.has_weights() {
                counts.insert(part.name.to_owned(), count(part)?);
            }
        }
        let configs = Configs(configs);
        let text_tokens = family.text_tokens(&configs, &longest);
        Some(Self { family: family.class().to_owned(), configs: configs.0, parameters: counts, text_tokens })
    }

    /// The model by its configurations, if they are sound.
    #[must_use]
    pub fn architecture(&self) -> Option<Box<dyn Architecture>> {
        families::of_class(&self.family)?.architecture(&Configs(self.configs.clone())).ok()
    }

    /// Parameters of all parts with a role.
    #[must_use]
    pub fn parameters(&self, role: Role) -> u64 {
        let parts = families::of_class(&self.family).map_or(&[][..], |family| family.parts());
        let own = |part: &&Part| part.role == role;
        parts.iter().filter(own).filter_map(|part| self.parameters.get(part.name)).sum()
    }
}

fn json(open: &Open, path: &str) -> Option<Value> {
    serde_json::from_reader(open(Path::new(path))?).ok()
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
    // As much as a reader of the file accepts.
    let length = Some(u64::from_le_bytes(length)).filter(|n| *n <= LONGEST)?;
    file.take(length).read_to_end(&mut header).ok()?;
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
        crate::model::folder::copy(&own, dir.path(), |_| true).unwrap();
        dir
    }

    #[test]
    fn only_what_would_be_loaded_is_the_model() {
        let dir = mini();
        let before = files(dir.path()).unwrap();
        let names: Vec<_> = before.iter().map(|f| f.name.clone()).collect();
        assert_eq!(
            names,
            crate::model::folder::files_below(dir.path()).unwrap(),
            "the miniature is nothing but the model"
        );
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
        assert!(files(&dir.path().join("nothing")).unwrap_err()[0].contains("no such file or folder"));
        assert_eq!(Sizes::of(dir.path()), None);
    }

    #[test]
    fn sizes_come_from_headers() {
        let dir = mini();
        let sizes = Sizes::of(dir.path()).unwrap();
        assert_eq!(sizes.configs["transformer"]["in_channels"], sizes.configs["vae"]["latent_channels"]);
        let model = sizes.architecture().unwrap();
        assert_eq!(model.latent(64, 64).unwrap()[0], sizes.configs["vae"]["latent_channels"].as_i64().unwrap());
        // The miniature is kept in f16: two bytes a parameter, and a header.
        let file = std::fs::metadata(dir.path().join("transformer/diffusion_pytorch_model.safetensors")).unwrap().len();
        let parameters = sizes.parameters(Role::Network);
        assert!(parameters > 0 && (parameters * 2..parameters * 2 + 100_000).contains(&file));
        assert!(sizes.parameters(Role::Encoder) > parameters.min(1) && sizes.parameters(Role::Tokenizer) == 0);
    }

    #[test]
    fn a_folder_of_another_family_is_refused_with_those_that_are_known() {
        let dir = mini();
        std::fs::write(dir.path().join("model_index.json"), r#"{"_class_name": "PixArtSigmaPipeline"}"#).unwrap();
        let missing = files(dir.path()).unwrap_err().join("\n");
        for part in
            ["model_index.json: `_class_name` is PixArtSigmaPipeline", "StableDiffusion3Pipeline (Stable Diffusion 3"]
        {
            assert!(missing.contains(part), "no `{part}` in {missing}");
        }
        assert_eq!((Sizes::of(dir.path()), unread(dir.path())), (None, Vec::new()));
    }
}
