//! A named set of tensors: read from safetensors files, or freshly made from a seed.
//!
//! A model asks for its tensors through a [`Scope`] by the names that the diffusers or transformers checkpoint uses, so
//! loading needs no rename table. Files are read lazily, each tensor straight into its place, so the peak is one tensor above the model.

mod layout;
mod shard;
mod write;

pub use opdflow_spec::weights::*;

use crate::finite::{NotFinite, is_finite};
use crate::init::{self, Init};
use anyhow::{Context, Result};
use safetensors::tensor::Dtype;
use shard::{dtype_of, kind_of};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};
pub use write::save_tensors_with;

enum Source {
    Files { what: PathBuf, shards: Vec<Shard>, home: HashMap<String, usize>, layout: Box<dyn Fn(&str) -> Place + Send> },
    Fresh { seed: u64, dense: bool },
}

/// A named set of tensors. Send, not Sync, as tensors are.
pub struct Weights {
    source: Source,
    device: Device,
    kind: Kind,
    taken: RefCell<BTreeMap<String, Tensor>>,
}

impl Weights {
    /// Opens one safetensors file, a `*.safetensors.index.json`, or a folder that holds either under one of the names
    /// that diffusers and transformers use. Float tensors are turned into `kind` as they are taken, without gradients.
    pub fn load(path: impl AsRef<Path>, device: Device, kind: Kind) -> Result<Weights> {
        Weights::load_variant(path, None, device, kind)
    }

    /// As [`Weights::load`], from the set of this name where a folder holds several: `fp16` for `model.fp16.safetensors`.
    pub fn load_variant(path: impl AsRef<Path>, variant: Option<&str>, device: Device, kind: Kind) -> Result<Weights> {
        let what = path.as_ref().to_path_buf();
        let shards = shard_paths(&what, variant)?.into_iter().map(Shard::open).collect::<Result<Vec<_>>>()?;
        let mut home = HashMap::new();
        for (i, shard) in shards.iter().enumerate() {
            for name in shard.header().tensors().into_keys() {
                home.insert(name, i);
            }
        }
        let source = Source::Files { what, shards, home, layout: Box::new(|name| Place::whole(name)) };
        Ok(Weights { source, device, kind, taken: RefCell::default() })
    }

    /// The same files for a model that asks by the names of another layout. Fresh sets stay as they are.
    pub fn with_layout(mut self, other: impl Fn(&str) -> Place + Send + 'static) -> Weights {
        if let Source::Files { layout, .. } = &mut self.source {
            *layout = Box::new(other);
        }
        self
    }

    /// Gives `name` a tensor that the files need not hold.
    pub fn put(&self, name: &str, t: Tensor) {
        self.taken.borrow_mut().insert(name.to_owned(), t.to_device(self.device).to_kind(self.kind));
    }

