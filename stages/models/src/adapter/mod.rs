//! Adapters as files: every published naming is read into one form, a pair of matrices with its alpha for each module
//! of the model, and written from it. docs/how-to/adapters.md has the table of forms and readers.

mod load;
mod qkv;
mod write;

pub use opdflow_spec::adapter::*;
pub use write::Format;

use crate::finite::is_finite;
use crate::linears::{LinearShape, Linears};
use crate::lora::{Lora, Pair};
use crate::weights::{WeightsError, read_tensors};
use anyhow::{Context as _, Result, bail, ensure};
use config::PeftConfig;
use names::{Dictionary, Half, Target};
use opdflow_io::file;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// An adapter that was read, and what should be said of it.
pub struct Read {
    /// The adapter, f32, without gradients.
    pub lora: Lora,
    /// What was left out or taken for granted, a sentence each.
    pub notes: Vec<String>,
}

/// Reads an adapter in any of the known forms for a model with these linear layers.
///
/// # Errors
/// What is no plain LoRA, or none of this model's; half a pair; a shape, rank or alpha that does not fit; numbers that are
/// not finite. The message names the tensor and the way out.
pub fn read(path: &Path, linears: &Linears, device: Device) -> Result<Read> {
    let files = Files::of(path)?;
    let name = files.weights.display().to_string();
    let config = match &files.config {
        Some(config) => {
            let at = || config.display().to_string();
            let text = file::read_text(config, file::DESCRIPTION).with_context(at)?;
            Some(PeftConfig::parse(&text).with_context(at)?)
        }
        None => None,
    };
    let (tensors, meta) = read_tensors(&files.weights, Device::Cpu, None)?;
    let config = match config {
        Some(config) => Some(config),
        None => packed(&meta, &name)?,
    };
    let mut notes = Vec::new();
    let loose = sort(tensors, &name, &mut notes)?;
    let pairs = Reader { dictionary: Dictionary::of(linears), linears, name: &name }.pairs(loose)?;
    let lora = finish(pairs, config, linears, &name, &mut notes)?;
    Ok(Read { lora: lora.to(device), notes })
}

/// The tensors of one module of the file.
#[derive(Default)]
struct Loose {
    down: Option<(String, Tensor)>,
    up: Option<(String, Tensor)>,
    alpha: Option<(String, f64)>,
}

/// Tensors by module, in the file's own naming; those of text encoders are left out with a word.
fn sort(tensors: BTreeMap<String, Tensor>, file: &str, notes: &mut Vec<String>) -> Result<BTreeMap<String, Loose>> {
    let mut loose: BTreeMap<String, Loose> = BTreeMap::new();
    let (mut adapters, mut text) = (BTreeSet::new(), 0);
    let some = !tensors.is_empty();
    for (key, t) in tensors {
        let Some(name) = names::apart(&key) else { bail!("{file}: {}", names::foreign(&key)) };
        if names::of_text_encoder(name.stem) {
            text += 1;
            continue;
        }
        adapters.extend(name.adapter.map(str::to_owned));
        let (stem, half) = (name.stem.to_owned(), name.half);
        let at = loose.entry(stem).or_default();
        let slot = match half {
            Half::Alpha => {
                ensure!(t.numel() == 1, "{file}: `{key}` has shape {:?}, expected one number", t.size());
                let alpha = t.to_kind(Kind::Double).view(-1).double_value(&[0]);
                ensure!(alpha != 0.0, "{file}: `{key}` is 0, so that the adapter changes nothing");
                at.alpha = Some((key, alpha));
                continue;
            }
            Half::Down => &mut at.down,
            Half::Up => &mut at.up,
        };
        ensure!(t.is_floating_point(), "{file}: `{key}` holds {:?}, expected floating-point numbers", t.kind());
        if let Some((other, _)) = slot {
            bail!("{file}: `{key}` and `{other}` are the same half of one module: several adapters in one file");
        }
        let float = t.to_kind(Kind::Float);
        // Of what was read all is finite; a number of 64 bits may still have no room.
        if !is_finite(&float) {
            let (largest, file) = (t.abs().max().double_value(&[]), file.to_owned());
            return Err(WeightsError::NoRoom { file, tensor: key, largest, kind: "Float".to_owned() }.into());
        }
        *slot = Some((key, float));
    }
    if adapters.len() > 1 {
        let names = adapters.into_iter().collect::<Vec<_>>().join(", ");
        bail!("{file}: holds several adapters ({names}): save the one that is meant alone");
    }
    ensure!(loose.values().any(|l| l.down.is_some() || l.up.is_some()), "{file}: {}", nothing(some));
    if text > 0 {
        notes.push(format!(
            "{file}: {text} tensors of text encoders are left out; the transformer's part alone is used, and images are \
             not those of a program that applies both"
        ));
    }
    Ok(loose)
}

