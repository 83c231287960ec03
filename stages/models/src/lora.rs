//! Low-rank adapters. An adapter is a value handed to `forward`; the model itself never changes.
//!
//! Files of our own are those of peft: a folder with `adapter_config.json` and `adapter_model.safetensors`, keys
//! `base_model.model.<module path>.lora_A.weight`. What is read, and what else is written: `crate::adapter`.

pub use crate::linears::LoraConfig;

use crate::init::{self, Init};
use crate::linears::{LinearShape, ends_with};
use crate::weights::save_tensors;
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// One layer's pair: `a` `[r, in]`, `b` `[out, r]`. Ranks may differ between layers.
pub struct Pair {
    /// Down projection, `lora_A.weight`.
    pub a: Tensor,
    /// Up projection, `lora_B.weight`.
    pub b: Tensor,
    /// The product is scaled by alpha over the rank, or over its root in a rank-stabilised adapter.
    pub alpha: f64,
}

/// An adapter: pairs by module path.
pub struct Lora {
    config: LoraConfig,
    /// Whether the scale is alpha over the root of the rank, as peft's `use_rslora` has it.
    stabilised: bool,
    /// What all outputs are multiplied by on top.
    factor: f64,
    pairs: BTreeMap<String, Pair>,
}

impl Lora {
    /// A fresh, trainable f32 adapter, peft's `init_lora_weights="gaussian"`: A normal with std 1/r, B zero.
    pub fn init(config: &LoraConfig, linears: &[LinearShape], seed: u64, device: Device) -> Result<Lora> {
        ensure!(config.rank > 0, "LoRA rank must be at least 1, found {}", config.rank);
        let mut pairs = BTreeMap::new();
        for l in linears.iter().filter(|l| config.matches(&l.name)) {
            let start = Init::Normal(1.0 / config.rank as f64);
            let a = init::make(start, &[config.rank, l.d_in], seed, &l.name).to_device(device).set_requires_grad(true);
            let b = Tensor::zeros([l.d_out, config.rank], (Kind::Float, device)).set_requires_grad(true);
            pairs.insert(l.name.clone(), Pair { a, b, alpha: config.alpha });
        }
        ensure!(!pairs.is_empty(), "no linear layer of the model matches the LoRA targets {:?}", config.target_modules);
        Ok(Lora { config: config.clone(), stabilised: false, factor: 1.0, pairs })
    }

