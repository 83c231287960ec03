//! `import_lora`: an adapter of the user's own, as a teacher or a student.

use crate::adapter::Origin;
use crate::{adapter, adapter_doubts, code, model_fit, model_folder, outside, unfit};
use anyhow::{Context as _, Result};
use opdflow_io::file;
use opdflow_models::adapter::{self as adapter_files, Files};
use opdflow_models::families;
use opdflow_models::family::Role;
use opdflow_stage::cache::{Digest, Memo};
use opdflow_stage::port::{Input, Output};
use opdflow_stage::warning::NO_CHANGE;
use opdflow_stage::{Asset, Code, Description, Doubt, Fault, Foreseen, ParamFault, Ports, Stage, StageContext, Work};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

/// The stage kind.
pub struct ImportLora;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// A folder with adapter_config.json and adapter_model.safetensors, or a .safetensors file; relative to the recipe. The
    /// key holds its content, not its path.
    source: PathBuf,
}

impl Stage for ImportLora {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "import_lora",
            semantics: 2,
            about: "Takes in an adapter of your own: a peft folder, or a single file of diffusers, sd-scripts (kohya), ComfyUI or OneTrainer. It is held against the base: an adapter for another model is refused.",
            inputs: const { &[Input::one("base", &["model"], "the base model that the adapter belongs to")] },
            outputs: const { &[Output::new("lora", "lora", "the adapter as a peft folder, f32")] },
            outside_key: &["source"],
            seeded: false,
            numeric: false,
        }
    }

    fn code(&self, _params: &Params, _ports: &Ports) -> Code {
        code::of("import_lora", &[code::MODEL, &["stages.files"]])
    }

    /// Bytes, for that is what it moves.
    fn work(&self, params: &Params, folder: &Path, _inputs: &Foreseen) -> Option<Work> {
        let files = Files::of(&folder.join(&params.source)).ok()?;
        let bytes =
            listed(&files).iter().map(|(_, path)| Some(std::fs::metadata(path).ok()?.len())).sum::<Option<u64>>()?;
        Some(Work { operations: bytes as f64, bytes: Some(bytes) })
    }

    fn assets(&self, params: &Params, folder: &Path, memo: &Memo) -> Result<Vec<Asset>, Vec<ParamFault>> {
        let fault = |message: String| ParamFault::new("source", message);
        // What shows without the model: other kinds of adapter, files that are none, starts that changed the base.
        let files = adapter_files::inspect(&folder.join(&params.source)).map_err(|e| {
            let help = "expected a peft folder (adapter_config.json with adapter_model.safetensors) or a .safetensors file, \
                        relative to the recipe; docs/adapters.md lists the forms";
            vec![fault(format!("{e:#}")).help(help)]
        })?;
        let (mut assets, mut faults) = (Vec::new(), Vec::new());
        for (name, path) in listed(&files) {
            match memo.digest(path) {
                Ok(digest) => assets.push(Asset { name: name.to_owned(), digest }),
                Err(e) => faults.push(fault(e.to_string())),
            }
        }
        if faults.is_empty() { Ok(assets) } else { Err(faults) }
    }

    fn doubts(&self, params: &Params, folder: &Path, _inputs: &Foreseen) -> Vec<Doubt> {
        adapter_doubts::doubts(&folder.join(&params.source))
    }

    fn unfit(&self, params: &Params, folder: &Path, _ports: &Ports, inputs: &Foreseen) -> Vec<ParamFault> {
        let Some(model) = model_fit::model(inputs) else { return Vec::new() };
        let files = Files::of(&folder.join(&params.source)).ok();
        let tensors = files.and_then(|files| model_folder::shapes(Box::new(file::open(&files.weights).ok()?)));
        let wrong = model_fit::adapter(&*model.architecture, &tensors.unwrap_or_default());
        let help = "name the base that the adapter was trained on, or another adapter";
        wrong.map(|what| ParamFault::new("source", what).help(help)).into_iter().collect()
    }

    fn run(&self, params: Params, context: &mut StageContext) -> Result<()> {
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
            unfit::broken(&e, "").unwrap_or_else(|| {
                Fault::user(format!("this adapter does not fit the base {short}: {e:#}")).help(UNFIT)
            })
        })?;
        for (name, path) in listed(&Files::of(&source).map_err(|e| Fault::about(&e))?) {
            outside::expect(context, name, Digest::of_file(path)?, path)?;
        }
        read.notes.iter().for_each(|note| context.say(format!("note: {note}")));
        let lora = read.lora;
        adapter::warn_if_idle(context, &lora, NO_CHANGE, "the adapter");
        adapter::save(&lora, &lora.parameters(), &Origin::of(base, model.family()), &context.output("lora"))
    }
}

const UNFIT: &str =
    "name the base that the adapter was trained on, if it is another; docs/adapters.md says which forms are read";

/// The files of an adapter, under the names of their assets.
fn listed(files: &Files) -> Vec<(&'static str, &Path)> {
    match &files.config {
        Some(config) => vec![("lora.config", config), ("lora.weights", &files.weights)],
        None => vec![("lora", &files.weights)],
    }
}
