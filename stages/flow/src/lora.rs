//! Low-rank adapters. An adapter is a value handed to `forward`; the model itself never changes.
//!
//! Files are those of peft: a folder with `adapter_config.json` and `adapter_model.safetensors`, keys
//! `base_model.model.<module path>.lora_A.weight`. A single file with the prefix `transformer.`, as diffusers'
//! `save_lora_weights` writes, is read too.

use crate::init::{self, Init};
use crate::nn::LinearShape;
use crate::weights::{WeightsError, read_tensors, save_tensors};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The name that diffusers gives to a single file.
const SINGLE: &str = "pytorch_lora_weights.safetensors";

/// Size and place of an adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraConfig {
    /// Inner dimension r.
    pub rank: i64,
    /// The adapter's output is scaled by alpha / rank.
    pub alpha: f64,
    /// Module names, matched as peft does: the whole path or its last components (`to_q`, `attn.to_q`).
    pub targets: Vec<String>,
}

impl LoraConfig {
    /// The 8 projections of the joint attention that Flow-GRPO and its family train: image and text q, k, v, out.
    /// `attn2`, the second attention of SD3.5-medium, is not among them.
    pub fn joint_attention(rank: i64, alpha: f64) -> LoraConfig {
        let names = ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"];
        LoraConfig { rank, alpha, targets: names.iter().map(|n| format!("attn.{n}")).collect() }
    }

    /// Whether a module path is a target.
    pub fn matches(&self, path: &str) -> bool {
        self.targets
            .iter()
            .any(|t| path.strip_suffix(t.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
    }
}

/// One layer's pair: `a` `[r, in]`, `b` `[out, r]`.
pub struct Pair {
    /// Down projection, `lora_A.weight`.
    pub a: Tensor,
    /// Up projection, `lora_B.weight`.
    pub b: Tensor,
}

/// An adapter: pairs by module path.
pub struct Lora {
    config: LoraConfig,
    scale: f64,
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
            pairs.insert(l.name.clone(), Pair { a, b });
        }
        ensure!(!pairs.is_empty(), "no linear layer of the model matches the LoRA targets {:?}", config.targets);
        Ok(Lora { scale: config.alpha / config.rank as f64, config: config.clone(), pairs })
    }

    /// Reads a peft folder, a single file or a folder with one under diffusers' name, for a model with these linear
    /// layers, f32 and without gradients.
    /// Refuses halves of pairs, unknown modules, targets without tensors, wrong shapes and variants other than plain LoRA.
    pub fn load(path: impl AsRef<Path>, linears: &[LinearShape], device: Device) -> Result<Lora> {
        let path = path.as_ref();
        let single = path.join(SINGLE);
        let (file, peft) = if path.is_dir() && !path.join("adapter_config.json").exists() && single.exists() {
            (single, None)
        } else if path.is_dir() {
            let config: PeftConfig = crate::config::read_json(&path.join("adapter_config.json"))?;
            config.check().with_context(|| format!("{}/adapter_config.json", path.display()))?;
            (path.join("adapter_model.safetensors"), Some(config))
        } else {
            (path.to_path_buf(), None)
        };
        let name = file.display().to_string();
        let (tensors, meta) = read_tensors(&file, device, Some(Kind::Float))?;
        let found = Found::sort(tensors, &name)?;
        let pairs = found.pairs(linears, &name)?;
        let rank = pairs.values().next().map(|p| p.a.size()[0]).unwrap_or(0);
        for (module, p) in &pairs {
            let r = p.a.size()[0];
            ensure!(r == rank, "{name}: `{module}` has rank {r}, others {rank}; one rank per adapter is supported");
        }
        let (config, scale) = match peft {
            Some(c) => {
                ensure!(c.r == rank, "{name}: rank {rank} by its tensors, {} by adapter_config.json", c.r);
                let config = c.config(&pairs);
                let without = |l: &&LinearShape| config.matches(&l.name) && !pairs.contains_key(&l.name);
                if let Some(l) = linears.iter().find(without) {
                    let (tensor, expected) = (format!("{}.lora_A.weight", l.name), vec![rank, l.d_in]);
                    return Err(WeightsError::Missing { file: name, tensor, expected, hint: String::new() }.into());
                }
                (config, c.scale())
            }
            None => {
                let alpha = found.alpha(&meta, &name)?.unwrap_or(rank as f64);
                let targets = shortest_targets(pairs.keys());
                (LoraConfig { rank, alpha, targets }, alpha / rank as f64)
            }
        };
        Ok(Lora { config, scale, pairs })
    }

