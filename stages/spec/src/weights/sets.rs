//! The files that a folder of weights consists of.

use super::foreign;
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The names under which diffusers and transformers keep weights.
const STEMS: [&str; 2] = ["diffusion_pytorch_model", "model"];

/// The files behind `what`: a file, an index, or a folder. In a folder `variant` chooses among several sets
/// (`model.fp16.safetensors`); where a part comes without it, the plain set is meant, as in diffusers.
///
/// # Errors
/// There are none, several of which none is meant, or not all of a set.
pub fn shard_paths(what: &Path, variant: Option<&str>) -> Result<Vec<PathBuf>> {
    if what.is_dir() {
        return match set_in(what, variant)? {
            Set::File(path) => shard_paths(&path, None),
            Set::Shards(paths) => Ok(paths),
        };
    }
    if what.extension().is_none_or(|e| e != "json") {
        return Ok(vec![what.to_path_buf()]);
    }
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Index = crate::config::read_json(what)?;
    let files: BTreeSet<_> = index.weight_map.into_values().collect();
    ensure!(!files.is_empty(), "{}: names no files", what.display());
    let folder = what.parent().unwrap_or(Path::new("."));
    for f in &files {
        // An index names its neighbours; anything else would read files that the caller did not name.
        ensure!(
            Path::new(f).components().count() == 1 && !f.contains(".."),
            "{}: shard `{f}` is not a plain file name",
            what.display()
        );
    }
    Ok(files.into_iter().map(|f| folder.join(f)).collect())
}

/// The list of shards of the set in a folder that is meant, if it has one.
#[must_use]
pub fn index_of(folder: &Path, variant: Option<&str>) -> Option<PathBuf> {
    match set_in(folder, variant) {
        Ok(Set::File(path)) if path.extension().is_some_and(|e| e == "json") => Some(path),
        _ => None,
    }
}

/// A set of weights.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Set {
    /// A whole file, or an index.
    File(PathBuf),
    /// Shards without an index, all that their names say there are.
    Shards(Vec<PathBuf>),
}

/// The one set of weights in a folder that is meant.
fn set_in(folder: &Path, variant: Option<&str>) -> Result<Set> {
    let (mut sets, mut names) = (BTreeMap::<String, Set>::new(), Vec::new());
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    for name in &names {
        if let Some(found) = variant_of(name) {
            // Where both are there the whole file is taken: it needs no index.
            let index = matches!(sets.get(found), Some(Set::File(p)) if p.extension().is_some_and(|e| e == "json"));
            if index || !sets.contains_key(found) {
                sets.insert(found.to_owned(), Set::File(folder.join(name)));
            }
        }
    }
    for name in &names {
        if let Some((found, stem, total)) = shard_of(name).filter(|(found, ..)| !sets.contains_key(*found)) {
            let all: Vec<&String> = names.iter().filter(|n| shard_of(n) == Some((found, stem, total))).collect();
            ensure!(
                all.len() == total,
                "{}: of {total} shards like {name} there are {}, and no index says which tensors are missing; fetch all of them",
                folder.display(),
                all.len()
            );
            sets.insert(found.to_owned(), Set::Shards(all.into_iter().map(|n| folder.join(n)).collect()));
        }
    }
    let others: Vec<&str> = sets.keys().map(String::as_str).filter(|v| !v.is_empty()).collect();
    let wanted = match (variant, &others[..]) {
        (Some(v), _) if sets.contains_key(v) => v,
        _ if sets.contains_key("") => "",
        (None, [one]) => one,
        (_, []) => match foreign::among(folder, &names) {
            Some(what) => bail!("{}: no safetensors weights here; {what}", folder.display()),
            None => bail!(
                "{}: no weights here (looked for diffusion_pytorch_model.safetensors, model.safetensors and their .index.json)",
                folder.display()
            ),
        },
        (Some(v), _) => {
            bail!("{}: no weights of variant `{v}` here, there are {}", folder.display(), others.join(", "))
        }
        (None, _) => {
            bail!("{}: weights of several variants here, name one of {}", folder.display(), others.join(", "))
        }
    };
    Ok(sets[wanted].clone())
}

/// The variant of a set of weights by the name of its file or index, empty for the plain one; nothing for a shard or
/// any other file.
fn variant_of(name: &str) -> Option<&str> {
    let rest = STEMS.iter().find_map(|stem| name.strip_prefix(stem)?.strip_prefix('.'))?;
    if let Some(rest) = rest.strip_prefix("safetensors.index.") {
        return if rest == "json" { Some("") } else { rest.strip_suffix(".json") };
    }
    if let Some(variant) = rest.strip_suffix(".safetensors.index.json") {
        return Some(variant);
    }
    let variant = if rest == "safetensors" { "" } else { rest.strip_suffix(".safetensors")? };
    let shard = variant.rsplit_once("-of-").is_some_and(|(_, n)| n.bytes().all(|b| b.is_ascii_digit()));
    (!shard && !variant.contains("-of-")).then_some(variant)
}

