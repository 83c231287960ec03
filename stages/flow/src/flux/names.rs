//! The names that Black Forest Labs published FLUX.1's transformer under, which ComfyUI and sd-scripts use. Weights are
//! as in diffusers but for two things: q, k and v lie below each other in one tensor, in a single block with what enters the
//! feed-forward part below them; and the norm of the output has scale and shift in the other order.
//!
//! Sources of the names: `convert_flux_transformer_checkpoint_to_diffusers` and `_convert_kohya_flux_lora_to_diffusers` of
//! diffusers 0.42.1.

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

/// Where a module lies under the original names.
pub(crate) struct Origin {
    /// The module there.
    pub name: String,
    /// Which part of that module's rows it is.
    pub part: Option<usize>,
    /// Whether scale and shift are the other way round.
    pub swapped: bool,
}

/// Where a linear layer of `FluxTransformer2DModel` lies under the original names, or nothing if it has no counterpart.
pub(crate) fn module(name: &str) -> Option<Origin> {
    let find = |table: &[(&str, &'static str)], name: &str| table.iter().find(|(here, _)| *here == name).map(|t| t.1);
    if let Some(there) = find(&AROUND, name) {
        return Some(Origin { name: there.to_owned(), part: None, swapped: name == "norm_out.linear" });
    }
    let (kind, table, rest) = match name.strip_prefix("single_transformer_blocks.") {
        Some(rest) => ("single_blocks", &SINGLE[..], rest),
        None => ("double_blocks", &DOUBLE[..], name.strip_prefix("transformer_blocks.")?),
    };
    let (block, rest) = rest.split_once('.')?;
    block.parse::<u32>().ok()?;
    let there = find(table, rest)?;
    let (there, part) = there.split_once('#').map_or((there, None), |(t, n)| (t, n.parse().ok()));
    Some(Origin { name: format!("{kind}.{block}.{there}"), part, swapped: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flux::FluxConfig;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_the_published_ones() {
        let at = |name: &str| module(name).map(|o| (o.name, o.part, o.swapped));
        assert_eq!(
            at("transformer_blocks.7.attn.add_k_proj"),
            Some(("double_blocks.7.txt_attn.qkv".into(), Some(1), false))
        );
        assert_eq!(
            at("single_transformer_blocks.3.proj_mlp"),
            Some(("single_blocks.3.linear1".into(), Some(3), false))
        );
        assert_eq!(at("single_transformer_blocks.3.proj_out"), Some(("single_blocks.3.linear2".into(), None, false)));
        assert_eq!(at("proj_out"), Some(("final_layer.linear".into(), None, false)));
        assert_eq!(at("norm_out.linear"), Some(("final_layer.adaLN_modulation.1".into(), None, true)));
        for none in ["transformer_blocks.x.attn.to_q", "transformer_blocks.0.attn2.to_q", "pos_embed.proj", ""] {
            assert_eq!(at(none), None, "{none}");
        }
    }

    #[test]
    fn every_linear_layer_has_one() {
        let config = FluxConfig { guidance_embeds: true, ..FluxConfig::default() };
        let places: BTreeSet<_> = config.linears().iter().map(|l| module(&l.name).map(|o| (o.name, o.part))).collect();
        assert!(!places.contains(&None));
        assert_eq!(places.len(), config.linears().len());
    }
}
