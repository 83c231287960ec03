//! Adapters as artefacts: a peft folder, and beside it the digest of the base that it belongs to.

use crate::model_fit;
use crate::studio::Studio;
use crate::unfit::unfit;
use anyhow::{Context as _, Result};
use opdflow_io::file;
use opdflow_models::families::{self, FAMILIES};
use opdflow_models::family::Family;
use opdflow_models::finite::first_broken;
use opdflow_models::lora::{Lora, LoraConfig};
use opdflow_models::rng::derive;
use opdflow_stage::cache::Digest;
use opdflow_stage::warning::NO_CHANGE;
use opdflow_stage::{Fault, StageContext};
use opdflow_training::idle::changes_nothing;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;
use tch::{Tensor, no_grad};

/// The file beside the peft files.
const ORIGIN: &str = "opdflow.json";

/// What an adapter belongs to: the file beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    base: Digest,
    /// The class of the base's family, which tells how other programs call the adapter's layers. Files from before there were
    /// several are of the first, and those of the first say nothing still.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    family: String,
}

fn first() -> String {
    FAMILIES[0].class().to_owned()
}

fn is_first(family: &str) -> bool {
    family == FAMILIES[0].class()
}

impl Origin {
    /// Of a base and its family.
    pub fn of(base: Digest, family: &dyn Family) -> Self {
        Self { base, family: family.class().to_owned() }
    }
}

/// Rank, scale and place of the adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Shape {
    /// Inner dimension.
    #[schemars(range(min = 1, max = 16_384))]
    pub rank: i64,
    /// The adapter's output is multiplied by `alpha / rank`.
    #[schemars(range(max = 1e6), extend("exclusiveMinimum" = 0))]
    pub alpha: f64,
    /// Module names, matched by their last components as in peft.
    #[schemars(length(min = 1), inner(length(min = 1)))]
    pub targets: Vec<String>,
}

impl Default for Shape {
    /// The papers': rank 32, alpha 64, the eight projections of the joint attention.
    fn default() -> Self {
        let LoraConfig { rank, alpha, targets } = LoraConfig::joint_attention(32, 64.0);
        Self { rank, alpha, targets }
    }
}

impl Shape {
    /// A fresh adapter of this shape for the model.
    ///
    /// # Errors
    /// No module of the model is a target.
    pub fn fresh(&self, studio: &Studio, seed: u64) -> Result<Lora> {
        let config = LoraConfig { rank: self.rank, alpha: self.alpha, targets: self.targets.clone() };
        let model = studio.network.architecture();
        // Of a base that is made in the same recipe nothing was known before.
        if let Some(fault) = model_fit::shape(model, self).into_iter().next() {
            let found = Fault::user(format!("`{}`: {}", fault.path, fault.message));
            return Err(match fault.help {
                Some(help) => found.help(help),
                None => found,
            }
            .into());
        }
        Lora::init(&config, &model.linears(), seed, studio.canvas.device).map_err(|e| Fault::about(&e).into())
    }
}

/// Writes `lora` with `values` in place of its own parameters, in their order.
///
/// # Errors
/// A value that is not finite; the disk is full.
pub fn save(lora: &Lora, values: &[Tensor], origin: &Origin, folder: &Path) -> Result<()> {
    // Weights are watched while they are trained; merged ones, or averages of very large ones, can still overflow.
    if let Some(place) = first_broken(values) {
        let name = &lora.named()[place].0;
        return Err(Fault::not_finite(format!("the adapter's tensor `{name}` is not finite"))
            .help("lower the learning rate, or clip harder")
            .into());
    }
    let copy = lora.detached();
    no_grad(|| copy.parameters().iter_mut().zip(values).for_each(|(mine, value)| mine.copy_(value)));
    copy.save(folder)?;
    let origin = serde_json::to_string_pretty(origin)? + "\n";
    std::fs::write(folder.join(ORIGIN), origin).with_context(|| format!("writing {}", folder.join(ORIGIN).display()))
}

/// The base that an adapter was trained on, where a file beside it says so.
pub fn trained_on(folder: &Path) -> Option<Digest> {
    let text = file::read_text(&folder.join(ORIGIN), file::DESCRIPTION).ok()?;
    Some(serde_json::from_str::<Origin>(&text).ok()?.base)
}

/// The family of the base that an adapter of ours was trained on.
///
/// # Errors
/// It is none that this program knows.
pub fn family_of(folder: &Path) -> Result<&'static dyn Family> {
    let text = file::read_text(&folder.join(ORIGIN), file::DESCRIPTION).ok();
    let named = text.and_then(|text| Some(serde_json::from_str::<Origin>(&text).ok()?.family));
    let class = named.unwrap_or_else(first);
    families::of_class(&class).with_context(|| {
        format!(
            "the adapter belongs to a base of the family {class}, which this program does not know; there are {}",
            families::known()
        )
    })
}

