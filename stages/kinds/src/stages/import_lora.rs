//! `import_lora`: an adapter of the user's own, as a teacher or a student.

use crate::code;
use crate::model::{adapter_doubts, model_fit, model_folder};
use anyhow::Result;
use opdflow_api::cache::Memo;
use opdflow_api::port::{Input, Output};
use opdflow_api::{Asset, Code, Description, Doubt, Foreseen, ParamFault, Ports, Stage, Work};
use opdflow_io::file;
use opdflow_spec::adapter as adapter_files;
use opdflow_spec::adapter::Files;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The stage kind.
pub struct ImportLora;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the schema has the words of a parameter's own type")]
pub struct Params {
    /// A folder with adapter_config.json and adapter_model.safetensors, or a .safetensors file; relative to the recipe. The
    /// key holds its content, not its path.
    pub source: PathBuf,
}

impl Stage for ImportLora {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "import_lora",
            semantics: 2,
            about: "Reads an adapter of your own: a peft folder, or a single file of diffusers, sd-scripts (kohya), ComfyUI or OneTrainer. It is checked against the base: an adapter for another model is refused.",
            inputs: const { &[Input::one("base", &["model"], "the base model that the adapter belongs to")] },
            outputs: const { &[Output::new("lora", "lora", "the adapter as a peft folder, f32").result()] },
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
                        relative to the recipe; docs/how-to/adapters.md lists the forms";
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
}

/// The files of an adapter, under the names of their assets.
pub fn listed(files: &Files) -> Vec<(&'static str, &Path)> {
    match &files.config {
        Some(config) => vec![("lora.config", config), ("lora.weights", &files.weights)],
        None => vec![("lora", &files.weights)],
    }
}
