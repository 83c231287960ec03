//! The miniature inside the program: a model folder, its weights included, and the reward models that were trained for it.

use crate::model::folder::listing_digest;
use crate::model::model_folder::Sizes;
use anyhow::{Context as _, Result};
use opdflow_api::cache::Digest;
use std::borrow::Cow;
use std::path::{Path, PathBuf};

include!(concat!(env!("OUT_DIR"), "/mini.rs"));

/// A model folder that is part of the program.
#[derive(Clone, Copy)]
pub struct Bundle(&'static [(&'static str, &'static [u8])]);

/// The bundle that a source such as `bundled:mini` names.
#[must_use]
pub fn named(source: &str) -> Option<Bundle> {
    (source == "bundled:mini").then_some(Bundle(MINI))
}

/// What a source of reward models begins with.
const BUNDLED: &str = "bundled:";

/// The sets of reward models that are part of the program, as recipes name them.
pub const JUDGE_SETS: [&str; 2] = ["bundled:mini", "bundled:mini-heldout"];

/// Files: path below the part's folder, and bytes.
pub type PartFiles = Vec<(&'static str, &'static [u8])>;

/// The files of a part of a reward model of the program, such as `model` of `pickscore` in `bundled:mini`; none if it is not
/// there.
#[must_use]
pub fn judge_part(source: &str, reward: &str, part: &str) -> PartFiles {
    let Some(set) = source.strip_prefix(BUNDLED) else { return Vec::new() };
    let below = format!("{set}/{reward}/{part}/");
    JUDGES.iter().filter_map(|(path, bytes)| Some((path.strip_prefix(below.as_str())?, *bytes))).collect()
}

/// Whether a file of a model folder is layout (configuration, tokenizer) and not weights.
#[must_use]
pub fn is_layout(relative: &Path) -> bool {
    relative.extension().is_none_or(|e| e != "safetensors")
}

/// A file of the layout without what training measures: a VAE's shift and scale. So the layout of a model that was trained
/// from a layout is that layout, and bundling the result does not change the key of what made it.
pub fn unmeasured<'a>(relative: &Path, bytes: &'a [u8]) -> Cow<'a, [u8]> {
    if relative != Path::new("vae/config.json") {
        return Cow::Borrowed(bytes);
    }
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(bytes) {
        Ok(mut config) => {
            config.remove("scaling_factor");
            config.remove("shift_factor");
            Cow::Owned(serde_json::Value::Object(config).to_string().into_bytes())
        }
        Err(_) => Cow::Borrowed(bytes),
    }
}

impl Bundle {
    /// Digest of everything.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest_of(|_| true)
    }

    /// Digest of configuration and tokenizers alone.
    #[must_use]
    pub fn layout_digest(&self) -> Digest {
        let kept = self.0.iter().map(|(p, b)| (Path::new(*p), b)).filter(|(p, _)| is_layout(p));
        listing_digest(kept.map(|(p, b)| (p, Digest::of(&unmeasured(p, b)))))
    }

    fn digest_of(&self, keep: impl Fn(&Path) -> bool) -> Digest {
        listing_digest(self.0.iter().map(|(p, b)| (Path::new(*p), Digest::of(b))).filter(|(p, _)| keep(p)))
    }

    /// What is known of the model, if there are weights.
    #[must_use]
    pub fn sizes(&self) -> Option<Sizes> {
        Sizes::read(&self.0.iter().map(|(p, _)| PathBuf::from(p)).collect::<Vec<_>>(), |wanted| {
            let (_, bytes) = self.0.iter().find(|(p, _)| Path::new(p) == wanted)?;
            Some(Box::new(*bytes) as Box<dyn std::io::Read>)
        })
    }

    /// Bytes of everything.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }

    /// Whether there are weights.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.0.iter().any(|(p, _)| !is_layout(Path::new(p)))
    }

    /// Writes the files that `keep` accepts below `to`.
    ///
    /// # Errors
    /// The disk is full.
    pub fn place(&self, to: &Path, keep: impl Fn(&Path) -> bool) -> Result<()> {
        for (relative, bytes) in self.0 {
            if keep(Path::new(relative)) {
                let path = to.join(relative);
                if let Some(folder) = path.parent() {
                    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
                }
                std::fs::write(&path, bytes).with_context(|| path.display().to_string())?;
            }
        }
        Ok(())
    }
}