    /// The names in the files, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let home = if let Source::Files { home, .. } = &self.source { Some(home) } else { None };
        home.into_iter().flat_map(|h| h.keys().map(String::as_str))
    }

    /// An empty set whose tensors are made when a model asks for them: f32, trainable, each a function of `seed` and its
    /// own name alone, so that adding a module changes no other module's start.
    pub fn new_random(seed: u64, device: Device) -> Weights {
        Weights { source: Source::Fresh { seed, dense: false }, device, kind: Kind::Float, taken: RefCell::default() }
    }

    /// As [`Weights::new_random`], but where a model would start from zero (gates, biases, the output layer) small
    /// normal noise is used: nothing is switched off, as after training. For tests and benchmarks.
    pub fn new_dense(seed: u64, device: Device) -> Weights {
        Weights { source: Source::Fresh { seed, dense: true }, device, kind: Kind::Float, taken: RefCell::default() }
    }

    /// The scope without a prefix.
    pub fn root(&self) -> Scope<'_> {
        Scope { weights: self, path: String::new() }
    }

    /// The tensors taken by models so far, sorted by name (the same storage that the models use).
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        self.taken.borrow().iter().map(|(n, t)| (n.clone(), t.shallow_clone())).collect()
    }

    /// Those of [`Weights::tensors`] that take gradients, sorted by name.
    pub fn trainable(&self) -> Vec<(String, Tensor)> {
        self.tensors().into_iter().filter(|(_, t)| t.requires_grad()).collect()
    }

    /// Turns gradients on or off for all float tensors whose names are accepted.
    pub fn set_trainable(&self, on: bool, accept: impl Fn(&str) -> bool) {
        for (name, t) in self.taken.borrow().iter() {
            if t.is_floating_point() && accept(name) {
                let _ = t.set_requires_grad(on);
            }
        }
    }

    /// The names in the files that no module has asked for, sorted.
    pub fn unused(&self) -> Vec<String> {
        match &self.source {
            Source::Fresh { .. } => Vec::new(),
            Source::Files { home, layout, .. } => {
                let taken: BTreeSet<String> = self.taken.borrow().keys().map(|n| layout(n).name).collect();
                home.keys().filter(|n| !taken.contains(*n)).cloned().collect::<BTreeSet<_>>().into_iter().collect()
            }
        }
    }

    /// Fails when the files hold tensors that no module asked for, other than those that `ignore` accepts.
    pub fn expect_all_used(&self, ignore: impl Fn(&str) -> bool) -> Result<()> {
        let names: Vec<_> = self.unused().into_iter().filter(|n| !ignore(n)).collect();
        if names.is_empty() {
            return Ok(());
        }
        Err(WeightsError::Unexpected { file: self.what(), names }.into())
    }

    /// Writes the taken tensors to one safetensors file; floats as `kind`. The same tensors give the same bytes.
    pub fn save(&self, path: impl AsRef<Path>, kind: Kind) -> Result<()> {
        save_tensors(path, &self.tensors(), kind)
    }

    fn what(&self) -> String {
        match &self.source {
            // A file where there is one to name; of several shards none is to blame for what they all lack.
            Source::Files { shards, .. } if shards.len() == 1 => shards[0].path().display().to_string(),
            Source::Files { what, .. } => what.display().to_string(),
            Source::Fresh { .. } => "fresh weights".into(),
        }
    }

    fn take(&self, name: String, shape: &[i64], init: Init) -> Result<Tensor> {
        if let Some(t) = self.taken.borrow().get(&name) {
            return Ok(t.shallow_clone());
        }
        let t = match &self.source {
            Source::Fresh { seed, dense } => {
                let init = if *dense { init.dense() } else { init };
                init::make(init, shape, *seed, &name).to_device(self.device).set_requires_grad(true)
            }
            Source::Files { .. } => self.read(&name, shape)?,
        };
        self.taken.borrow_mut().insert(name, t.shallow_clone());
        Ok(t)
    }

    fn read(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let Source::Files { shards, home, layout, .. } = &self.source else { unreachable!("only files are read") };
        let Place { name, cut } = layout(name);
        let expected = cut.there(shape);
        let Some(&i) = home.get(&name) else {
            let (file, hint) = (self.what(), nearest(&name, home.keys()));
            return Err(WeightsError::Missing { file, tensor: name, expected, hint }.into());
        };
        Ok(layout::part_of(cut, shard::read(&shards[i], &name, Some(&expected), self.device, self.kind)?))
    }

    fn shape(&self, name: &str) -> Option<Vec<i64>> {
        let Source::Files { shards, home, layout, .. } = &self.source else { return None };
        let name = layout(name).name;
        let info = shards[*home.get(&name)?].header().info(&name)?;
        Some(info.shape.iter().map(|&d| d as i64).collect())
    }

    fn has(&self, name: &str) -> bool {
        match &self.source {
            Source::Fresh { .. } => self.taken.borrow().contains_key(name),
            Source::Files { home, layout, .. } => home.contains_key(&layout(name).name),
        }
    }
}

/// A place in the tree of modules: `transformer_blocks.0.attn`.
#[derive(Clone)]
pub struct Scope<'a> {
    weights: &'a Weights,
    path: String,
}

