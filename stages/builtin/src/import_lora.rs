//! `import_lora`: an adapter of the user's own, as a teacher or a student.

use crate::{adapter, model_fit, model_folder, outside};
use anyhow::{Context as _, Result};
use opdflow_flow::lora::Lora;
use opdflow_flow::pipeline::Folder;
use opdflow_stage::cache::{Digest, Memo};
use opdflow_stage::port::{Input, Output};
use opdflow_stage::{Asset, Description, Fault, Foreseen, ParamFault, Ports, Stage, StageContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fs::File;
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
            semantics: 1,
            about: "Takes in an adapter of your own: a peft folder, or a single file as diffusers writes it. It is held against the base: an adapter for another model is refused.",
            inputs: const { &[Input::one("base", &["model"], "the base model that the adapter belongs to")] },
            outputs: const { &[Output::new("lora", "lora", "the adapter as a peft folder, f32")] },
            outside_key: &["source"],
            seeded: false,
            numeric: false,
        }
    }

    fn assets(&self, params: &Params, folder: &Path, memo: &Memo) -> Result<Vec<Asset>, Vec<ParamFault>> {
        let (mut assets, mut faults) = (Vec::new(), Vec::new());
        for (name, path) in files(&folder.join(&params.source)) {
            match memo.digest(&path) {
                Ok(digest) => assets.push(Asset { name: name.to_owned(), digest }),
                Err(e) => faults.push(
                    ParamFault::new("source", e.to_string())
                        .help("expected a peft folder or a .safetensors file, relative to the recipe"),
                ),
            }
        }
        if faults.is_empty() { Ok(assets) } else { Err(faults) }
    }

    fn unfit(&self, params: &Params, folder: &Path, _ports: &Ports, inputs: &Foreseen) -> Vec<ParamFault> {
        let Some(sizes) = model_fit::sizes(inputs) else { return Vec::new() };
        let listed = files(&folder.join(&params.source));
        let weights = listed.iter().map(|(_, path)| path).find(|p| p.extension().is_some_and(|e| e == "safetensors"));
        let tensors = weights.and_then(|path| model_folder::shapes(Box::new(File::open(path).ok()?)));
        let wrong = model_fit::adapter(&sizes.transformer, &tensors.unwrap_or_default());
        let help = "name the base that the adapter was trained on, or another adapter";
        wrong.map(|what| ParamFault::new("source", what).help(help)).into_iter().collect()
    }

    fn run(&self, params: Params, context: &mut StageContext) -> Result<()> {
        let source = context.job().folder.join(&params.source);
        let base = context.object("base").context("a model on no port")?.digest;
        let model = Folder::open(context.input_parts("base", &["model_index.json", "transformer"])?)?;
        let (transformer, _) = model.transformer(Device::Cpu, Kind::Half).map_err(|e| Fault::user(format!("{e:#}")))?;
        let lora = Lora::load(&source, &transformer.linears(), Device::Cpu).map_err(|e| {
            Fault::user(format!("this adapter does not fit the base {}: {e:#}", base.short()))
                .help("name the base that the adapter was trained on, or another adapter")
        })?;
        for (name, path) in files(&source) {
            outside::expect(context, name, Digest::of_file(&path)?, &path)?;
        }
        adapter::save(&lora, &lora.parameters(), base, &context.output("lora"))
    }
}

/// The files of an adapter, under the names of their assets.
fn files(source: &Path) -> Vec<(&'static str, PathBuf)> {
    if source.extension().is_some_and(|e| e == "safetensors") {
        return vec![("lora", source.to_owned())];
    }
    vec![
        ("lora.config", source.join("adapter_config.json")),
        ("lora.weights", source.join("adapter_model.safetensors")),
    ]
}
