//! open_clip's names for what transformers names otherwise. OpenAI's own checkpoints have them too.
//!
//! q, k and v lie in one tensor there, and the projections are matrices that a row is multiplied by.

use opdflow_models::weights::Place;

/// Of a layer: transformers' name, open_clip's.
const LAYER: [(&str, &str); 5] = [
    ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"),
    ("self_attn.out_proj", "attn.out_proj"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
];

/// Of a tower.
const TOWER: [(&str, &str); 7] = [
    ("embeddings.patch_embedding", "conv1"),
    ("embeddings.token_embedding", "token_embedding"),
    ("pre_layrnorm", "ln_pre"),
    ("post_layernorm", "ln_post"),
    ("final_layer_norm", "ln_final"),
    ("embeddings.class_embedding", "class_embedding"),
    ("embeddings.position_embedding.weight", "positional_embedding"),
];

/// Where open_clip keeps the tensor that transformers' `CLIPModel` calls `name`.
#[must_use]
pub fn place(name: &str) -> Place {
    match name {
        "visual_projection.weight" => return Place::transposed("visual.proj"),
        "text_projection.weight" => return Place::transposed("text_projection"),
        _ => {}
    }
    let (tower, inside) = match (name.strip_prefix("vision_model."), name.strip_prefix("text_model.")) {
        (Some(inside), _) => ("visual.", inside),
        (_, Some(inside)) => ("", inside),
        _ => return Place::whole(name),
    };
    let Some((number, inside)) = inside.strip_prefix("encoder.layers.").and_then(|l| l.split_once('.')) else {
        return Place::whole(format!("{tower}{}", renamed(inside, &TOWER)));
    };
    let layer = format!("{tower}transformer.resblocks.{number}");
    for (which, head) in (0..).zip(["q", "k", "v"]) {
        // `weight` or `bias` of one of the three.
        if let Some(rest) = inside.strip_prefix("self_attn.").and_then(|i| i.strip_prefix(head)?.strip_prefix("_proj."))
        {
            return Place::third(format!("{layer}.attn.in_proj_{rest}"), which);
        }
    }
    Place::whole(format!("{layer}.{}", renamed(inside, &LAYER)))
}

/// `name` with the beginning that the table knows exchanged.
fn renamed(name: &str, table: &[(&str, &str)]) -> String {
    let found = table.iter().find_map(|(ours, theirs)| {
        let rest = name.strip_prefix(ours)?;
        (rest.is_empty() || rest.starts_with('.')).then(|| format!("{theirs}{rest}"))
    });
    found.unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_hand() {
        for (ours, theirs) in [
            ("logit_scale", Place::whole("logit_scale")),
            ("text_projection.weight", Place::transposed("text_projection")),
            ("vision_model.embeddings.class_embedding", Place::whole("visual.class_embedding")),
            ("vision_model.embeddings.position_embedding.weight", Place::whole("visual.positional_embedding")),
            ("vision_model.embeddings.patch_embedding.weight", Place::whole("visual.conv1.weight")),
            ("vision_model.pre_layrnorm.bias", Place::whole("visual.ln_pre.bias")),
            ("text_model.embeddings.token_embedding.weight", Place::whole("token_embedding.weight")),
            ("text_model.embeddings.position_embedding.weight", Place::whole("positional_embedding")),
            ("text_model.final_layer_norm.weight", Place::whole("ln_final.weight")),
            ("text_model.encoder.layers.11.layer_norm2.bias", Place::whole("transformer.resblocks.11.ln_2.bias")),
            (
                "vision_model.encoder.layers.3.self_attn.v_proj.bias",
                Place::third("visual.transformer.resblocks.3.attn.in_proj_bias", 2),
            ),
            (
                "text_model.encoder.layers.0.self_attn.out_proj.weight",
                Place::whole("transformer.resblocks.0.attn.out_proj.weight"),
            ),
        ] {
            assert_eq!(place(ours), theirs);
        }
    }
}
