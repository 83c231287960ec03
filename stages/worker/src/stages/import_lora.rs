//! `import_lora` at work: an adapter of the user's own, as a teacher or a student.

use crate::artefacts::origin::Origin;
use crate::artefacts::{adapter, outside};
use crate::runtime::unfit;
use anyhow::{Context as _, Result};
use opdflow_api::cache::Digest;
use opdflow_api::warning::NO_CHANGE;
use opdflow_api::{Fault, StageContext};
use opdflow_kinds::stages::import_lora::{Params, listed};
use opdflow_models::adapter::Files;
use opdflow_models::family::Role;
use opdflow_models::{adapter as adapter_files, families};
use tch::{Device, Kind};

/// Reads an adapter in any published form, holds it against the base and writes it as a peft folder.
///
/// # Errors
/// A fault says whose it is; anything else is a bug.
pub fn run(params: Params, context: &mut StageContext) -> Result<()> {
    let source = context.job().folder.join(&params.source);
    let base = context.object("base").context("a model on no port")?.digest;
    let needed = families::needed(&[Role::Network, Role::Scheduler]);
    let folder = context.input_parts("base", &needed.iter().map(String::as_str).collect::<Vec<_>>())?;
    let (network, _) = families::open(folder, None)
        .and_then(|folder| folder.network(Device::Cpu, Kind::Half))
        .map_err(|e| unfit::unfit(&e))?;
    let model = network.architecture();
    let short = base.short();
    let read = adapter_files::read(&source, &model.linears(), Device::Cpu).map_err(|e| {
        unfit::broken(&e, "")
            .unwrap_or_else(|| Fault::user(format!("this adapter does not fit the base {short}: {e:#}")).help(UNFIT))
    })?;
    for (name, path) in listed(&Files::of(&source).map_err(|e| Fault::about(&e))?) {
        outside::expect(context, name, Digest::of_file(path)?, path)?;
    }
    read.notes.iter().for_each(|note| context.say(format!("note: {note}")));
    let lora = read.lora;
    adapter::warn_if_idle(context, &lora, NO_CHANGE, "the adapter");
    adapter::save(&lora, &lora.parameters(), &Origin::of(base, model.family()), &context.output("lora"))
}

const UNFIT: &str = "name the base that the adapter was trained on, if it is another; docs/how-to/adapters.md says which forms are read";