    /// Writes a peft folder, f32.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<()> {
        self.save_as(folder.as_ref(), Kind::Float)
    }

    /// Writes a peft folder with its tensors as `kind`.
    pub(crate) fn save_as(&self, folder: &Path, kind: Kind) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let text = serde_json::to_string_pretty(&self.peft_config())? + "\n";
        let path = folder.join("adapter_config.json");
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        let tensors: Vec<_> = self.named().into_iter().map(|(n, t)| (format!("base_model.model.{n}"), t)).collect();
        save_tensors(folder.join("adapter_model.safetensors"), &tensors, kind)
    }

    /// peft's `LoraConfig` of it. Ranks and alphas other than the common ones are patterns, each the module's whole path.
    pub(crate) fn peft_config(&self) -> serde_json::Value {
        let (rank, alpha) = (self.config.rank, self.config.alpha);
        let ranks = self.pairs.iter().filter(|(_, p)| p.a.size()[0] != rank);
        let ranks = ranks.map(|(n, p)| (self.pattern(n), p.a.size()[0].into()));
        let alphas = self.pairs.iter().filter(|(_, p)| p.alpha.to_bits() != alpha.to_bits());
        let alphas = alphas.map(|(n, p)| (self.pattern(n), (p.alpha * self.factor).into()));
        serde_json::json!({
            "peft_type": "LORA", "r": rank, "lora_alpha": alpha * self.factor, "lora_dropout": 0.0,
            "target_modules": target_modules(&self.config.target_modules), "bias": "none", "init_lora_weights": "gaussian", "inference_mode": true,
            "use_dora": false, "use_rslora": self.stabilised, "fan_in_fan_out": false,
            "rank_pattern": ranks.collect::<serde_json::Map<_, _>>(),
            "alpha_pattern": alphas.collect::<serde_json::Map<_, _>>(), "modules_to_save": null, "task_type": null,
            "base_model_name_or_path": null,
        })
    }

    /// What peft matches this module by and no other one of the adapter: it takes a pattern's end for enough.
    fn pattern(&self, module: &str) -> String {
        let others = self.pairs.keys().any(|other| other != module && ends_with(other, module));
        if others { format!("^{module}") } else { module.to_owned() }
    }

    /// An adapter of these pairs, by module path. Its rank and alpha are the most frequent ones.
    #[must_use]
    pub fn of(targets: Vec<String>, stabilised: bool, pairs: BTreeMap<String, Pair>) -> Lora {
        let rank = most(pairs.values().map(|p| p.a.size()[0]));
        let alpha = f64::from_bits(most(pairs.values().map(|p| p.alpha.to_bits())));
        Lora { config: LoraConfig { rank, alpha, target_modules: targets }, stabilised, factor: 1.0, pairs }
    }

    /// The same of pairs that were read. Targets are those `listed`, or short names, if they mean these layers of the
    /// model and no others; else the paths themselves.
    pub(crate) fn read(
        pairs: BTreeMap<String, Pair>,
        stabilised: bool,
        listed: Option<Vec<String>>,
        linears: &[LinearShape],
    ) -> Lora {
        let targets = listed.unwrap_or_else(|| shortest_targets(pairs.keys()));
        let mut lora = Lora::of(targets, stabilised, pairs);
        if linears.iter().any(|l| lora.config.matches(&l.name) != lora.pairs.contains_key(&l.name)) {
            let means_more =
                |module: &str| linears.iter().any(|l| ends_with(&l.name, module) && !lora.pairs.contains_key(&l.name));
            let target = |m: &String| if means_more(m) { format!("^{m}") } else { m.clone() };
            lora.config.target_modules = lora.pairs.keys().map(target).collect();
        }
        lora
    }

    /// The paths of the modules it changes.
    pub fn modules(&self) -> impl Iterator<Item = &String> {
        self.pairs.keys()
    }

    /// Rank, alpha and targets.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// The same adapter with its output multiplied by `factor` on top.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Lora {
        Lora { factor: self.factor * factor, ..self }
    }

    /// What a pair's product is multiplied by.
    pub fn scale(&self, pair: &Pair) -> f64 {
        let rank = pair.a.size()[0] as f64;
        pair.alpha / if self.stabilised { rank.sqrt() } else { rank } * self.factor
    }

    /// Whether both have the same layers, ranks and scales.
    #[must_use]
    pub fn scaled_as(&self, other: &Lora) -> bool {
        let form = |(n, p): (&String, &Pair), l: &Lora| (n.clone(), p.a.size(), p.b.size(), l.scale(p).to_bits());
        let all = |l: &Lora| l.pairs.iter().map(|pair| form(pair, l)).collect::<Vec<_>>();
        all(self) == all(other)
    }

    /// The pair of one module.
    pub fn pair(&self, module: &str) -> Option<&Pair> {
        self.pairs.get(module)
    }

    /// `(<module path>.lora_A.weight, A), (<module path>.lora_B.weight, B), ..`, sorted by module path.
    pub fn named(&self) -> Vec<(String, Tensor)> {
        let both = |(n, p): (&String, &Pair)| {
            [(format!("{n}.lora_A.weight"), p.a.shallow_clone()), (format!("{n}.lora_B.weight"), p.b.shallow_clone())]
        };
        self.pairs.iter().flat_map(both).collect()
    }

    /// The tensors in the order of [`Lora::named`].
    pub fn parameters(&self) -> Vec<Tensor> {
        self.pairs.values().flat_map(|p| [p.a.shallow_clone(), p.b.shallow_clone()]).collect()
    }

    /// Turns gradients on or off.
    pub fn set_trainable(&self, on: bool) {
        for p in self.parameters() {
            let _ = p.set_requires_grad(on);
        }
    }

    /// Overwrites the values with those of `other`, which must have the same modules and sizes.
    pub fn copy_(&mut self, other: &Lora) -> Result<()> {
        self.same_form(other)?;
        let _guard = tch::no_grad_guard();
        self.parameters().iter_mut().zip(other.parameters()).for_each(|(mine, theirs)| mine.copy_(&theirs));
        Ok(())
    }

    /// Moves the values towards `other`: mine + weight (theirs - mine).
    pub fn lerp_(&mut self, other: &Lora, weight: f64) -> Result<()> {
        self.same_form(other)?;
        let _guard = tch::no_grad_guard();
        for (mine, theirs) in self.parameters().iter_mut().zip(other.parameters()) {
            let _ = mine.lerp_(&theirs, weight);
        }
        Ok(())
    }

    /// A copy with its own storage and without gradients.
    pub fn detached(&self) -> Lora {
        self.map(|t| t.detach().copy())
    }

    /// A copy on `device`, without gradients.
    pub fn to(&self, device: Device) -> Lora {
        self.map(|t| t.detach().to_device(device).copy())
    }

    fn map(&self, f: impl Fn(&Tensor) -> Tensor) -> Lora {
        let pairs =
            self.pairs.iter().map(|(n, p)| (n.clone(), Pair { a: f(&p.a), b: f(&p.b), alpha: p.alpha })).collect();
        Lora { config: self.config.clone(), stabilised: self.stabilised, factor: self.factor, pairs }
    }

    fn same_form(&self, other: &Lora) -> Result<()> {
        let form = |l: &Lora| l.named().into_iter().map(|(n, t)| (n, t.size())).collect::<Vec<_>>();
        let (mine, theirs) = (form(self), form(other));
        if let Some((m, t)) = mine.iter().zip(&theirs).find(|(m, t)| m != t) {
            bail!("the two adapters differ in form: {} {:?} here, {} {:?} there", m.0, m.1, t.0, t.1);
        }
        ensure!(
            mine.len() == theirs.len(),
            "the two adapters differ: {} tensors here, {} there",
            mine.len(),
            theirs.len()
        );
        Ok(())
    }

    /// x W' + b with W' = W + scale B A, by whichever way costs less.
    pub(crate) fn linear(&self, x: &Tensor, w: &Tensor, b: Option<&Tensor>, pair: &Pair) -> Tensor {
        if let Some(merged) = self.merged(w, pair) {
            return x.linear(&merged, b);
        }
        let (down, up) = (pair.a.to_kind(x.kind()), pair.b.to_kind(x.kind()));
        let y = x.linear(w, b);
        let (d_in, d_out) = (down.size()[1], up.size()[0]);
        let inner = x.reshape([-1, d_in]).matmul(&down.tr()) * self.scale(pair);
        y.view([-1, d_out]).addmm(&inner, &up.tr()).view_as(&y)
    }

    /// W + scale B A where that is the cheaper way, else nothing.
    ///
    /// For each token the two thin products cost r (in + out) forward and twice that backward; merging costs in out backward
    /// (the gradient of W'). Forward and backward timed on one CPU thread, widths 96 to 1536: by in out / (r (in + out)),
    /// merging did not lose up to 6, was mixed from 8 to 16 and lost at 24; other devices were not timed. The choice
    /// looks at sizes alone, never at the batch or at whether gradients are on, so that a rollout
    /// and the training pass over it round alike. Merging into less than f32 would lose the adapter in the rounding of the
    /// base weight.
    pub(crate) fn merged(&self, w: &Tensor, pair: &Pair) -> Option<Tensor> {
        let (r, d_in, d_out) = (pair.a.size()[0], pair.a.size()[1], pair.b.size()[0]);
        let merge = w.kind() == Kind::Float && d_in * d_out <= 6 * r * (d_in + d_out);
        merge.then(|| w.addmm(&(&pair.b * self.scale(pair)), &pair.a))
    }
}