/// Variant, stem and number of a set by the name of one of its shards: `model-00001-of-00002.safetensors`, with a variant
/// `model.fp16-00001-of-00002.safetensors` or, as it was once written, `model-00001-of-00002.fp16.safetensors`.
fn shard_of(name: &str) -> Option<(&str, &str, usize)> {
    let (stem, rest) = STEMS.iter().find_map(|stem| Some((*stem, name.strip_prefix(stem)?)))?;
    let rest = rest.strip_suffix(".safetensors")?;
    let (before, after) = rest.split_once("-of-")?;
    let (front, number) = before.rsplit_once('-')?;
    number.parse::<usize>().ok()?;
    let (total, back) = after.split_once('.').unwrap_or((after, ""));
    let front = front.strip_prefix('.').unwrap_or(front);
    if !front.is_empty() && !back.is_empty() {
        return None;
    }
    Some((if front.is_empty() { back } else { front }, stem, total.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{Set, set_in, shard_of, shard_paths, variant_of};

    #[test]
    fn names_of_sets() {
        for (name, variant) in [
            ("model.safetensors", Some("")),
            ("diffusion_pytorch_model.fp16.safetensors", Some("fp16")),
            ("model.safetensors.index.json", Some("")),
            ("model.safetensors.index.fp16.json", Some("fp16")),
            ("model-00001-of-00002.safetensors", None),
            ("model.fp16-00001-of-00002.safetensors", None),
            ("model-00001-of-00002.fp16.safetensors", None),
            ("model.fp16.safetensors.index.json", Some("fp16")),
            ("modelling.safetensors", None),
            ("config.json", None),
        ] {
            assert_eq!(variant_of(name), variant, "{name}");
        }
    }

    #[test]
    fn the_set_that_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        let set = |variant| match set_in(dir.path(), variant) {
            Ok(Set::File(path)) => path.file_name().unwrap().to_str().unwrap().to_owned(),
            Ok(Set::Shards(paths)) => format!("{} shards", paths.len()),
            Err(e) => e.to_string(),
        };
        assert!(set(None).contains("no weights here"));
        for name in ["model.bf16.safetensors", "model.safetensors.index.fp16.json"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert!(set(None).contains("several variants here, name one of bf16, fp16"), "{}", set(None));
        assert!(set(Some("x")).contains("no weights of variant `x` here, there are bf16, fp16"), "{}", set(Some("x")));
        assert_eq!(set(Some("fp16")), "model.safetensors.index.fp16.json");
        std::fs::write(dir.path().join("model.safetensors"), "").unwrap();
        assert_eq!(
            [set(None), set(Some("x")), set(Some("bf16"))],
            ["model.safetensors", "model.safetensors", "model.bf16.safetensors"]
        );
    }

    #[test]
    fn shards_without_an_index() {
        assert_eq!(shard_of("model-00001-of-00003.safetensors"), Some(("", "model", 3)));
        assert_eq!(shard_of("model.fp16-00001-of-00003.safetensors"), Some(("fp16", "model", 3)));
        assert_eq!(shard_of("model-00001-of-00003.fp16.safetensors"), Some(("fp16", "model", 3)));
        assert_eq!(shard_of("model.safetensors"), None);
        let dir = tempfile::tempdir().unwrap();
        let touch = |name: &str| std::fs::write(dir.path().join(name), "").unwrap();
        touch("model-00001-of-00002.safetensors");
        let error = shard_paths(dir.path(), None).unwrap_err().to_string();
        assert!(error.contains("of 2 shards like model-00001-of-00002.safetensors there are 1"), "{error}");
        touch("model-00002-of-00002.safetensors");
        assert_eq!(shard_paths(dir.path(), None).unwrap().len(), 2);
    }

    #[test]
    fn other_forms_are_named_with_the_way_out() {
        for (name, bytes, says) in [
            ("pytorch_model.bin", &b"PK\x03\x04"[..], "save_file(torch.load(FILE, weights_only=True)"),
            ("model.ckpt", b"\x80\x02", "a pickle"),
            ("m.gguf", b"GGUF", "a GGUF file"),
            ("flax_model.msgpack", b"", "another framework"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(name), bytes).unwrap();
            let error = shard_paths(dir.path(), None).unwrap_err().to_string();
            assert!(error.contains("no safetensors weights here") && error.contains(says), "{name}: {error}");
            // The same under a name that promises better.
            if !bytes.is_empty() {
                let path = dir.path().join("model.safetensors");
                std::fs::write(&path, bytes).unwrap();
                let error = super::super::Shard::open(path).err().unwrap().to_string();
                assert!(error.contains("model.safetensors: a "), "{error}");
            }
        }
        let dir = tempfile::tempdir().unwrap();
        for (text, says) in [
            ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
            ("<!DOCTYPE html>", "login"),
        ] {
            let path = dir.path().join("model.safetensors");
            std::fs::write(&path, text).unwrap();
            let error = super::super::Shard::open(path).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
