//! The names that Stability AI published SD3 and SD3.5 under, which single files, ComfyUI and sd-scripts use, as places
//! of diffusers' names. Weights are stored as there but for three things: q, k and v lie below each other in one tensor, the
//! norms of the output and of the last block's text have scale and shift in the other order, and the autoencoder's
//! attention is made of convolutions.
//!
//! Sources of the names: `convert_sd3_transformer_checkpoint_to_diffusers` and `convert_ldm_vae_checkpoint` of diffusers
//! 0.42.1, `mmdit_to_diffusers` of ComfyUI.

mod derive;
mod single;
mod vae;

pub use single::{FilePart, OneFile};

use crate::linears::{LinearShape, Naming};
use crate::weights::{Cut, Place};

/// These names, for adapters.
pub struct OriginalNames;

impl Naming for OriginalNames {
    /// The text norm of the last block is told by its width: two parts where the others have six.
    fn place(&self, layer: &LinearShape) -> Option<Place> {
        module(&layer.name, layer.d_out == 2 * layer.d_in)
    }

    fn sd_scripts(&self) -> Option<&'static str> {
        Some("networks.lora_sd3")
    }

    fn marks(&self) -> &'static [&'static str] {
        &["joint_blocks_", "_attn2_"]
    }
}

/// The modules of a block, `x` for the image's side and `context` for the text's.
const BLOCK: [(&str, &str); 24] = [
    ("norm1.linear", "x_block.adaLN_modulation.1"),
    ("norm1_context.linear", "context_block.adaLN_modulation.1"),
    ("attn.to_q", "x_block.attn.qkv#0"),
    ("attn.to_k", "x_block.attn.qkv#1"),
    ("attn.to_v", "x_block.attn.qkv#2"),
    ("attn.add_q_proj", "context_block.attn.qkv#0"),
    ("attn.add_k_proj", "context_block.attn.qkv#1"),
    ("attn.add_v_proj", "context_block.attn.qkv#2"),
    ("attn.to_out.0", "x_block.attn.proj"),
    ("attn.to_add_out", "context_block.attn.proj"),
    ("attn.norm_q", "x_block.attn.ln_q"),
    ("attn.norm_k", "x_block.attn.ln_k"),
    ("attn.norm_added_q", "context_block.attn.ln_q"),
    ("attn.norm_added_k", "context_block.attn.ln_k"),
    ("attn2.to_q", "x_block.attn2.qkv#0"),
    ("attn2.to_k", "x_block.attn2.qkv#1"),
    ("attn2.to_v", "x_block.attn2.qkv#2"),
    ("attn2.to_out.0", "x_block.attn2.proj"),
    ("attn2.norm_q", "x_block.attn2.ln_q"),
    ("attn2.norm_k", "x_block.attn2.ln_k"),
    ("ff.net.0.proj", "x_block.mlp.fc1"),
    ("ff.net.2", "x_block.mlp.fc2"),
    ("ff_context.net.0.proj", "context_block.mlp.fc1"),
    ("ff_context.net.2", "context_block.mlp.fc2"),
];

/// The modules outside of the blocks.
const AROUND: [(&str, &str); 8] = [
    ("context_embedder", "context_embedder"),
    ("pos_embed.proj", "x_embedder.proj"),
    ("time_text_embed.timestep_embedder.linear_1", "t_embedder.mlp.0"),
    ("time_text_embed.timestep_embedder.linear_2", "t_embedder.mlp.2"),
    ("time_text_embed.text_embedder.linear_1", "y_embedder.mlp.0"),
    ("time_text_embed.text_embedder.linear_2", "y_embedder.mlp.2"),
    ("norm_out.linear", "final_layer.adaLN_modulation.1"),
    ("proj_out", "final_layer.linear"),
];

/// Where a module of `SD3Transformer2DModel` lies under the original names, or nothing if it has no counterpart. `last`
/// says whether it belongs to the last block, whose text norm is `AdaLayerNormContinuous` in diffusers.
pub(super) fn module(name: &str, last: bool) -> Option<Place> {
    if let Some((_, there)) = AROUND.iter().find(|(here, _)| *here == name) {
        let cut = if name == "norm_out.linear" { Cut::Swapped } else { Cut::Whole };
        return Some(Place { name: (*there).to_owned(), cut });
    }
    let (block, rest) = name.strip_prefix("transformer_blocks.")?.split_once('.')?;
    block.parse::<u32>().ok()?;
    let (_, there) = BLOCK.iter().find(|(here, _)| *here == rest)?;
    let (there, third) = there.split_once('#').map_or((*there, None), |(t, n)| (t, n.parse::<i64>().ok()));
    let cut = match third {
        Some(which) => Cut::Third(which),
        None if last && rest == "norm1_context.linear" => Cut::Swapped,
        None => Cut::Whole,
    };
    Some(Place { name: format!("joint_blocks.{block}.{there}"), cut })
}

/// The place of a tensor of a transformer of `layers` blocks below `prefix`.
fn tensor(name: &str, layers: i64, prefix: &str) -> Place {
    if name == "pos_embed.pos_embed" {
        return Place::whole(format!("{prefix}pos_embed"));
    }
    let place = name.rsplit_once('.').and_then(|(path, kind)| {
        let place = module(path, is_last(path, layers))?;
        Some(Place { name: format!("{prefix}{}.{kind}", place.name), ..place })
    });
    place.unwrap_or_else(|| Place::whole(format!("{prefix}{name}")))
}

/// Whether a module lies in the last of `layers` blocks.
fn is_last(module: &str, layers: i64) -> bool {
    block_of(module) == Some(layers - 1)
}

/// The number of the block that a module lies in.
fn block_of(module: &str) -> Option<i64> {
    module.strip_prefix("transformer_blocks.")?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_published_ones() {
        let at = |name: &str| module(name, false).map(|p| (p.name, p.cut));
        assert_eq!(
            at("transformer_blocks.7.attn.add_k_proj"),
            Some(("joint_blocks.7.context_block.attn.qkv".to_owned(), Cut::Third(1)))
        );
        assert_eq!(at("norm_out.linear"), Some(("final_layer.adaLN_modulation.1".to_owned(), Cut::Swapped)));
        assert_eq!(at("transformer_blocks.x.attn.to_q"), None);
        assert_eq!(at("transformer_blocks.0.elsewhere"), None);
        let last = tensor("transformer_blocks.2.norm1_context.linear.bias", 3, "model.diffusion_model.");
        assert_eq!(last.name, "model.diffusion_model.joint_blocks.2.context_block.adaLN_modulation.1.bias");
        assert_eq!(last.cut, Cut::Swapped);
        assert_eq!(tensor("transformer_blocks.1.norm1_context.linear.bias", 3, "").cut, Cut::Whole);
        assert_eq!(tensor("pos_embed.pos_embed", 3, "x.").name, "x.pos_embed");
    }
}
