//! One safetensors file, read tensor by tensor, and the files that a folder of weights consists of.

use super::scan::{self, Most};
use super::{WeightsError, foreign};
use anyhow::{Context as _, Result, bail, ensure};
use safetensors::tensor::{Dtype, Metadata};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// Bytes that are read and looked at together: whole numbers of every dtype, and less than a core's cache.
const PIECE: usize = 1 << 20;

/// An open file whose header was read.
pub(super) struct Shard {
    pub(super) path: PathBuf,
    file: File,
    data_start: u64,
    pub(super) header: Metadata,
}

impl Shard {
    /// Reads the header and holds it against the file's length.
    pub(super) fn open(path: PathBuf) -> Result<Shard> {
        let name = path.display().to_string();
        let bad = |reason: String| WeightsError::Header { file: name.clone(), reason };
        let mut file = opdflow_io::file::open(&path).with_context(|| format!("cannot open {name}"))?;
        let found = file.metadata()?.len();
        let mut head = Vec::new();
        file.by_ref().take(64).read_to_end(&mut head).with_context(|| format!("cannot read {name}"))?;
        if let Some(what) = foreign::kind(&head) {
            return Err(WeightsError::Foreign { file: name, what: what.to_owned() }.into());
        }
        file.rewind().with_context(|| format!("cannot read {name}"))?;
        let mut word = [0u8; 8];
        file.read_exact(&mut word).map_err(|_| bad(format!("only {found} bytes long")))?;
        let len = u64::from_le_bytes(word);
        if len > 100_000_000 {
            return Err(bad("it does not begin with the length of a header".to_owned()).into());
        }
        if len > found - 8 {
            return Err(WeightsError::Length { file: name, expected: len + 8, found }.into());
        }
        let mut json = vec![0u8; len as usize];
        file.read_exact(&mut json).with_context(|| format!("cannot read {name}"))?;
        let header: Metadata = serde_json::from_slice(&json).map_err(|e| bad(e.to_string()))?;
        // Reading the header has checked that the tensors lie without gaps and have the bytes of their shapes.
        let expected = (8 + len).saturating_add(header.data_len() as u64);
        if expected != found {
            return Err(WeightsError::Length { file: name, expected, found }.into());
        }
        Ok(Shard { path, file, data_start: 8 + len, header })
    }

    /// Fails at the first tensor, by name, that `needed` accepts and whose number format is not read here.
    pub(super) fn check_dtypes(&self, needed: impl Fn(&str) -> bool) -> Result<()> {
        let tensors: BTreeMap<_, _> = self.header.tensors().into_iter().collect();
        match tensors.into_iter().find(|(n, info)| kind_of(info.dtype).is_none() && needed(n)) {
            Some((tensor, info)) => {
                let file = self.path.display().to_string();
                Err(WeightsError::Dtype { file, tensor, found: format!("{:?}", info.dtype) }.into())
            }
            None => Ok(()),
        }
    }

    /// One tensor, on `device`; floats as `kind`. `shape` is what it must have.
    pub(super) fn read(&self, name: &str, shape: Option<&[i64]>, device: Device, kind: Kind) -> Result<Tensor> {
        let file = self.path.display().to_string();
        let tensor = name.to_string();
        let Some(info) = self.header.info(name) else {
            let expected = shape.unwrap_or_default().to_vec();
            return Err(WeightsError::Missing { file, tensor, expected, hint: String::new() }.into());
        };
        let found: Vec<i64> = info.shape.iter().map(|&d| d as i64).collect();
        if let Some(expected) = shape.filter(|s| *s != found) {
            return Err(WeightsError::Shape { file, tensor, found, expected: expected.to_vec() }.into());
        }
        let Some(own) = kind_of(info.dtype) else {
            return Err(WeightsError::Dtype { file, tensor, found: format!("{:?}", info.dtype) }.into());
        };
        let (start, end) = info.data_offsets;
        let mut t = Tensor::f_empty(&found, (own, Device::Cpu))?;
        let read = self.fill(&mut t, end - start, self.data_start + start as u64, info.dtype);
        let most = read.with_context(|| format!("cannot read tensor `{name}` of {file}"))?;
        if !most.is_finite(info.dtype) {
            return Err(self.broken(name));
        }
        let largest = most.size(info.dtype);
        if kind != own && dtype_of(kind).is_some_and(|wanted| largest >= scan::room(wanted)) && t.is_floating_point() {
            return Err(WeightsError::NoRoom { file, tensor, largest, kind }.into());
        }
        // To the device as the file has it: a half is half the way.
        let t = t.to_device(device);
        Ok(if t.is_floating_point() { t.to_kind(kind) } else { t })
    }

