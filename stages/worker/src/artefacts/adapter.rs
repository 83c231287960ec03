//! Adapters as artefacts: a peft folder, and beside it what it belongs to (`origin.rs`).

use crate::artefacts::origin::{ORIGIN, Origin};
use crate::runtime::pipeline::Pipeline;
use crate::runtime::unfit::unfit;
use anyhow::{Context as _, Result};
use opdflow_api::warning::NO_CHANGE;
use opdflow_api::{Fault, StageContext};
use opdflow_io::file;
use opdflow_kinds::model::model_fit;
use opdflow_kinds::model::shape::Shape;
use opdflow_models::finite::first_broken;
use opdflow_models::lora::Lora;
use opdflow_models::rng::derive;
use opdflow_training::idle::changes_nothing;
use std::path::Path;
use tch::{Tensor, no_grad};

/// A fresh adapter of this shape for the model.
///
/// # Errors
/// No module of the model is a target.
pub fn fresh(shape: &Shape, pipeline: &Pipeline, seed: u64) -> Result<Lora> {
    let model = pipeline.network.architecture();
    let config = shape.config(model);
    // Of a base that is made in the same recipe nothing was known before.
    if let Some(fault) = model_fit::shape(model, shape).into_iter().next() {
        let found = Fault::user(format!("`{}`: {}", fault.path, fault.message));
        return Err(match fault.help {
            Some(help) => found.help(help),
            None => found,
        }
        .into());
    }
    Lora::init(&config, &model.linears(), seed, pipeline.canvas.device).map_err(|e| Fault::about(&e).into())
}

/// A copy of `lora` with the first of `values` in place of its own parameters, in their order.
pub fn with_values(lora: &Lora, values: &[Tensor]) -> Lora {
    let copy = lora.detached();
    no_grad(|| copy.parameters().iter_mut().zip(values).for_each(|(mine, value)| mine.copy_(value)));
    copy
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
    with_values(lora, values).save(folder)?;
    origin.write(folder)
}

/// Reads an adapter for the model in `pipeline`.
///
/// # Errors
/// It belongs to another base, lacks tensors, or is damaged.
pub fn load(folder: &Path, pipeline: &Pipeline, port: &str) -> Result<Lora> {
    if let Ok(text) = file::read_text(&folder.join(ORIGIN), file::DESCRIPTION) {
        let origin: Origin = serde_json::from_str(&text).with_context(|| folder.join(ORIGIN).display().to_string())?;
        if origin.base != pipeline.base {
            let fault = Fault::user(format!(
                "the adapter on `{port}` was trained on base {}, but the base here is {}",
                origin.base.short(),
                pipeline.base.short()
            ));
            return Err(fault.help("give the stage the base that the adapter was trained on").into());
        }
    }
    let model = pipeline.network.architecture();
    Lora::load(folder, &model.linears(), pipeline.canvas.device)
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
    if changes_nothing(&with_values(lora, values)) {
        context.warn(code, format!("{what} is its base: the adapter is of zeros"), 1);
    }
}

/// Reads the adapter on an input port.
///
/// # Errors
/// As for [`load`]; nothing on the port.
pub fn input(context: &StageContext, port: &str, pipeline: &Pipeline) -> Result<Lora> {
    let lora = load(&context.input(port)?, pipeline, port)?;
    warn_if_idle(context, &lora, NO_CHANGE, &format!("the adapter on `{port}`"));
    Ok(lora)
}

/// The adapter on an input port, or a fresh one of this shape where nothing is connected. It takes gradients.
///
/// # Errors
/// As for [`input`] and [`fresh`].
pub fn trainable(context: &StageContext, port: &str, shape: &Shape, pipeline: &Pipeline) -> Result<Lora> {
    if context.maybe_input(port)?.is_none() {
        return fresh(shape, pipeline, derive(context.job().seed, "lora", 0));
    }
    let lora = input(context, port, pipeline)?;
    lora.set_trainable(true);
    Ok(lora)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artefacts::origin::{family_of, trained_on};
    use opdflow_api::FaultClass;
    use opdflow_api::cache::Digest;
    use opdflow_models::families::FAMILIES;
    use opdflow_models::lora::LoraConfig;
    use opdflow_models::nn::LinearShape;
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