/// A pair whose alpha is not settled yet.
struct Loaded {
    a: Tensor,
    b: Tensor,
    alpha: Option<f64>,
    /// The file's name of it.
    stem: String,
}

struct Reader<'a> {
    dictionary: Dictionary,
    linears: &'a [LinearShape],
    name: &'a str,
}

impl Reader<'_> {
    fn pairs(&self, loose: BTreeMap<String, Loose>) -> Result<BTreeMap<String, Loaded>> {
        let mut pairs: BTreeMap<String, Loaded> = BTreeMap::new();
        // All names before any shape: families have layers of the same name in other widths.
        self.dictionary.knows(loose.keys()).with_context(|| self.name.to_owned())?;
        for (stem, parts) in loose {
            let target = self.dictionary.target(&stem).with_context(|| self.name.to_owned())?;
            let alpha = parts.alpha.as_ref().map(|(_, a)| *a);
            let mut found = Vec::new();
            match target {
                Target::One { module, swapped } => {
                    let (a, b) = self.halves(&parts, &stem, &[module])?;
                    let b = if *swapped { swap(&b) } else { b };
                    found.push((module, Loaded { a, b, alpha, stem: stem.clone() }));
                }
                Target::Fused(members) => {
                    let (a, b) = self.halves(&parts, &stem, &members.iter().collect::<Vec<_>>())?;
                    let rows: Vec<i64> = members.iter().filter_map(|m| self.shape(m)).map(|(_, d_out)| d_out).collect();
                    for (member, part) in members.iter().zip(qkv::apart(&a, &b, alpha, &rows)) {
                        let Some(qkv::QkvPart { a, b, alpha }) = part else { continue };
                        found.push((member, Loaded { a, b, alpha, stem: stem.clone() }));
                    }
                }
            }
            for (module, one) in found {
                if let Some(other) = pairs.get(module) {
                    bail!("{}: `{}` and `{stem}` are the same layer, {module}", self.name, other.stem);
                }
                pairs.insert(module.clone(), one);
            }
        }
        Ok(pairs)
    }

    /// Features in and out of a layer of the model.
    fn shape(&self, module: &str) -> Option<(i64, i64)> {
        self.linears.iter().find(|l| l.name == module).map(|l| (l.d_in, l.d_out))
    }

    /// Both halves, with the shapes that modules of the model have which lie below each other in it.
    fn halves(&self, parts: &Loose, stem: &str, modules: &[&String]) -> Result<(Tensor, Tensor)> {
        let sizes =
            modules.iter().map(|m| self.shape(m).context("a module of no layer")).collect::<Result<Vec<_>>>()?;
        let (d_in, d_out) = (sizes[0].0, sizes.iter().map(|s| s.1).sum::<i64>());
        let file = || self.name.to_owned();
        let (down, up) = match (&parts.down, &parts.up) {
            (Some(down), Some(up)) => (down, up),
            (None, None) => bail!("{}: `{stem}` has an alpha and no matrices", self.name),
            (one, other) => {
                let there = one.as_ref().or(other.as_ref()).map_or("", |(k, _)| k);
                let expected = if one.is_none() { vec![-1, d_in] } else { vec![d_out, -1] };
                let hint = "; -1 is the rank".to_owned();
                let tensor = names::other_half(there);
                return Err(WeightsError::Missing { file: file(), tensor, expected, hint }.into());
            }
        };
        // A layer that another program holds as a convolution of one pixel.
        let flat = |t: &Tensor| match t.size()[..] {
            [o, i, 1, 1] => t.view([o, i]),
            _ => t.shallow_clone(),
        };
        let (a, b) = (flat(&down.1), flat(&up.1));
        let wrong = |(tensor, t): &(String, Tensor), expected: [i64; 2]| {
            let (tensor, found, expected) = (tensor.clone(), t.size(), expected.to_vec());
            WeightsError::Shape { file: file(), tensor, found, expected }
        };
        let rank = a.size().first().copied().unwrap_or(-1);
        if a.size() != [rank, d_in] {
            return Err(wrong(down, [rank, d_in]).into());
        }
        if b.size() != [d_out, rank] {
            return Err(wrong(up, [d_out, rank]).into());
        }
        ensure!(rank > 0, "{}: `{}` has rank 0", self.name, down.0);
        Ok((a, b))
    }
}

