//! The names that Black Forest Labs published FLUX.1's transformer under, which ComfyUI and sd-scripts use. Weights are
//! as in diffusers but for two things: q, k and v lie below each other in one tensor, in a single block with what enters the
//! feed-forward part below them; and the norm of the output has scale and shift in the other order.
//!
//! Sources of the names: `convert_flux_transformer_checkpoint_to_diffusers` and `_convert_kohya_flux_lora_to_diffusers` of
//! diffusers 0.42.1.

use crate::linears::{LinearShape, Naming};
use crate::weights::{Cut, Place};

/// These names, for adapters.
pub struct OriginalNames;

impl Naming for OriginalNames {
    fn place(&self, layer: &LinearShape) -> Option<Place> {
        module(&layer.name)
    }

    fn sd_scripts(&self) -> Option<&'static str> {
        Some("networks.lora_flux")
    }

    fn marks(&self) -> &'static [&'static str] {
        &["single_transformer_blocks_", "double_blocks_", "single_blocks_", "guidance_in_", "guidance_embedder_"]
    }
}

/// The modules of a double block; `#n` is the n-th of three in one tensor.
const DOUBLE: [(&str, &str); 14] = [
    ("norm1.linear", "img_mod.lin"),
    ("norm1_context.linear", "txt_mod.lin"),
    ("attn.to_q", "img_attn.qkv#0"),
    ("attn.to_k", "img_attn.qkv#1"),
    ("attn.to_v", "img_attn.qkv#2"),
    ("attn.add_q_proj", "txt_attn.qkv#0"),
    ("attn.add_k_proj", "txt_attn.qkv#1"),
    ("attn.add_v_proj", "txt_attn.qkv#2"),
    ("attn.to_out.0", "img_attn.proj"),
    ("attn.to_add_out", "txt_attn.proj"),
    ("ff.net.0.proj", "img_mlp.0"),
    ("ff.net.2", "img_mlp.2"),
    ("ff_context.net.0.proj", "txt_mlp.0"),
    ("ff_context.net.2", "txt_mlp.2"),
];

/// The modules of a single block; `#n` is the n-th of four in one tensor.
const SINGLE: [(&str, &str); 6] = [
    ("norm.linear", "modulation.lin"),
    ("attn.to_q", "linear1#0"),
    ("attn.to_k", "linear1#1"),
    ("attn.to_v", "linear1#2"),
    ("proj_mlp", "linear1#3"),
    ("proj_out", "linear2"),
];

/// The modules outside of the blocks.
const AROUND: [(&str, &str); 10] = [
    ("x_embedder", "img_in"),
    ("context_embedder", "txt_in"),
    ("time_text_embed.timestep_embedder.linear_1", "time_in.in_layer"),
    ("time_text_embed.timestep_embedder.linear_2", "time_in.out_layer"),
    ("time_text_embed.guidance_embedder.linear_1", "guidance_in.in_layer"),
    ("time_text_embed.guidance_embedder.linear_2", "guidance_in.out_layer"),
    ("time_text_embed.text_embedder.linear_1", "vector_in.in_layer"),
    ("time_text_embed.text_embedder.linear_2", "vector_in.out_layer"),
    ("norm_out.linear", "final_layer.adaLN_modulation.1"),
    ("proj_out", "final_layer.linear"),
];

/// q, k and v in one.
const THREE: [i64; 3] = [1, 1, 1];
/// q, k, v and what enters the feed-forward part, which is four times as wide.
const FOUR: [i64; 4] = [1, 1, 1, 4];

/// Where a linear layer of `FluxTransformer2DModel` lies under the original names, or nothing if it has no counterpart.
fn module(name: &str) -> Option<Place> {
    let find = |table: &[(&str, &'static str)], name: &str| table.iter().find(|(here, _)| *here == name).map(|t| t.1);
    if let Some(there) = find(&AROUND, name) {
        let cut = if name == "norm_out.linear" { Cut::Swapped } else { Cut::Whole };
        return Some(Place { name: there.to_owned(), cut });
    }
    let (kind, table, rest) = match name.strip_prefix("single_transformer_blocks.") {
        Some(rest) => ("single_blocks", &SINGLE[..], rest),
        None => ("double_blocks", &DOUBLE[..], name.strip_prefix("transformer_blocks.")?),
    };
    let (block, rest) = rest.split_once('.')?;
    block.parse::<u32>().ok()?;
    let there = find(table, rest)?;
    let (there, part) = there.split_once('#').map_or((there, None), |(t, n)| (t, n.parse().ok()));
    let units = if there == "linear1" { &FOUR[..] } else { &THREE[..] };
    let cut = part.map_or(Cut::Whole, |which| Cut::Part { which, units });
    Some(Place { name: format!("{kind}.{block}.{there}"), cut })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::flux::FluxConfig;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_the_published_ones() {
        let at = |name: &str| module(name).map(|p| (p.name, p.cut));
        let third = Cut::Part { which: 1, units: &[1, 1, 1] };
        assert_eq!(at("transformer_blocks.7.attn.add_k_proj"), Some(("double_blocks.7.txt_attn.qkv".into(), third)));
        let fourth = Cut::Part { which: 3, units: &[1, 1, 1, 4] };
        assert_eq!(at("single_transformer_blocks.3.proj_mlp"), Some(("single_blocks.3.linear1".into(), fourth)));
        assert_eq!(at("single_transformer_blocks.3.proj_out"), Some(("single_blocks.3.linear2".into(), Cut::Whole)));
        assert_eq!(at("proj_out"), Some(("final_layer.linear".into(), Cut::Whole)));
        assert_eq!(at("norm_out.linear"), Some(("final_layer.adaLN_modulation.1".into(), Cut::Swapped)));
        for none in ["transformer_blocks.x.attn.to_q", "transformer_blocks.0.attn2.to_q", "pos_embed.proj", ""] {
            assert_eq!(at(none), None, "{none}");
        }
    }

    #[test]
    fn every_linear_layer_has_one() {
        let config = FluxConfig { guidance_embeds: true, ..FluxConfig::default() };
        let places: BTreeSet<_> =
            config.linears().iter().map(|l| module(&l.name).map(|p| (p.name, p.cut.part()))).collect();
        assert!(!places.contains(&None));
        assert_eq!(places.len(), config.linears().len());
    }
}
