//! `base_model`: where everything begins.

use crate::bundle;
use anyhow::{Context as _, Result};
use opdflow_flow::pipeline::Folder;
use opdflow_flow::weights::Weights;
use opdflow_stage::cache::Digest;
use opdflow_stage::port::Output;
use opdflow_stage::{Asset, Description, Fault, ParamDoc, ParamFault, Stage, StageContext};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tch::{Device, Kind};

/// The stage kind.
pub struct BaseModel;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    source: String,
}

impl Stage for BaseModel {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "base_model",
            semantics: 1,
            about: "A model folder in diffusers layout: the miniature that is part of the program, or your own.",
            inputs: &[],
            outputs: const { &[Output::new("model", "model", "the folder")] },
            params: &[ParamDoc {
                name: "source",
                about: "`bundled:mini`, or a folder relative to the recipe; the key holds its content, not its path",
            }],
            outside_key: &["source"],
            seeded: false,
            numeric: false,
        }
    }

    fn assets(&self, params: &Params, folder: &Path) -> Result<Vec<Asset>, ParamFault> {
        let digest = if let Some(bundle) = bundle::named(&params.source) {
            if !bundle.is_whole() {
                return Err(ParamFault::new("source", "this build holds the miniature's layout but not its weights")
                    .help("run recipes/mini_base.yaml to make them"));
            }
            bundle.digest()
        } else if let Some(name) = params.source.strip_prefix("bundled:") {
            return Err(
                ParamFault::new("source", format!("nothing is bundled as `{name}`")).help("there is `bundled:mini`")
            );
        } else {
            let path = folder.join(&params.source);
            digest(&path).map_err(|e| {
                ParamFault::new("source", format!("{e:#}"))
                    .help("expected a folder in diffusers layout, relative to the recipe")
            })?
        };
        Ok(vec![Asset { name: "model".to_owned(), digest }])
    }

    fn run(&self, params: Params, context: &mut StageContext) -> Result<()> {
        let out = context.output("model");
        match bundle::named(&params.source) {
            Some(bundle) => bundle.place(&out, |_| true)?,
            None => {
                // Checked where it lies, so that a fault is named by the user's own path and no broken copy is kept.
                let folder = context.job().folder.join(&params.source);
                check(&folder).map_err(|e| Fault::user(format!("{e:#}")).help("download or export the model again"))?;
                bundle::copy_folder(&folder, &out, |_| true)?;
            }
        }
        Folder::open(&out).map_err(|e| Fault::user(format!("{e:#}")))?;
        Ok(())
    }
}

/// Whether the layout is there and every file of weights is as long as its header says. Which tensors a model needs
/// is known only once it is built.
fn check(folder: &Path) -> Result<()> {
    Folder::open(folder)?;
    for relative in bundle::files_below(folder)? {
        if !bundle::is_layout(&relative) {
            Weights::load(folder.join(relative), Device::Cpu, Kind::Float)?;
        }
    }
    Ok(())
}

/// Digest of a folder by content.
fn digest(folder: &Path) -> Result<Digest> {
    let files = bundle::files_below(folder)?;
    anyhow::ensure!(
        files.iter().any(|f| f == Path::new("model_index.json")),
        "{} has no model_index.json",
        folder.display()
    );
    let listed = files
        .into_par_iter()
        .map(|relative| {
            let digest = Digest::of_file(&folder.join(&relative)).with_context(|| relative.display().to_string())?;
            Ok((relative, digest))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(bundle::listing_digest(listed.iter().map(|(p, d)| (p.as_path(), *d))))
}