/// The two halves of the rows in the other order.
pub(crate) fn swap(t: &Tensor) -> Tensor {
    let (rows, half) = (t.size()[0], t.size()[0] / 2);
    Tensor::cat(&[t.narrow(0, half, rows - half), t.narrow(0, 0, half)], 0)
}

/// Ranks and alphas from the configuration, or from the file's own numbers.
fn finish(
    found: BTreeMap<String, Loaded>,
    config: Option<PeftConfig>,
    linears: &[LinearShape],
    name: &str,
    notes: &mut Vec<String>,
) -> Result<Lora> {
    let mut pairs = BTreeMap::new();
    let unsaid = found.values().all(|f| f.alpha.is_none());
    let peft = found.values().any(|f| f.stem.starts_with("base_model.model."));
    for (module, Loaded { a, b, alpha, stem }) in found {
        let rank = a.size()[0];
        let alpha = match &config {
            Some(config) => {
                let (r, by_config) = config.of_module(&module);
                ensure!(
                    r == rank,
                    "{name}: `{stem}` has rank {rank} by its tensors, {r} by its configuration: they do not belong together"
                );
                ensure!(
                    !config.names_targets() || config.targets(&module),
                    "{name}: `{stem}` has tensors, and its configuration does not name it as a target: peft would not use them"
                );
                let differs = |a: f64| (a - by_config).abs() > 1e-6 * by_config.abs();
                if let Some(own) = alpha.filter(|a| differs(*a)) {
                    bail!("{name}: alpha of `{stem}` is {own} by its tensor, {by_config} by its configuration");
                }
                by_config
            }
            None => alpha.unwrap_or(rank as f64),
        };
        ensure!(alpha.is_finite() && alpha != 0.0, "{name}: alpha of `{stem}` is {alpha}: the adapter changes nothing");
        pairs.insert(module, Pair { a, b, alpha });
    }
    if let Some(l) = config.as_ref().and_then(|c| c.lacking(linears, |m| pairs.contains_key(m))) {
        let (tensor, expected) = (format!("{}.lora_A.weight", l.name), vec![-1, l.d_in]);
        let hint = "; its configuration names it as a target; -1 is the rank".to_owned();
        return Err(WeightsError::Missing { file: name.to_owned(), tensor, expected, hint }.into());
    }
    if config.is_none() && unsaid && peft {
        notes.push(format!(
            "{name}: names as in a peft folder, but no adapter_config.json beside it: alpha is taken to be the rank"
        ));
    }
    let stabilised = config.as_ref().is_some_and(|c| c.stabilised);
    let listed = config.and_then(|c| c.listed());
    Ok(Lora::read(pairs, stabilised, listed, linears))
}
