//! The names that fal published AuraFlow's transformer under, which ComfyUI uses. Weights are as in diffusers but for the norm of
//! the output, which has scale and shift in the other order.
//!
//! Source of the names: `convert_auraflow_transformer_checkpoint_to_diffusers` of diffusers 0.42.1.

use crate::linears::{LinearShape, Naming};
use crate::weights::{Cut, Place};

/// These names, for adapters.
pub struct OriginalNames;

impl Naming for OriginalNames {
    fn place(&self, layer: &LinearShape) -> Option<Place> {
        module(&layer.name)
    }

    /// sd-scripts has no module for AuraFlow.
    fn sd_scripts(&self) -> Option<&'static str> {
        None
    }

    /// FLUX.1 has single blocks of the same name, with attentions alike.
    fn marks(&self) -> &'static [&'static str] {
        &[
            "joint_transformer_blocks_",
            "single_transformer_blocks_",
            "double_layers_",
            "single_layers_",
            "time_step_proj_",
            "cond_seq_linear",
            "init_x_linear",
        ]
    }
}

/// The modules of a joint block.
const JOINT: [(&str, &str); 16] = [
    ("norm1.linear", "modX.1"),
    ("norm1_context.linear", "modC.1"),
    ("attn.to_q", "attn.w2q"),
    ("attn.to_k", "attn.w2k"),
    ("attn.to_v", "attn.w2v"),
    ("attn.to_out.0", "attn.w2o"),
    ("attn.add_q_proj", "attn.w1q"),
    ("attn.add_k_proj", "attn.w1k"),
    ("attn.add_v_proj", "attn.w1v"),
    ("attn.to_add_out", "attn.w1o"),
    ("ff.linear_1", "mlpX.c_fc1"),
    ("ff.linear_2", "mlpX.c_fc2"),
    ("ff.out_projection", "mlpX.c_proj"),
    ("ff_context.linear_1", "mlpC.c_fc1"),
    ("ff_context.linear_2", "mlpC.c_fc2"),
    ("ff_context.out_projection", "mlpC.c_proj"),
];

/// The modules of a single block.
const SINGLE: [(&str, &str); 8] = [
    ("norm1.linear", "modCX.1"),
    ("attn.to_q", "attn.w1q"),
    ("attn.to_k", "attn.w1k"),
    ("attn.to_v", "attn.w1v"),
    ("attn.to_out.0", "attn.w1o"),
    ("ff.linear_1", "mlp.c_fc1"),
    ("ff.linear_2", "mlp.c_fc2"),
    ("ff.out_projection", "mlp.c_proj"),
];

/// The modules outside of the blocks.
const AROUND: [(&str, &str); 6] = [
    ("pos_embed.proj", "init_x_linear"),
    ("context_embedder", "cond_seq_linear"),
    ("time_step_proj.linear_1", "t_embedder.mlp.0"),
    ("time_step_proj.linear_2", "t_embedder.mlp.2"),
    ("norm_out.linear", "modF.1"),
    ("proj_out", "final_linear"),
];

/// Where a linear layer of `AuraFlowTransformer2DModel` lies under the original names, or nothing if it has no counterpart.
fn module(name: &str) -> Option<Place> {
    let find = |table: &[(&str, &'static str)], name: &str| table.iter().find(|(here, _)| *here == name).map(|t| t.1);
    if let Some(there) = find(&AROUND, name) {
        let cut = if name == "norm_out.linear" { Cut::Swapped } else { Cut::Whole };
        return Some(Place { name: there.to_owned(), cut });
    }
    let (list, table, rest) = match name.strip_prefix("single_transformer_blocks.") {
        Some(rest) => ("single_layers", &SINGLE[..], rest),
        None => ("double_layers", &JOINT[..], name.strip_prefix("joint_transformer_blocks.")?),
    };
    let (block, rest) = rest.split_once('.')?;
    block.parse::<u32>().ok()?;
    Some(Place::whole(format!("{list}.{block}.{}", find(table, rest)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::aura::AuraConfig;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_the_published_ones() {
        let at = |name: &str| module(name).map(|p| (p.name, p.cut));
        let whole = |name: &str| Some((name.to_owned(), Cut::Whole));
        assert_eq!(at("joint_transformer_blocks.3.attn.add_k_proj"), whole("double_layers.3.attn.w1k"));
        assert_eq!(at("joint_transformer_blocks.0.ff_context.out_projection"), whole("double_layers.0.mlpC.c_proj"));
        assert_eq!(at("single_transformer_blocks.31.attn.to_out.0"), whole("single_layers.31.attn.w1o"));
        assert_eq!(at("norm_out.linear"), Some(("modF.1".into(), Cut::Swapped)));
        for none in ["joint_transformer_blocks.x.attn.to_q", "transformer_blocks.0.attn.to_q", "pos_embed", ""] {
            assert_eq!(at(none), None, "{none}");
        }
    }

    #[test]
    fn every_linear_layer_has_one() {
        let config = AuraConfig::default();
        let places: BTreeSet<_> = config.linears().iter().map(|l| module(&l.name).map(|p| p.name)).collect();
        assert!(!places.contains(&None));
        assert_eq!(places.len(), config.linears().len());
    }
}