impl<'a> Scope<'a> {
    /// The scope one or more levels down; `name` may itself be dotted.
    pub fn sub(&self, name: impl std::fmt::Display) -> Scope<'a> {
        Scope { weights: self.weights, path: self.full(&name.to_string()) }
    }

    /// The module path of this scope, without a trailing dot.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tensor `name` under this scope; it must have `shape`. Fresh sets make it by `init`.
    pub fn get(&self, name: &str, shape: &[i64], init: Init) -> Result<Tensor> {
        self.weights.take(self.full(name), shape, init)
    }

    /// A tensor that is not a parameter: taken from the files where it is there, else made by `make`; never trainable.
    pub fn buffer(&self, name: &str, shape: &[i64], make: impl FnOnce() -> Tensor) -> Result<Tensor> {
        let full = self.full(name);
        if matches!(self.weights.source, Source::Files { .. }) && self.weights.has(&full) {
            return self.weights.take(full, shape, Init::Zeros);
        }
        let t = make().to_device(self.weights.device).to_kind(self.weights.kind);
        self.weights.taken.borrow_mut().insert(full, t.shallow_clone());
        Ok(t)
    }

    /// Whether the files hold `name` under this scope (fresh sets: whether it was made before).
    pub fn has(&self, name: &str) -> bool {
        self.weights.has(&self.full(name))
    }

    /// The shape that the files give `name` under this scope, where they hold it: for sizes that no configuration names.
    pub fn shape(&self, name: &str) -> Option<Vec<i64>> {
        self.weights.shape(&self.full(name))
    }

    /// Where the tensors live.
    pub fn device(&self) -> Device {
        self.weights.device
    }

    /// The kind of the float tensors.
    pub fn kind(&self) -> Kind {
        self.weights.kind
    }

    fn full(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) }
    }
}

/// All tensors of one safetensors file, sorted by name, and its text metadata. `kind` `None` keeps each tensor's own.
pub fn read_tensors(
    path: impl AsRef<Path>,
    device: Device,
    kind: Option<Kind>,
) -> Result<(BTreeMap<String, Tensor>, HashMap<String, String>)> {
    let shard = Shard::open(path.as_ref().to_path_buf())?;
    let mut out = BTreeMap::new();
    for (name, info) in shard.header().tensors() {
        let own = kind_of(info.dtype);
        let t = shard::read(&shard, &name, None, device, kind.or(own).unwrap_or(Kind::Float))?;
        out.insert(name, t);
    }
    Ok((out, shard.header().metadata().clone().unwrap_or_default()))
}

/// Writes named tensors to one safetensors file; floats as `kind`, others as they are. Goes through a temporary file
/// beside it, so a reader never sees half of one.
///
/// # Errors
/// A number that is not finite ([`crate::finite::NotFinite`]), or too large for `kind`; the disk is full.
pub fn save_tensors(path: impl AsRef<Path>, tensors: &[(String, Tensor)], kind: Kind) -> Result<()> {
    let path = path.as_ref();
    let parts = tensors.iter().map(|(n, t)| Ok((n.as_str(), Raw::of(n, t, kind)?))).collect::<Result<Vec<_>>>()?;
    let meta = HashMap::from([("format".to_string(), "pt".to_string())]);
    let part = path.with_extension("safetensors.part");
    safetensors::serialize_to_file(parts, Some(meta), &part)
        .with_context(|| format!("cannot write {}", part.display()))?;
    std::fs::rename(&part, path).with_context(|| format!("cannot write {}", path.display()))
}