    /// Looks at every number of the file, a piece at a time.
    pub(super) fn check_numbers(&self) -> Result<()> {
        let mut piece = Vec::new();
        for (name, info) in self.header.tensors() {
            let (start, end) = info.data_offsets;
            for from in (start..end).step_by(PIECE) {
                piece.resize(PIECE.min(end - from), 0);
                self.file
                    .read_exact_at(&mut piece, self.data_start + from as u64)
                    .with_context(|| format!("cannot read tensor `{name}` of {}", self.path.display()))?;
                if !scan::scan(info.dtype, &piece).is_finite(info.dtype) {
                    return Err(self.broken(&name));
                }
            }
        }
        Ok(())
    }

    /// The error of a tensor that holds something not finite: what, and where the first one stands.
    fn broken(&self, name: &str) -> anyhow::Error {
        let file = self.path.display().to_string();
        let (mut found, mut place) = (f64::NAN, Vec::new());
        if let Some(info) = self.header.info(name) {
            let (start, end) = info.data_offsets;
            let mut bytes = vec![0; end - start];
            let read = self.file.read_exact_at(&mut bytes, self.data_start + start as u64);
            if let Some((mut at, value)) = read.ok().and_then(|()| scan::broken(info.dtype, &bytes)) {
                found = value;
                for &side in info.shape.iter().rev() {
                    place.push((at % side.max(1)) as i64);
                    at /= side.max(1);
                }
                place.reverse();
            }
        }
        WeightsError::NotFinite { file, tensor: name.to_owned(), found, place }.into()
    }

    /// Reads `length` bytes at `offset` straight into the storage of `t`, which has just that many: no copy on the way.
    /// Each piece is looked at while it is still near the processor.
    fn fill(&self, t: &mut Tensor, length: usize, offset: u64, dtype: Dtype) -> io::Result<Most> {
        let start = t.data_ptr().cast::<u8>();
        let mut most = Most::default();
        for from in (0..length).step_by(PIECE) {
            let count = PIECE.min(length - from);
            // SAFETY: `t` is contiguous, on the CPU, and of `length` bytes by its shape and kind, as the header's check
            // has it; `from + count` is not more.
            let piece = unsafe { start.add(from) };
            self.read_into(piece, count, offset + from as u64)?;
            // SAFETY: as above, and these bytes have just been written.
            most = most.or(scan::scan(dtype, unsafe { std::slice::from_raw_parts(piece, count) }));
        }
        Ok(most)
    }

    /// Reads `length` bytes at `offset` to `start`, where there is room for them.
    fn read_into(&self, start: *mut u8, length: usize, offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < length {
            let at = i64::try_from(offset + done as u64).map_err(io::Error::other)?;
            // SAFETY: there is room for `length` bytes, and `done` is less. Raw, because the storage is not initialised
            // and no slice may show it.
            let n = unsafe { libc::pread(self.file.as_raw_fd(), start.add(done).cast(), length - done, at) };
            match usize::try_from(n) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => done += n,
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }
}

/// The names under which diffusers and transformers keep weights.
const STEMS: [&str; 2] = ["diffusion_pytorch_model", "model"];

/// The files behind `what`: a file, an index, or a folder. In a folder `variant` chooses among several sets
/// (`model.fp16.safetensors`); where a part comes without it, the plain set is meant, as in diffusers.
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

/// The kind of a dtype that is read here.
pub(super) fn kind_of(dtype: Dtype) -> Option<Kind> {
    Some(match dtype {
        Dtype::F64 => Kind::Double,
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::I16 => Kind::Int16,
        Dtype::I8 => Kind::Int8,
        Dtype::U8 => Kind::Uint8,
        Dtype::BOOL => Kind::Bool,
        _ => return None,
    })
}

/// The dtype of a kind that is written here.
pub(super) fn dtype_of(kind: Kind) -> Option<Dtype> {
    use Dtype::*;
    [F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL].into_iter().find(|d| kind_of(*d) == Some(kind))
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
                let error = super::Shard::open(path).err().unwrap().to_string();
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
            let error = super::Shard::open(path).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