    /// Writes a peft folder.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<()> {
        let folder = folder.as_ref();
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        // An adapter whose scale does not follow from alpha and rank alone was read from a rank-stabilised one.
        let plain = self.config.alpha / self.config.rank as f64;
        let json = serde_json::json!({
            "peft_type": "LORA", "r": self.config.rank, "lora_alpha": self.config.alpha, "lora_dropout": 0.0,
            "target_modules": self.config.targets, "bias": "none", "init_lora_weights": "gaussian", "inference_mode": true,
            "use_dora": false, "use_rslora": (self.scale - plain).abs() > 1e-12, "fan_in_fan_out": false,
            "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": null, "task_type": null,
            "base_model_name_or_path": null,
        });
        let text = serde_json::to_string_pretty(&json)? + "\n";
        let path = folder.join("adapter_config.json");
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        let tensors: Vec<_> = self.named().into_iter().map(|(n, t)| (format!("base_model.model.{n}"), t)).collect();
        save_tensors(folder.join("adapter_model.safetensors"), &tensors, Kind::Float)
    }

    /// An adapter of these pairs, by module path.
    pub(crate) fn of(config: LoraConfig, scale: f64, pairs: BTreeMap<String, Pair>) -> Lora {
        Lora { config, scale, pairs }
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
        Lora { scale: self.scale * factor, ..self }
    }

    /// What the adapter's output is multiplied by.
    pub fn scale(&self) -> f64 {
        self.scale
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
        let pairs = self.pairs.iter().map(|(n, p)| (n.clone(), Pair { a: f(&p.a), b: f(&p.b) })).collect();
        Lora { config: self.config.clone(), scale: self.scale, pairs }
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
        let inner = x.reshape([-1, d_in]).matmul(&down.tr()) * self.scale;
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
        merge.then(|| w.addmm(&(&pair.b * self.scale), &pair.a))
    }
}

/// The fields of peft's `LoraConfig` that change what the tensors mean.
#[derive(Deserialize)]
struct PeftConfig {
    #[serde(default)]
    peft_type: Option<String>,
    r: i64,
    lora_alpha: f64,
    #[serde(default)]
    target_modules: serde_json::Value,
    #[serde(default)]
    bias: Option<String>,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    alpha_pattern: HashMap<String, serde_json::Value>,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
}

impl PeftConfig {
    fn check(&self) -> Result<()> {
        let kind = self.peft_type.as_deref().unwrap_or("LORA");
        ensure!(kind == "LORA", "`peft_type` is {kind}, supported: LORA");
        ensure!(self.r > 0, "`r` is {}, it must be at least 1", self.r);
        ensure!(!self.use_dora, "`use_dora` is true, supported: false");
        ensure!(!self.fan_in_fan_out, "`fan_in_fan_out` is true, supported: false");
        ensure!(self.alpha_pattern.is_empty(), "`alpha_pattern` is not supported");
        ensure!(self.modules_to_save.as_ref().is_none_or(|m| m.is_empty()), "`modules_to_save` is not supported");
        let bias = self.bias.as_deref().unwrap_or("none");
        ensure!(bias == "none", "`bias` is {bias}, supported: none");
        Ok(())
    }

    fn scale(&self) -> f64 {
        self.lora_alpha / if self.use_rslora { (self.r as f64).sqrt() } else { self.r as f64 }
    }

    /// A list of targets is kept in sorted order (peft writes a set, in any order); of a pattern, the modules themselves.
    fn config(&self, pairs: &BTreeMap<String, Pair>) -> LoraConfig {
        let listed = self.target_modules.as_array().map(|a| {
            a.iter().filter_map(|v| v.as_str().map(str::to_string)).collect::<BTreeSet<_>>().into_iter().collect()
        });
        let targets = listed.unwrap_or_else(|| pairs.keys().cloned().collect());
        LoraConfig { rank: self.r, alpha: self.lora_alpha, targets }
    }
}

/// The tensors of an adapter file by module path.
#[derive(Default)]
struct Found {
    a: BTreeMap<String, Tensor>,
    b: BTreeMap<String, Tensor>,
    alphas: BTreeSet<u64>,
}

impl Found {
    fn sort(tensors: BTreeMap<String, Tensor>, file: &str) -> Result<Found> {
        let mut found = Found::default();
        for (key, t) in tensors {
            let path =
                ["base_model.model.", "transformer."].iter().fold(key.as_str(), |k, p| k.strip_prefix(p).unwrap_or(k));
            if let Some(m) = path.strip_suffix(".lora_A.weight") {
                found.a.insert(m.to_string(), t);
            } else if let Some(m) = path.strip_suffix(".lora_B.weight") {
                found.b.insert(m.to_string(), t);
            } else if path.ends_with(".alpha") && t.numel() == 1 {
                found.alphas.insert(t.double_value(&[]).to_bits());
            } else {
                bail!(
                    "{file}: tensor `{key}` is not part of a LoRA (expected names ending in .lora_A.weight, .lora_B.weight)"
                );
            }
        }
        ensure!(!found.a.is_empty() || !found.b.is_empty(), "{file}: holds no LoRA tensors");
        Ok(found)
    }

