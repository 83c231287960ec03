//! A single file of Stable Diffusion 3 or 3.5 under the original names: the transformer, mostly the autoencoder, and in some
//! files the text encoders. It has neither configurations nor tokenizers.

use super::derive::Shapes;
use super::{tensor, vae};
use crate::family::{Family, SingleFile};
use crate::weights::{self, LayoutOf, Place};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A part of a model that a single file can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilePart {
    /// `transformer/`.
    Transformer,
    /// `vae/`.
    Vae,
    /// `text_encoder/`.
    ClipL,
    /// `text_encoder_2/`.
    ClipG,
    /// `text_encoder_3/`.
    T5,
}

impl FilePart {
    /// The part that lies in the folder of this name in diffusers' layout.
    pub fn of_folder(name: &str) -> Option<FilePart> {
        Some(match name {
            "transformer" => FilePart::Transformer,
            "vae" => FilePart::Vae,
            "text_encoder" => FilePart::ClipL,
            "text_encoder_2" => FilePart::ClipG,
            "text_encoder_3" => FilePart::T5,
            _ => return None,
        })
    }

    /// Beginnings of names, and a name behind one of them that says that the part is there.
    fn marks(self) -> (&'static [&'static str], &'static str) {
        match self {
            FilePart::Transformer => {
                (&["model.diffusion_model.", "diffusion_model.", ""], "joint_blocks.0.x_block.attn.qkv.weight")
            }
            FilePart::Vae => (&["first_stage_model.", "vae."], "decoder.conv_in.weight"),
            FilePart::ClipL => {
                (&["text_encoders.clip_l.transformer."], "text_model.embeddings.position_embedding.weight")
            }
            FilePart::ClipG => {
                (&["text_encoders.clip_g.transformer."], "text_model.embeddings.position_embedding.weight")
            }
            FilePart::T5 => (&["text_encoders.t5xxl.transformer."], "shared.weight"),
        }
    }
}

/// A single file whose header was read.
pub struct OneFile {
    family: &'static dyn Family,
    path: PathBuf,
    shapes: BTreeMap<String, Vec<i64>>,
}

impl SingleFile for OneFile {
    fn family(&self) -> &'static dyn Family {
        self.family
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn has(&self, part: &str) -> bool {
        FilePart::of_folder(part).is_some_and(|part| self.holds(part))
    }

    fn parameters(&self, part: &str) -> u64 {
        let count = |part| self.own(part).map(|(_, _, shape)| shape.iter().product::<i64>().max(0) as u64).sum();
        FilePart::of_folder(part).map_or(0, count)
    }

    fn check(&self, part: &str) -> Result<()> {
        FilePart::of_folder(part).map_or(Ok(()), |part| self.check_part(part))
    }

    fn config(&self, part: &str) -> Result<Value> {
        let known = FilePart::of_folder(part).with_context(|| format!("a single file has no `{part}`"))?;
        self.config_of(known)
    }
}

impl OneFile {
    /// The file at `path` with tensors of these shapes; nothing if it holds no transformer under the original names.
    pub fn of(family: &'static dyn Family, path: &Path, shapes: &BTreeMap<String, Vec<i64>>) -> Option<OneFile> {
        let file = OneFile { family, path: path.to_owned(), shapes: shapes.clone() };
        file.holds(FilePart::Transformer).then_some(file)
    }

    /// Whether it holds a part.
    pub fn holds(&self, part: FilePart) -> bool {
        self.prefix(part).is_some()
    }

    fn prefix(&self, part: FilePart) -> Option<&'static str> {
        let (prefixes, mark) = part.marks();
        prefixes.iter().find(|p| self.shapes.contains_key(&format!("{p}{mark}"))).copied()
    }

    /// Names of a part's tensors, as they are in the file.
    fn own(&self, part: FilePart) -> impl Iterator<Item = (&str, &str, &Vec<i64>)> {
        let prefix = self.prefix(part);
        self.shapes.iter().filter_map(move |(name, shape)| {
            let rest = name.strip_prefix(prefix?)?;
            (!foreign_to(part, prefix?, name)).then_some((name.as_str(), rest, shape))
        })
    }

    /// Whether a part's tensors are in number formats that are read here.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check_part(&self, part: FilePart) -> Result<()> {
        let prefix = self.prefix(part).unwrap_or_default();
        weights::check(&self.path, |name| name.starts_with(prefix) && !foreign_to(part, prefix, name))
    }

    /// A part's configuration by the shapes of its tensors.
    ///
    /// # Errors
    /// A tensor that tells is missing.
    pub fn config_of(&self, part: FilePart) -> Result<Value> {
        let shapes = Shapes(self.own(part).map(|(_, rest, shape)| (rest.to_owned(), shape.clone())).collect());
        match part {
            FilePart::Transformer => shapes.transformer(),
            FilePart::Vae => shapes.vae(),
            FilePart::ClipL => shapes.clip(false),
            FilePart::ClipG => shapes.clip(true),
            FilePart::T5 => shapes.t5(),
        }
        .with_context(|| self.path.display().to_string())
    }

    /// From diffusers' names of a part's tensors to where they lie in the file, for a model of this configuration.
    ///
    /// # Errors
    /// The part is not there.
    pub fn layout(&self, part: FilePart, config: &Value) -> Result<LayoutOf> {
        let prefix = self.prefix(part).with_context(|| format!("{}: holds no {part:?}", self.path.display()))?;
        let size = |key: &str| config.get(key).and_then(Value::as_i64).unwrap_or_default();
        Ok(match part {
            FilePart::Transformer => {
                let layers = size("num_layers");
                Box::new(move |name| tensor(name, layers, prefix))
            }
            FilePart::Vae => {
                let levels = config.get("block_out_channels").and_then(Value::as_array).map_or(0, Vec::len);
                let q = self.shapes.get(&format!("{prefix}encoder.mid.attn_1.q.weight"));
                let pixels = q.is_some_and(|shape| shape.len() == 4);
                Box::new(move |name| vae::tensor(name, levels, prefix, pixels))
            }
            FilePart::ClipL | FilePart::ClipG | FilePart::T5 => {
                Box::new(move |name| Place::whole(format!("{prefix}{name}")))
            }
        })
    }

    /// Whether a tensor of the file that no module asked for is one of other parts, or one that says nothing.
    pub fn may_be_left(&self, part: FilePart, name: &str) -> bool {
        let Some(prefix) = self.prefix(part) else { return true };
        let silent = ["position_ids", "encoder.embed_tokens.weight", "logit_scale"].iter().any(|s| name.ends_with(s));
        let projection = part == FilePart::ClipL && name.ends_with("text_projection.weight");
        !name.starts_with(prefix) || foreign_to(part, prefix, name) || silent || projection
    }
}

/// Whether a name that begins with a part's prefix belongs to others after all: a transformer may have none.
fn foreign_to(part: FilePart, prefix: &str, name: &str) -> bool {
    let others = ["first_stage_model.", "vae.", "text_encoders.", "model_ema.", "cond_stage_model."];
    part == FilePart::Transformer && prefix.is_empty() && others.iter().any(|o| name.starts_with(o))
}
