//! Adapters in the forms that other programs read.

use super::{Naming, PACKED, SINGLE, qkv, swap};
use crate::linears::LinearShape;
use crate::lora::{Lora, Pair};
use crate::weights::{Cut, save_tensors_with};
use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

/// A published form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A folder that `PeftModel.from_pretrained` takes, and every stage here.
    Peft,
    /// A file that `load_lora_weights` of diffusers' pipelines takes, with peft's configuration in its header.
    Diffusers,
    /// A file of sd-scripts (`networks.lora_*`): original names with underscores, alpha as a tensor.
    Kohya,
    /// A file in the original names with dots, alpha as a tensor, as ComfyUI writes and reads it.
    Comfyui,
}

impl Format {
    /// Writes `lora` with its matrices as `kind`: a folder at `output`, or, where that ends in `.safetensors` and the form is
    /// a single file, that file. `naming` is that of the adapter's family. The parts of q, k and v go into one product under the
    /// original names. Gives the path of what was written.
    ///
    /// # Errors
    /// A peft folder that is to be a file; a family that the program has no form for; a module without a
    /// counterpart; a number that `kind` has no room for; the disk.
    pub fn save(self, lora: &Lora, naming: &dyn Naming, kind: Kind, output: &Path) -> Result<PathBuf> {
        let file = output.extension().is_some_and(|e| e == "safetensors");
        if self == Format::Peft {
            if file {
                bail!("{}: a peft adapter is a folder, and this is the name of a file", output.display());
            }
            lora.save_as(output, kind)?;
            return Ok(output.to_owned());
        }
        let at = if file {
            output.to_owned()
        } else {
            std::fs::create_dir_all(output).with_context(|| format!("cannot make {}", output.display()))?;
            output.join(if self == Format::Diffusers { SINGLE } else { "lora.safetensors" })
        };
        let mut meta = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let tensors = match self {
            Format::Diffusers => {
                meta.insert(PACKED.to_owned(), packed(lora)?);
                lora.named().into_iter().map(|(n, t)| (format!("transformer.{n}"), t, kind)).collect()
            }
            Format::Kohya => {
                let config = lora.config();
                let module = naming.sd_scripts().context(
                    "sd-scripts trains no adapters of this family of models, and has no form for them; take `--format peft`, \
                     `diffusers` or `comfyui`",
                )?;
                meta.insert("ss_network_module".to_owned(), module.to_owned());
                meta.insert("ss_network_dim".to_owned(), config.rank.to_string());
                meta.insert("ss_network_alpha".to_owned(), config.alpha.to_string());
                named_as(lora, naming, kind, |name| format!("lora_unet_{}", name.replace('.', "_")))?
            }
            _ => named_as(lora, naming, kind, |name| format!("diffusion_model.{name}"))?,
        };
        save_tensors_with(&at, &tensors, &meta)?;
        Ok(at)
    }
}

/// peft's configuration as diffusers keeps it in the header.
fn packed(lora: &Lora) -> Result<String> {
    let config = lora.peft_config();
    let fields = config.as_object().context("a configuration that is no object")?;
    let packed: Map<String, Value> = fields.iter().map(|(k, v)| (format!("transformer.{k}"), v.clone())).collect();
    Ok(serde_json::to_string_pretty(&packed)?)
}

/// Tensors under original names: q, k and v together, halves of norms in the original order, alpha for each.
fn named_as(
    lora: &Lora,
    naming: &dyn Naming,
    kind: Kind,
    name: impl Fn(&str) -> String,
) -> Result<Vec<(String, Tensor, Kind)>> {
    type Parts<'a> = (&'static [i64], Vec<Option<(&'a Pair, f64)>>);
    let (mut out, mut fused) = (Vec::new(), BTreeMap::<String, Parts>::new());
    let mut push = |stem: &str, a: Tensor, b: Tensor, alpha: f64| {
        let stem = name(stem);
        out.push((format!("{stem}.alpha"), Tensor::from(alpha as f32), Kind::Float));
        out.push((format!("{stem}.lora_down.weight"), a, kind));
        out.push((format!("{stem}.lora_up.weight"), b, kind));
    };
    for module in lora.modules() {
        let pair = lora.pair(module).context("a module without its pair")?;
        let (rank, scale) = (pair.a.size()[0], lora.scale(pair));
        let layer = LinearShape { name: module.clone(), d_in: pair.a.size()[1], d_out: pair.b.size()[0] };
        let place = naming
            .place(&layer)
            .with_context(|| format!("`{module}` has no counterpart among the original names; take `--format peft`"))?;
        match place.cut.part() {
            Some((n, units)) => {
                let (d_in, d_out) = (pair.a.size()[1], pair.b.size()[0]);
                let rows = units[n] * d_in;
                ensure!(
                    rows == d_out,
                    "`{module}` has {d_out} rows, and a part of {} has {rows}; take `--format peft`",
                    place.name
                );
                let parts = fused.entry(place.name).or_insert((units, vec![None; units.len()]));
                parts.1[n] = Some((pair, scale));
            }
            None => {
                let b = if place.cut == Cut::Swapped { swap(&pair.b) } else { pair.b.shallow_clone() };
                push(&place.name, pair.a.shallow_clone(), b, scale * rank as f64);
            }
        }
    }
    for (stem, (units, parts)) in fused {
        let parts: Vec<_> = parts.iter().map(|p| p.map(|(pair, scale)| (&pair.a, &pair.b, scale))).collect();
        let (a, b, alpha) = qkv::together(&parts, units).context("an empty product")?;
        push(&stem, a, b, alpha);
    }
    out.sort_by(|x, y| x.0.cmp(&y.0));
    Ok(out)
}