struct Raw {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// The tensor as `kind`. A number that `kind` has no room for would become infinite in silence.
fn narrowed(name: &str, t: &Tensor, kind: Kind) -> Result<Tensor> {
    if !is_finite(t) {
        return Err(NotFinite::new(format!("tensor `{name}`")).into());
    }
    let narrow = t.to_kind(kind);
    if t.kind() != kind && !is_finite(&narrow) {
        let largest = t.abs().max().double_value(&[]);
        anyhow::bail!("tensor `{name}` holds a number of size {largest:e}, for which {kind:?} has no room");
    }
    Ok(narrow)
}

impl Raw {
    fn of(name: &str, t: &Tensor, kind: Kind) -> Result<Raw> {
        let t = t.detach().to_device(Device::Cpu);
        let t = if t.is_floating_point() { narrowed(name, &t, kind)? } else { t }.contiguous();
        let Some(dtype) = dtype_of(t.kind()) else {
            anyhow::bail!("tensor `{name}` of kind {:?} cannot be written as safetensors", t.kind())
        };
        let numel = t.numel();
        let mut bytes = vec![0u8; numel * dtype.bitsize() / 8];
        t.f_copy_data_u8(&mut bytes, numel)?;
        Ok(Raw { dtype, shape: t.size().iter().map(|&d| d as usize).collect(), bytes })
    }
}

impl safetensors::View for Raw {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// A hint for a missing name: one that ends alike, which is what a forgotten prefix looks like.
fn nearest<'a>(name: &str, there: impl Iterator<Item = &'a String>) -> String {
    let there: BTreeSet<&String> = there.collect();
    let dotted = format!(".{name}");
    let alike = there.iter().find(|n| n.ends_with(&dotted) || name.ends_with(&format!(".{n}")));
    match (alike, there.first()) {
        (Some(n), _) => format!("; there is `{n}`"),
        (None, Some(first)) => format!("; the {} tensors here start with `{first}`", there.len()),
        (None, None) => "; there are no tensors here".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        std::fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    fn sample() -> Vec<u8> {
        let (_dir, path) = file(b"");
        let t = Tensor::arange(6, (Kind::Float, Device::Cpu)).view([2, 3]);
        save_tensors(&path, &[("a.weight".into(), t), ("n".into(), Tensor::from(7i64))], Kind::Float).unwrap();
        std::fs::read(path).unwrap()
    }

    fn error<T>(r: Result<T>) -> String {
        format!("{:#}", r.err().expect("no error"))
    }

    #[test]
    fn a_number_too_large_for_the_file_is_not_written() {
        let (_dir, path) = file(b"kept");
        let save = |t: &Tensor| save_tensors(&path, &[("a.weight".into(), t.shallow_clone())], Kind::Half);
        let t = Tensor::from_slice(&[1.0_f32, -70_000.0]);
        assert_eq!(error(save(&t)), "tensor `a.weight` holds a number of size 7e4, for which Half has no room");
        assert_eq!(std::fs::read(&path).unwrap(), b"kept");
        // What is infinite already is not written either, in any kind.
        for kind in [Kind::Half, Kind::Float] {
            let broken = [("a.weight".into(), &t * f64::INFINITY)];
            let says = error(save_tensors(&path, &broken, kind));
            assert_eq!(says, "tensor `a.weight` is not finite");
            assert_eq!(std::fs::read(&path).unwrap(), b"kept");
        }
        save(&Tensor::from_slice(&[1.0_f32, -65_504.0])).unwrap();
    }

    #[test]
    fn errors_name_file_tensor_and_shapes() {
        let (_dir, path) = file(&sample());
        let w = Weights::load(&path, Device::Cpu, Kind::Half).unwrap();
        let a = w.root().sub("a");
        assert!(error(a.get("weight", &[3, 2], Init::Zeros)).contains("`a.weight` has shape [2, 3], expected [3, 2]"));
        let missing = error(w.root().get("weight", &[1], Init::Zeros));
        assert!(
            missing.contains("w.safetensors: tensor `weight` is missing") && missing.contains("there is `a.weight`"),
            "{missing}"
        );
        assert_eq!(a.get("weight", &[2, 3], Init::Zeros).unwrap().kind(), Kind::Half);
        assert_eq!(w.unused(), ["n"]);
        assert!(
            error(w.expect_all_used(|_| false)).contains("1 tensors belong to no module of this model, the first: n")
        );
        assert_eq!(w.root().get("n", &[], Init::Zeros).unwrap().kind(), Kind::Int64);
        w.expect_all_used(|_| false).unwrap();
    }

    /// A file with one tensor of `kind`, whose number at `[2, 1]` is `bad`, beside a whole one; not by our own writer, which
    /// would refuse it.
    fn spoiled(kind: Kind, bad: f64) -> (tempfile::TempDir, PathBuf) {
        let (dir, path) = file(b"");
        let t = Tensor::ones([4, 3], (kind, Device::Cpu));
        let _ = t.get(2).get(1).fill_(bad);
        let whole = Tensor::ones([5], (Kind::Float, Device::Cpu));
        Tensor::write_safetensors(&[("a.whole", &whole), ("b.weight", &t)], &path).unwrap();
        (dir, path)
    }

    #[test]
    fn one_number_that_is_not_finite_is_refused_in_every_kind() {
        for kind in [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16] {
            for (bad, word) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")] {
                let (_dir, path) = spoiled(kind, bad);
                let expected = format!("w.safetensors: tensor `b.weight` holds {word} at [2, 1]");
                let w = Weights::load(&path, Device::Cpu, Kind::Float).unwrap();
                let _ = w.root().get("a.whole", &[5], Init::Zeros).unwrap();
                let says = error(w.root().get("b.weight", &[4, 3], Init::Zeros));
                assert!(says.contains(&expected), "{kind:?}: {says}");
                assert!(error(read_tensors(&path, Device::Cpu, None)).contains(&expected));
                assert!(error(check_numbers(&path)).contains(&expected));
            }
            let (_dir, path) = spoiled(kind, -7.0);
            check_numbers(&path).unwrap();
            read_tensors(&path, Device::Cpu, None).unwrap();
        }
    }

    #[test]
    fn a_number_that_overflows_where_the_kind_changes_is_refused() {
        let (_dir, path) = spoiled(Kind::Float, -70_000.0);
        let read = |kind| read_tensors(&path, Device::Cpu, Some(kind));
        let says = error(read(Kind::Half));
        assert!(says.contains("`b.weight` holds a number of size 7e4, for which Half has no room"), "{says}");
        assert!(read(Kind::BFloat16).is_ok() && read(Kind::Float).is_ok());
        let (_dir, path) = spoiled(Kind::Double, 1e300);
        assert!(error(read_tensors(&path, Device::Cpu, Some(Kind::Float))).contains("Float has no room"));
        let (_dir, path) = spoiled(Kind::Float, f64::from(f32::MAX));
        assert!(error(read_tensors(&path, Device::Cpu, Some(Kind::BFloat16))).contains("BFloat16 has no room"));
    }

    #[test]
    fn cut_files_are_refused_at_every_length() {
        let bytes = sample();
        for n in 0..bytes.len() {
            let (_dir, path) = file(&bytes[..n]);
            assert!(Weights::load(&path, Device::Cpu, Kind::Float).is_err(), "cut at {n}");
        }
    }

    #[test]
    fn fresh_tensors_depend_on_seed_and_name_alone() {
        let make = |seed, names: &[&str]| {
            let w = Weights::new_random(seed, Device::Cpu);
            names.iter().for_each(|n| drop(w.root().get(n, &[300, 40], Init::Normal(0.5)).unwrap()));
            w.tensors().into_iter().collect::<BTreeMap<_, _>>()
        };
        let (one, two, three) = (make(1, &["x", "y"]), make(1, &["y"]), make(2, &["y"]));
        assert_eq!(one["y"], two["y"]);
        assert_ne!(one["x"], one["y"]);
        assert_ne!(two["y"], three["y"]);
        let (mean, std) = (one["x"].mean(Kind::Float).double_value(&[]), one["x"].std(true).double_value(&[]));
        assert!(mean.abs() < 0.02 && (std - 0.5).abs() < 0.02, "{mean} {std}");
        assert!(one["x"].requires_grad());
    }

    #[test]
    fn an_index_reads_its_shards_and_no_other_files() {
        let dir = tempfile::tempdir().unwrap();
        for (name, key) in [("s1.safetensors", "a"), ("s2.safetensors", "b")] {
            save_tensors(dir.path().join(name), &[(key.into(), Tensor::from_slice(&[1f32]))], Kind::Float).unwrap();
        }
        let index = dir.path().join("model.safetensors.index.json");
        std::fs::write(&index, r#"{"metadata": {}, "weight_map": {"a": "s1.safetensors", "b": "s2.safetensors"}}"#)
            .unwrap();
        let w = Weights::load(dir.path(), Device::Cpu, Kind::Float).unwrap();
        assert_eq!(w.unused(), ["a", "b"]);
        std::fs::write(&index, r#"{"weight_map": {"a": "../s1.safetensors"}}"#).unwrap();
        assert!(error(Weights::load(dir.path(), Device::Cpu, Kind::Float)).contains("is not a plain file name"));
    }

    proptest! {
        #[test]
        fn damaged_headers_never_panic(at in 0usize..120, byte: u8) {
            let mut bytes = sample();
            let at = at % bytes.len();
            bytes[at] = byte;
            let (_dir, path) = file(&bytes);
            if let Ok(w) = Weights::load(&path, Device::Cpu, Kind::Float) {
                let _ = w.root().get("a.weight", &[2, 3], Init::Zeros);
            }
        }
    }
}
