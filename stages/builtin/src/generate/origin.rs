//! Where a picture comes from, as text in its file: settings, and digests of base and adapter.

use super::Size;
use crate::{adapter, folder, model_folder};
use anyhow::{Context as _, Result};
use opdflow_stage::GenerateOrder;
use opdflow_stage::cache::{Digest, TreeEntry, tree_digest};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// Digests of what is outside: those that base and adapter have, or would have, in a store.
pub(super) struct Origin {
    base: Digest,
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
    /// Begins to take digests, beside the other work.
    pub(super) fn look(order: &GenerateOrder, base: &Path) -> Look {
        let (base, lora) = (base.to_owned(), order.lora.clone());
        Look(std::thread::spawn(move || {
            Ok(Origin { base: base_digest(&base)?, lora: lora.map(|path| digest(&path)).transpose()? })
        }))
    }

    /// What the user should know: an adapter of ours names the base that it was trained on.
    pub(super) fn doubt(&self, lora: Option<&Path>) -> Option<String> {
        let trained = adapter::trained_on(lora?)?;
        (trained != self.base).then(|| {
            format!(
                "note: the adapter was trained on base {}, and the base here is {}: expect other pictures",
                trained.short(),
                self.base.short()
            )
        })
    }

    /// Keywords and words for the file of one picture.
    pub(super) fn texts(
        &self,
        order: &GenerateOrder,
        prompt: &str,
        seed: u64,
        size: &Size,
    ) -> Vec<(&'static str, String)> {
        let mut texts = vec![
            ("Software", format!("opdflow {}", env!("CARGO_PKG_VERSION"))),
            ("prompt", prompt.to_owned()),
            ("negative_prompt", order.negative.clone()),
            ("seed", seed.to_string()),
            ("steps", order.steps.to_string()),
            ("guidance", order.guidance.to_string()),
            ("width", size.width.to_string()),
            ("height", size.height.to_string()),
            ("dtype", order.dtype.clone()),
            ("text_encoder_3", if order.no_t5 { "left out" } else { "as in the base" }.to_owned()),
            ("base", order.base.clone()),
            ("base_digest", self.base.to_string()),
        ];
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

/// The digest that a base has in a store: that of the files that make it. Where one is missing, which a picture may do
/// without, that of all there are.
fn base_digest(base: &Path) -> Result<Digest> {
    match model_folder::files(base) {
        Ok(files) => tree(files.into_iter().map(|f| (f.name, f.path)).collect()),
        Err(_) => digest(base),
    }
}

/// The digest of a file or a folder.
fn digest(path: &Path) -> Result<Digest> {
    if !path.is_dir() {
        return Digest::of_file(path).with_context(|| path.display().to_string());
    }
    tree(folder::files_below(path)?.into_iter().map(|relative| (relative.clone(), path.join(relative))).collect())
}

/// The digest of a tree of files, each under its name in it.
fn tree(files: Vec<(PathBuf, PathBuf)>) -> Result<Digest> {
    let entry = |(relative, file): (PathBuf, PathBuf)| -> Result<TreeEntry> {
        let digest = Digest::of_file(&file).with_context(|| file.display().to_string())?;
        let size = file.metadata().with_context(|| file.display().to_string())?.len();
        Ok(TreeEntry { path: relative.to_string_lossy().replace('\\', "/"), digest, size })
    };
    Ok(tree_digest(files.into_par_iter().map(entry).collect::<Result<_>>()?))
}
