//! Where an image comes from, as text in its file: settings, and digests of base and adapter.

use super::size::Size;
use crate::artefacts::origin::trained_on;
use anyhow::{Context as _, Result};
use opdflow_api::cache::{Digest, TreeEntry, tree_digest};
use opdflow_api::{Fault, GenerateOrder};
use opdflow_kinds::model::model_folder;
use opdflow_kinds::model::model_folder::Own;
use opdflow_models::family::Role;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// Digests of what is outside: those that base and adapter have, or would have, in a store.
pub(super) struct Origin {
    base: Digest,
    /// Whether all of the base was read.
    whole: bool,
    /// The text encoders that `--no-t5` leaves out.
    encoders: Vec<&'static str>,
    lora: Option<Digest>,
}

/// Digests that are being taken.
pub(super) struct Look(JoinHandle<Result<Origin>>);

impl Look {
    /// Waits for them.
    pub(super) fn found(self) -> Result<Origin> {
        self.0.join().map_err(|_| anyhow::anyhow!("taking digests panicked"))?
    }
}

impl Origin {
    /// Finds the files that will be read, and begins to take their digests beside the other work.
    ///
    /// # Errors
    /// Files are missing, or no regular ones.
    pub(super) fn look(order: &GenerateOrder, base: &Path) -> Result<Look> {
        let droppable = model_folder::droppable(base);
        let files = model_folder::files_of(base, order.variant.as_deref(), order.no_t5).map_err(|missing| {
            let t5 = missing.iter().all(|m| droppable.iter().any(|part| m.contains(part.name)));
            let help = if t5 { "`--no-t5` does without that encoder" } else { "download or export the model again" };
            Fault::user(missing.join("\n")).help(help)
        })?;
        let (lora, whole) = (order.lora.clone(), !order.no_t5);
        Ok(Look(std::thread::spawn(move || {
            let lora = lora.map(|path| adapter_digest(&path)).transpose()?;
            let encoders = droppable.iter().filter(|part| part.role == Role::Encoder).map(|part| part.name).collect();
            Ok(Origin { base: digest(files)?, whole, encoders, lora })
        })))
    }

    /// What the user should know: an adapter of ours names the base that it was trained on.
    pub(super) fn doubt(&self, lora: Option<&Path>) -> Option<String> {
        let trained = trained_on(lora?)?;
        if !self.whole {
            let base = trained.short();
            return Some(format!(
                "note: the adapter was trained on base {base}; with `--no-t5` it is not known whether this is it"
            ));
        }
        (trained != self.base).then(|| {
            format!(
                "note: the adapter was trained on base {}, and the base here is {}: expect other images",
                trained.short(),
                self.base.short()
            )
        })
    }

    /// Keywords and words for the file of one image.
    pub(super) fn texts(
        &self,
        order: &GenerateOrder,
        prompt: &str,
        seed: u64,
        guidance: f64,
        size: &Size,
    ) -> Vec<(&'static str, String)> {
        let mut texts = vec![
            ("Software", format!("opdflow {}", env!("CARGO_PKG_VERSION"))),
            ("prompt", prompt.to_owned()),
            ("negative_prompt", order.negative.clone()),
            ("seed", seed.to_string()),
            ("steps", order.steps.to_string()),
            ("guidance", guidance.to_string()),
            ("width", size.width.to_string()),
            ("height", size.height.to_string()),
            ("dtype", order.dtype.clone()),
        ];
        let there = if order.no_t5 { "left out" } else { "as in the base" };
        texts.extend(self.encoders.iter().map(|encoder| (*encoder, there.to_owned())));
        texts.extend([("base", order.base.clone()), ("base_digest", self.base.to_string())]);
        texts.extend(order.max_sequence_length.map(|n| ("max_sequence_length", n.to_string())));
        texts.extend(order.variant.clone().map(|v| ("variant", v)));
        if let (Some(path), Some(digest)) = (&order.lora, self.lora) {
            texts.push(("lora", path.display().to_string()));
            texts.push(("lora_scale", order.lora_scale.to_string()));
            texts.push(("lora_digest", digest.to_string()));
        }
        texts
    }
}

/// The digest of a tree of these files, each under its name in it.
fn digest(files: Vec<Own>) -> Result<Digest> {
    let entry = |Own { name: relative, path: file }: Own| -> Result<TreeEntry> {
        let digest = Digest::of_file(&file).with_context(|| file.display().to_string())?;
        let size = file.metadata().with_context(|| file.display().to_string())?.len();
        Ok(TreeEntry { path: relative.to_string_lossy().replace('\\', "/"), digest, size })
    };
    Ok(tree_digest(files.into_par_iter().map(entry).collect::<Result<_>>()?))
}

/// The digest of an adapter: of the file, or of the weights and descriptions in the folder. What else lies there, such as
/// the checkpoints of its training, is not read.
fn adapter_digest(path: &Path) -> Result<Digest> {
    if !path.is_dir() {
        return Ok(Digest::of_file(path)?);
    }
    let entries = std::fs::read_dir(path).with_context(|| path.display().to_string())?;
    let names = entries.map(|e| Ok(PathBuf::from(e?.file_name()))).collect::<Result<Vec<_>>>()?;
    let own = |name: &PathBuf| {
        name.extension().is_some_and(|e| e == "json" || e == "safetensors") && !path.join(name).is_dir()
    };
    digest(names.into_iter().filter(own).map(|name| Own { path: path.join(&name), name }).collect())
}
