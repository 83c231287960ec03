//! `base_model`: where everything begins.

use crate::code;
use crate::model::model_folder::Sizes;
use crate::model::{bundle, folder, model_folder};
use anyhow::Result;
use opdflow_api::cache::{Digest, Memo};
use opdflow_api::port::Output;
use opdflow_api::warning::IGNORED;
use opdflow_api::{Asset, Code, Description, Doubt, Foreseen, ParamFault, Ports, Stage, Work};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The stage kind.
pub struct BaseModel;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the schema has the words of a parameter's own type")]
pub struct Params {
    /// `bundled:mini`, or a folder or a single .safetensors file (with tokenizers beside it), relative to the recipe; the key
    /// holds its content, not its path.
    #[schemars(length(min = 1))]
    pub source: String,
}

impl Stage for BaseModel {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "base_model",
            semantics: 1,
            about: "A model in diffusers layout or as a single file in the original names: the miniature that is part of the program, or your own.",
            inputs: &[],
            outputs: const { &[Output::new("model", "model", "the folder").result()] },
            outside_key: &["source"],
            seeded: false,
            numeric: false,
        }
    }

    fn code(&self, _params: &Params, _ports: &Ports) -> Code {
        code::of("base_model", &[&["models.layers", "models.pipeline", "stages.files"]])
    }

    /// Bytes, for that is what it moves.
    fn work(&self, params: &Params, folder: &Path, _inputs: &Foreseen) -> Option<Work> {
        let bytes = match bundle::named(&params.source) {
            Some(bundle) => bundle.bytes(),
            None => model_folder::bytes(&folder.join(&params.source))?,
        };
        Some(Work { operations: bytes as f64, bytes: Some(bytes) })
    }

    fn assets(&self, params: &Params, folder: &Path, memo: &Memo) -> Result<Vec<Asset>, Vec<ParamFault>> {
        let fault = |message: String| ParamFault::new("source", message);
        let digest = if let Some(bundle) = bundle::named(&params.source) {
            if !bundle.is_whole() {
                let fault = fault("this build holds the miniature's layout but not its weights".to_owned());
                return Err(vec![fault.help("run recipes/mini_base.yaml to make them")]);
            }
            bundle.digest()
        } else if let Some(name) = params.source.strip_prefix("bundled:") {
            return Err(vec![fault(format!("nothing is bundled as `{name}`")).help("there is `bundled:mini`")]);
        } else {
            digest(&folder.join(&params.source), memo).map_err(|missing| {
                let help = "expected a whole model, a folder in diffusers layout or a single .safetensors file, relative to the \
                            recipe; docs/how-to/sd35.md and docs/how-to/flux1.md say what to download";
                missing.into_iter().map(|m| fault(m).help(help)).collect::<Vec<_>>()
            })?
        };
        Ok(vec![Asset { name: "model".to_owned(), digest }])
    }

    fn foresee(&self, params: &Params, folder: &Path, _inputs: &Foreseen) -> Foreseen {
        let sizes = match bundle::named(&params.source) {
            Some(bundle) => bundle.sizes(),
            None => Sizes::of(&folder.join(&params.source)),
        };
        let known = sizes.and_then(|s| serde_json::to_value(s).ok());
        known.map(|s| ("model".to_owned(), s)).into_iter().collect()
    }

    fn doubts(&self, params: &Params, folder: &Path, _inputs: &Foreseen) -> Vec<Doubt> {
        let unread = match bundle::named(&params.source) {
            Some(_) => Vec::new(),
            None => model_folder::unread(&folder.join(&params.source)),
        };
        let doubt = |part: String| {
            let what = format!("nothing reads the component `{part}` of the model's model_index.json");
            Doubt::new(IGNORED, "source", what, "see that the model does not need it: opdflow computes without it")
        };
        unread.into_iter().map(doubt).collect()
    }
}

/// Digest of a model folder by content, or what is missing in it.
fn digest(folder: &Path, memo: &Memo) -> Result<Digest, Vec<String>> {
    let listed = model_folder::files(folder)?
        .into_par_iter()
        .map(|file| match memo.digest(&file.path) {
            Ok(digest) => Ok((file.name, digest)),
            Err(e) => Err(vec![e.to_string()]),
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(folder::listing_digest(listed.iter().map(|(p, d)| (p.as_path(), *d))))
}
