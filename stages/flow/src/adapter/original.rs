//! Which table says where the linear layers of a model lie under the names that it was first published under.

use crate::flux;
use crate::nn::LinearShape;
use crate::original;
use crate::weights::Place;

/// A family of models whose original names are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Original {
    /// Stable Diffusion 3 and 3.5 (`joint_blocks`).
    Sd3,
    /// FLUX.1 (`double_blocks`, `single_blocks`).
    Flux,
}

impl Original {
    /// The family of a model, or of an adapter, with modules of these names. Nothing if both have all of them: adapters of the
    /// blocks that the two have in common.
    pub(super) fn of<'a>(modules: impl Iterator<Item = &'a str>) -> Option<Original> {
        let own = |m: &str| {
            if m == "x_embedder" || m.starts_with("single_transformer_blocks.") || m.contains("guidance_embedder") {
                return Some(Original::Flux);
            }
            (m.contains(".attn2.") || m == "pos_embed.proj").then_some(Original::Sd3)
        };
        let mut modules = modules;
        modules.find_map(own)
    }

    /// The family of a model with all these layers.
    pub(super) fn of_model(linears: &[LinearShape]) -> Original {
        Original::of(linears.iter().map(|l| l.name.as_str())).unwrap_or(Original::Sd3)
    }

    /// The family's name, for messages.
    pub(super) fn title(self) -> &'static str {
        match self {
            Original::Sd3 => "Stable Diffusion 3",
            Original::Flux => "FLUX.1",
        }
    }

    /// Where a module lies; `last` says whether it is in the last block of SD3, whose text norm differs.
    pub(super) fn module(self, name: &str, last: bool) -> Option<Place> {
        match self {
            Original::Sd3 => original::module(name, last),
            Original::Flux => flux::names::module(name),
        }
    }

    /// The family that a module of a file can only belong to, by the file's own name of it.
    pub(super) fn of_stem(stem: &str) -> Option<Original> {
        let flat = stem.replace('.', "_");
        let has = |marks: &[&str]| marks.iter().any(|m| flat.contains(m));
        if has(&[
            "single_transformer_blocks_",
            "double_blocks_",
            "single_blocks_",
            "guidance_in_",
            "guidance_embedder_",
        ]) {
            return Some(Original::Flux);
        }
        has(&["joint_blocks_", "_attn2_"]).then_some(Original::Sd3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_known_by_what_only_it_has() {
        let of = |names: &[&str]| Original::of(names.iter().copied());
        assert_eq!(of(&["transformer_blocks.0.attn.to_q", "proj_out"]), None);
        assert_eq!(
            of(&["transformer_blocks.0.attn.to_q", "single_transformer_blocks.0.attn.to_q"]),
            Some(Original::Flux)
        );
        assert_eq!(of(&["transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn2.to_q"]), Some(Original::Sd3));
        assert_eq!(Original::of_stem("lora_unet_double_blocks_0_img_attn_qkv"), Some(Original::Flux));
        assert_eq!(Original::of_stem("transformer.joint_blocks.0.x_block.attn.qkv"), Some(Original::Sd3));
        assert_eq!(Original::of_stem("transformer.transformer_blocks.0.attn2.to_q"), Some(Original::Sd3));
        assert_eq!(Original::of_stem("transformer.transformer_blocks.0.attn.to_q"), None);
    }
}
