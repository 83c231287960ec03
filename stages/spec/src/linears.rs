//! The linear layers of a model by name and size, and which of them an adapter is for. No tensor is needed for it.

use crate::weights::Place;
use serde::{Deserialize, Serialize};
use std::ops::Deref;

/// A linear layer's place and size: what an adapter needs to know of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// Full module path, as in the checkpoint.
    pub name: String,
    /// Features in.
    pub d_in: i64,
    /// Features out.
    pub d_out: i64,
}

/// What a family's layers are called outside of diffusers.
pub trait Naming: Sync {
    /// Where a layer lies under the names that the family was published with; nothing if it has no counterpart there.
    fn place(&self, layer: &LinearShape) -> Option<Place>;

    /// The module of sd-scripts that trains adapters of this family; nothing if it trains none.
    fn sd_scripts(&self) -> Option<&'static str>;

    /// What names of this family's layers have in them, dots as underscores, and those of most other families have not: to tell
    /// whose an adapter is. A family whose layers have another's mark in their names has it too.
    fn marks(&self) -> &'static [&'static str];
}

/// All linear layers of a model, in the order of its modules, and what else they are called.
#[derive(Clone)]
pub struct Linears {
    layers: Vec<LinearShape>,
    naming: Option<&'static dyn Naming>,
}

impl Linears {
    /// The layers of a model whose family has names of its own beside diffusers'.
    #[must_use]
    pub fn named(layers: Vec<LinearShape>, naming: &'static dyn Naming) -> Self {
        Self { layers, naming: Some(naming) }
    }

    /// The other names of the layers, if the family has any.
    #[must_use]
    pub fn naming(&self) -> Option<&'static dyn Naming> {
        self.naming
    }
}

impl From<Vec<LinearShape>> for Linears {
    /// Layers that have diffusers' names alone.
    fn from(layers: Vec<LinearShape>) -> Self {
        Self { layers, naming: None }
    }
}

impl Deref for Linears {
    type Target = [LinearShape];
    fn deref(&self) -> &[LinearShape] {
        &self.layers
    }
}

/// Size and place of an adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraConfig {
    /// Inner dimension r.
    pub rank: i64,
    /// The adapter's output is scaled by alpha / rank.
    pub alpha: f64,
    /// Module names, matched as peft does: the whole path or its last components (`to_q`, `attn.to_q`). One that starts with `^`
    /// is the whole path alone: FLUX.1 has a `proj_out` of its own and one in each single block.
    pub target_modules: Vec<String>,
}

impl LoraConfig {
    /// The 8 projections of the joint attention that Flow-GRPO and its family train: image and text q, k, v, out.
    /// `attn2`, the second attention of SD3.5-medium, is not among them.
    pub fn joint_attention(rank: i64, alpha: f64) -> LoraConfig {
        let names = ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"];
        LoraConfig { rank, alpha, target_modules: names.iter().map(|n| format!("attn.{n}")).collect() }
    }

    /// Whether a module path is a target.
    pub fn matches(&self, path: &str) -> bool {
        self.target_modules
            .iter()
            .any(|t| t.strip_prefix('^').map_or_else(|| ends_with(path, t), |whole| path == whole))
    }
}

/// Whether `name` is the whole path or its last components.
#[must_use]
pub fn ends_with(path: &str, name: &str) -> bool {
    path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