/// Puts the file that names the base of the adapter in `from`, if there is one, beside the adapter in `to`.
///
/// # Errors
/// It cannot be copied.
pub fn copy_origin(from: &Path, to: &Path) -> Result<()> {
    let file = from.join(ORIGIN);
    if file.exists() {
        std::fs::copy(&file, to.join(ORIGIN)).with_context(|| format!("copying {}", file.display()))?;
    }
    Ok(())
}

/// Reads an adapter for the model in `studio`.
///
/// # Errors
/// It belongs to another base, lacks tensors, or is damaged.
pub fn load(folder: &Path, studio: &Studio, port: &str) -> Result<Lora> {
    if let Ok(text) = file::read_text(&folder.join(ORIGIN), file::DESCRIPTION) {
        let origin: Origin = serde_json::from_str(&text).with_context(|| folder.join(ORIGIN).display().to_string())?;
        if origin.base != studio.base {
            let fault = Fault::user(format!(
                "the adapter on `{port}` was trained on base {}, but the base here is {}",
                origin.base.short(),
                studio.base.short()
            ));
            return Err(fault.help("give the stage the base that the adapter was trained on").into());
        }
    }
    let model = studio.network.architecture();
    Lora::load(folder, &model.linears(), studio.canvas.device)
        .map_err(|e| unfit(&e.context(format!("the adapter on `{port}`"))).into())
}

/// Warns of an adapter that changes nothing. `what`: which it is, such as `the adapter on `lora``.
pub fn warn_if_idle(context: &StageContext, lora: &Lora, code: &str, what: &str) {
    if changes_nothing(lora) {
        context.warn(code, format!("{what} changes nothing: it is of zeros"), 1);
    }
}

/// Warns of a result that changes nothing, with these values in place of the adapter's own.
pub fn warn_if_base(context: &StageContext, lora: &Lora, values: &[Tensor], code: &str, what: &str) {
    let copy = lora.detached();
    no_grad(|| copy.parameters().iter_mut().zip(values).for_each(|(mine, value)| mine.copy_(value)));
    if changes_nothing(&copy) {
        context.warn(code, format!("{what} is its base: the adapter is of zeros"), 1);
    }
}

/// Reads the adapter on an input port.
///
/// # Errors
/// As for [`load`]; nothing on the port.
pub fn input(context: &StageContext, port: &str, studio: &Studio) -> Result<Lora> {
    let lora = load(&context.input(port)?, studio, port)?;
    warn_if_idle(context, &lora, NO_CHANGE, &format!("the adapter on `{port}`"));
    Ok(lora)
}

/// The adapter on an input port, or a fresh one of this shape where nothing is connected. It takes gradients.
///
/// # Errors
/// As for [`input`] and [`Shape::fresh`].
pub fn trainable(context: &StageContext, port: &str, shape: &Shape, studio: &Studio) -> Result<Lora> {
    if context.maybe_input(port)?.is_none() {
        return shape.fresh(studio, derive(context.job().seed, "lora", 0));
    }
    let lora = input(context, port, studio)?;
    lora.set_trainable(true);
    Ok(lora)
}

#[cfg(test)]
mod tests {
    use super::*;
    use opdflow_models::nn::LinearShape;
    use opdflow_stage::FaultClass;
    use tch::Device;

    /// The last step of a training can overflow with no gradient after it to tell.
    #[test]
    fn what_is_not_finite_is_not_kept() {
        let linears = [LinearShape { name: "x.attn.to_q".into(), d_in: 6, d_out: 5 }];
        let lora = Lora::init(&LoraConfig::joint_attention(2, 4.0), &linears, 1, Device::Cpu).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (out, base) = (folder.path().join("lora"), Digest::of(b"base"));
        let origin = Origin::of(base, FAMILIES[0]);
        let mut values: Vec<Tensor> = lora.parameters().iter().map(|p| p.detach().copy()).collect();
        save(&lora, &values, &origin, &out).unwrap();
        assert_eq!(trained_on(&out), Some(base));
        // As before there were families.
        let text = std::fs::read_to_string(out.join(ORIGIN)).unwrap();
        assert_eq!(text, format!("{{\n  \"base\": \"{base}\"\n}}\n"));
        assert_eq!(family_of(&out).unwrap().class(), FAMILIES[0].class());
        std::fs::write(out.join(ORIGIN), format!(r#"{{"base": "{base}", "family": "OtherPipeline"}}"#)).unwrap();
        assert!(family_of(&out).err().unwrap().to_string().contains("family OtherPipeline"));
        values[1] = values[1].full_like(f64::INFINITY);
        let error = save(&lora, &values, &origin, &folder.path().join("other")).unwrap_err();
        assert_eq!(Fault::class_of(&error), FaultClass::NotFinite);
        assert!(format!("{error:#}").contains("x.attn.to_q.lora_B"), "{error:#}");
        assert!(!folder.path().join("other").exists());
    }
}
