//! What an adapter of the store belongs to: the digest and the family of its base, in a file beside it.

use anyhow::{Context as _, Result};
use opdflow_api::cache::Digest;
use opdflow_io::file;
use opdflow_models::families::{self, FAMILIES};
use opdflow_models::family::Family;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file beside the peft files.
pub const ORIGIN: &str = "opdflow.json";

/// What an adapter belongs to: the file beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Digest of the base.
    pub base: Digest,
    /// The class of the base's family, which tells how other programs call the adapter's layers. Files from before there were
    /// several are of the first, and those of the first say nothing still.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    family: String,
}

fn first() -> String {
    FAMILIES[0].class().to_owned()
}

fn is_first(family: &str) -> bool {
    family == FAMILIES[0].class()
}

impl Origin {
    /// Of a base and its family.
    pub fn of(base: Digest, family: &dyn Family) -> Self {
        Self { base, family: family.class().to_owned() }
    }

    /// Puts it beside an adapter.
    ///
    /// # Errors
    /// The disk is full.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(folder.join(ORIGIN), text).with_context(|| format!("writing {}", folder.join(ORIGIN).display()))
    }
}

/// The base that an adapter was trained on, where a file beside it says so.
pub fn trained_on(folder: &Path) -> Option<Digest> {
    let text = file::read_text(&folder.join(ORIGIN), file::DESCRIPTION).ok()?;
    Some(serde_json::from_str::<Origin>(&text).ok()?.base)
}

/// The family of the base that an adapter of ours was trained on.
///
/// # Errors
/// It is none that this program knows.
pub fn family_of(folder: &Path) -> Result<&'static dyn Family> {
    let text = file::read_text(&folder.join(ORIGIN), file::DESCRIPTION).ok();
    let named = text.and_then(|text| Some(serde_json::from_str::<Origin>(&text).ok()?.family));
    let class = named.unwrap_or_else(first);
    families::of_class(&class).with_context(|| {
        format!(
            "the adapter belongs to a base of the family {class}, which this program does not know; there are {}",
            families::known()
        )
    })
}

/// Puts the file that names the base of the adapter in `from`, if there is one, beside the adapter in `to`.
///
/// # Errors
/// It cannot be copied.
pub fn copy_origin(from: &Path, to: &Path) -> Result<()> {
    let file = from.join(ORIGIN);
    if file.exists() {
        std::fs::copy(&file, to.join(ORIGIN)).with_context(|| format!("copying {}", file.display()))?;
    }
    Ok(())
}