/// Targets as peft takes them: a list, or where one of them is a whole path alone, one pattern for the path of a module.
fn target_modules(targets: &[String]) -> serde_json::Value {
    if !targets.iter().any(|t| t.starts_with('^')) {
        return targets.into();
    }
    let pattern = |t: &String| match t.strip_prefix('^') {
        Some(whole) => regex::escape(whole),
        None => format!(r"(.*\.)?{}", regex::escape(t)),
    };
    targets.iter().map(pattern).collect::<Vec<_>>().join("|").into()
}

/// The most frequent of these; of several, the largest.
fn most<T: Ord + Copy + Default>(of: impl Iterator<Item = T>) -> T {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    of.for_each(|x| *counts.entry(x).or_default() += 1);
    counts.into_iter().max_by_key(|(x, n)| (*n, *x)).map(|(x, _)| x).unwrap_or_default()
}

/// Targets for a file that names none: the module paths without their block number and what is before it.
fn shortest_targets<'a>(modules: impl Iterator<Item = &'a String>) -> Vec<String> {
    let tail = |m: &String| match m.split_once("transformer_blocks.").and_then(|(_, rest)| rest.split_once('.')) {
        Some((_, rest)) => rest.to_string(),
        None => m.clone(),
    };
    modules.map(tail).collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linears::Linears;
    use crate::weights::read_tensors;

    fn linears() -> Vec<LinearShape> {
        let layer = |name: &str, d_in, d_out| LinearShape { name: name.into(), d_in, d_out };
        vec![
            layer("transformer_blocks.0.attn.to_q", 6, 4),
            layer("transformer_blocks.0.attn2.to_q", 6, 4),
            layer("transformer_blocks.1.attn.to_q", 6, 4),
            layer("proj_out", 6, 8),
        ]
    }

    fn lora(seed: u64) -> Lora {
        let config = LoraConfig { rank: 2, alpha: 3.0, target_modules: vec!["attn.to_q".into()] };
        Lora::init(&config, &linears(), seed, Device::Cpu).unwrap()
    }

    /// Saves an adapter, lets `change` edit its tensors, and gives the error of loading it.
    fn broken(change: impl FnOnce(&mut Vec<(String, Tensor)>)) -> String {
        let dir = tempfile::tempdir().unwrap();
        lora(1).save(dir.path()).unwrap();
        let file = dir.path().join("adapter_model.safetensors");
        let mut tensors: Vec<_> = read_tensors(&file, Device::Cpu, None).unwrap().0.into_iter().collect();
        change(&mut tensors);
        save_tensors(&file, &tensors, Kind::Float).unwrap();
        format!("{:#}", Lora::load(dir.path(), &linears().into(), Device::Cpu).err().expect("loaded"))
    }

    /// FLUX.1's names, where one module's path ends another's.
    #[test]
    fn a_path_that_ends_another_s_is_told_apart() {
        let layer = |name: &str| LinearShape { name: name.into(), d_in: 6, d_out: 4 };
        let names =
            ["single_transformer_blocks.0.proj_out", "single_transformer_blocks.1.proj_out", "proj_out", "x.to_q"];
        let linears: Linears = names.map(layer).to_vec().into();
        let shape = |ranks: &[(usize, i64)]| -> BTreeMap<String, Pair> {
            let pair = |(n, r): &(usize, i64)| {
                let ones = |shape: [i64; 2]| Tensor::ones(shape, (Kind::Float, Device::Cpu));
                (names[*n].to_owned(), Pair { a: ones([*r, 6]), b: ones([4, *r]), alpha: *r as f64 * 2.0 })
            };
            ranks.iter().map(pair).collect()
        };
        for ranks in [&[(0, 3), (1, 3), (2, 1), (3, 3)][..], &[(2, 2), (3, 2)], &[(0, 1), (2, 2)], &[(2, 1)]] {
            let lora = Lora::read(shape(ranks), false, None, &linears);
            let dir = tempfile::tempdir().unwrap();
            lora.save(dir.path()).unwrap();
            let again = Lora::load(dir.path(), &linears, Device::Cpu).unwrap();
            assert_eq!(again.modules().collect::<Vec<_>>(), lora.modules().collect::<Vec<_>>(), "{ranks:?}");
            assert!(again.scaled_as(&lora), "{ranks:?}");
            let meant = |l: &&LinearShape| again.config().matches(&l.name);
            assert_eq!(
                linears.iter().filter(meant).count(),
                ranks.len(),
                "{ranks:?}: {:?}",
                again.config().target_modules
            );
        }
    }

    #[test]
    fn targets_match_whole_components() {
        let names: Vec<_> = lora(1).named().into_iter().map(|(n, _)| n).collect();
        let block = |i: i32, side: char| format!("transformer_blocks.{i}.attn.to_q.lora_{side}.weight");
        assert_eq!(names, [block(0, 'A'), block(0, 'B'), block(1, 'A'), block(1, 'B')]);
        let none = LoraConfig { rank: 2, alpha: 1.0, target_modules: vec!["tn.to_q".into()] };
        assert!(Lora::init(&none, &linears(), 1, Device::Cpu).is_err());
    }

    #[test]
    fn broken_files_are_refused() {
        let cases: [(&str, String); 6] = [
            ("transformer_blocks.0.attn.to_q.lora_B.weight` is missing", broken(|t| drop(t.remove(1)))),
            ("transformer_blocks.1.attn.to_q.lora_A.weight` is missing", broken(|t| t.truncate(2))),
            (
                "has shape [2, 5], expected [2, 6]",
                broken(|t| t[0].1 = Tensor::zeros([2, 5], (Kind::Float, Device::Cpu))),
            ),
            (
                "rank 1 by its tensors, 2",
                broken(|t| t.iter_mut().for_each(|(n, t)| *t = t.narrow(n.contains("_B").into(), 0, 1))),
            ),
            ("`elsewhere` is no linear layer", broken(|t| t[0].0 = "base_model.model.elsewhere.lora_A.weight".into())),
            ("is not part of a LoRA", broken(|t| t[0].0 = "base_model.model.proj_out.weight".into())),
        ];
        for (says, error) in cases {
            assert!(error.contains(says), "{says}: {error}");
        }
        let dir = tempfile::tempdir().unwrap();
        lora(1).save(dir.path()).unwrap();
        let path = dir.path().join("adapter_config.json");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"use_dora\": false", "\"use_dora\": true")).unwrap();
        let error = format!("{:#}", Lora::load(dir.path(), &linears().into(), Device::Cpu).err().unwrap());
        assert!(error.contains("`use_dora` is true"), "{error}");
    }

    #[test]
    fn copies_stand_apart() {
        let (mut a, b) = (lora(1), lora(2));
        let old = a.detached();
        assert!(old.parameters().iter().all(|t| !t.requires_grad()));
        a.lerp_(&b, 0.25).unwrap();
        let mixed = &old.parameters()[0] * 0.75 + &b.parameters()[0] * 0.25;
        assert!(a.parameters()[0].allclose(&mixed, 0.0, 1e-6, false));
        a.copy_(&b).unwrap();
        assert_eq!(a.parameters(), b.parameters());
        assert_ne!(old.parameters()[0], b.parameters()[0]);
        assert!(a.parameters().iter().all(Tensor::requires_grad));
        let other = LoraConfig { rank: 1, ..a.config().clone() };
        assert!(a.copy_(&Lora::init(&other, &linears(), 1, Device::Cpu).unwrap()).is_err());
    }

    #[test]
    fn both_ways_agree() {
        let (w, x) = (
            Tensor::randn([64, 64], (Kind::Float, Device::Cpu)),
            Tensor::randn([3, 5, 64], (Kind::Float, Device::Cpu)),
        );
        let linears = [LinearShape { name: "l".into(), d_in: 64, d_out: 64 }];
        for (rank, merges) in [(2, false), (16, true)] {
            let config = LoraConfig { rank, alpha: 4.0, target_modules: vec!["l".into()] };
            let lora = Lora::init(&config, &linears, 3, Device::Cpu).unwrap();
            let pair = lora.pair("l").unwrap();
            tch::no_grad(|| pair.b.shallow_clone().copy_(&Tensor::randn([64, rank], (Kind::Float, Device::Cpu))));
            assert_eq!(lora.merged(&w, pair).is_some(), merges);
            let plain = x.matmul(&(&w + pair.b.matmul(&pair.a) * lora.scale(pair)).tr());
            let diff = (lora.linear(&x, &w, None, pair) - plain).abs().max().double_value(&[]);
            assert!(diff < 1e-4, "rank {rank}: {diff}");
        }
    }
}