    fn pairs(&self, linears: &[LinearShape], file: &str) -> Result<BTreeMap<String, Pair>> {
        let sizes: HashMap<&str, &LinearShape> = linears.iter().map(|l| (l.name.as_str(), l)).collect();
        let mut pairs = BTreeMap::new();
        for module in self.a.keys().chain(self.b.keys()).collect::<BTreeSet<_>>() {
            let Some(l) = sizes.get(module.as_str()) else {
                bail!("{file}: `{module}` is no linear layer of this model");
            };
            let half = |side: &BTreeMap<String, Tensor>, which: &str, shape: &dyn Fn(i64) -> [i64; 2], axis: usize| {
                let tensor = format!("{module}.lora_{which}.weight");
                let file = file.to_string();
                let Some(t) = side.get(module) else {
                    let expected = shape(-1).to_vec();
                    return Err(WeightsError::Missing { file, tensor, expected, hint: "; -1 is the rank".into() });
                };
                let found = t.size();
                let expected = shape(found.get(axis).copied().unwrap_or(-1)).to_vec();
                if found != expected {
                    Err(WeightsError::Shape { file, tensor, found, expected })
                } else {
                    Ok(t.shallow_clone())
                }
            };
            let a = half(&self.a, "A", &|r| [r, l.d_in], 0)?;
            let r = a.size()[0];
            let b = half(&self.b, "B", &|_| [l.d_out, r], 1)?;
            pairs.insert(module.clone(), Pair { a, b });
        }
        Ok(pairs)
    }

    /// Alpha of a single file: its `.alpha` tensors, or the adapter configuration that diffusers keeps in the metadata.
    fn alpha(&self, meta: &HashMap<String, String>, file: &str) -> Result<Option<f64>> {
        ensure!(self.alphas.len() <= 1, "{file}: holds several values of alpha; one per adapter is supported");
        if let Some(bits) = self.alphas.first() {
            return Ok(Some(f64::from_bits(*bits)));
        }
        let Some(text) = meta.get("lora_adapter_metadata") else { return Ok(None) };
        let json: serde_json::Value =
            serde_json::from_str(text).with_context(|| format!("{file}: lora_adapter_metadata"))?;
        Ok(json.get("transformer.lora_alpha").or_else(|| json.get("lora_alpha")).and_then(|v| v.as_f64()))
    }
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
        let config = LoraConfig { rank: 2, alpha: 3.0, targets: vec!["attn.to_q".into()] };
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
        format!("{:#}", Lora::load(dir.path(), &linears(), Device::Cpu).err().expect("loaded"))
    }

    #[test]
    fn targets_match_whole_components() {
        let names: Vec<_> = lora(1).named().into_iter().map(|(n, _)| n).collect();
        let block = |i: i32, side: char| format!("transformer_blocks.{i}.attn.to_q.lora_{side}.weight");
        assert_eq!(names, [block(0, 'A'), block(0, 'B'), block(1, 'A'), block(1, 'B')]);
        let none = LoraConfig { rank: 2, alpha: 1.0, targets: vec!["tn.to_q".into()] };
        assert!(Lora::init(&none, &linears(), 1, Device::Cpu).is_err());
    }

    #[test]
    fn broken_files_are_refused() {
        let cases: [(&str, String); 6] = [
            ("`transformer_blocks.0.attn.to_q.lora_B.weight` is missing", broken(|t| drop(t.remove(1)))),
            ("`transformer_blocks.1.attn.to_q.lora_A.weight` is missing", broken(|t| t.truncate(2))),
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
        let error = format!("{:#}", Lora::load(dir.path(), &linears(), Device::Cpu).err().unwrap());
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
            let config = LoraConfig { rank, alpha: 4.0, targets: vec!["l".into()] };
            let lora = Lora::init(&config, &linears, 3, Device::Cpu).unwrap();
            let pair = lora.pair("l").unwrap();
            tch::no_grad(|| pair.b.shallow_clone().copy_(&Tensor::randn([64, rank], (Kind::Float, Device::Cpu))));
            assert_eq!(lora.merged(&w, pair).is_some(), merges);
            let plain = x.matmul(&(&w + pair.b.matmul(&pair.a) * lora.scale()).tr());
            let diff = (lora.linear(&x, &w, None, pair) - plain).abs().max().double_value(&[]);
            assert!(diff < 1e-4, "rank {rank}: {diff}");
        }
    }
}
