//! What a tensor of an adapter's file is: which half of a pair, of which module, in any of the published namings.
//!
//! | naming | example |
//! |---|---|
//! | peft | `base_model.model.transformer_blocks.0.attn.to_q.lora_A.weight`, `..lora_A.default.weight` |
//! | diffusers | `transformer.transformer_blocks.0.attn.to_q.lora_A.weight`, older `..to_q.lora.down.weight` |
//! | sd-scripts | `lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight`, `..alpha` |
//! | ComfyUI, original | `diffusion_model.joint_blocks.0.x_block.attn.qkv.lora_up.weight`, `..lora_B.weight` |
//! | OneTrainer | `lora_transformer_transformer_blocks_0_attn_to_q.lora_down.weight`; `transformer.joint_blocks.0.x_block.attn.qkv.0.lora_down.weight` |
//! | SimpleTuner (LyCORIS) | `lycoris_transformer_blocks_0_attn_to_q.lora_down.weight` |
//!
//! FLUX.1 has `double_blocks.0.img_attn.qkv` and `single_blocks.0.linear1` where SD3 has `joint_blocks.0.x_block.attn.qkv`.
//!
//! Underscores and dots cannot be told apart by looking, so names are looked up among those of the model's own layers.

use crate::families;
use crate::linears::Linears;
use crate::weights::Cut;
use anyhow::{Result, bail};
use std::collections::{BTreeMap, HashMap};

/// Which part of a pair a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// `[r, in]`.
    Down,
    /// `[out, r]`.
    Up,
    /// One number.
    Alpha,
}

/// The endings of down and up halves, longest first where one ends another.
const ENDINGS: [(&str, &str); 6] = [
    (".lora_A.weight", ".lora_B.weight"),
    (".lora_down.weight", ".lora_up.weight"),
    (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
    (".lora.down.weight", ".lora.up.weight"),
    ("_lora.down.weight", "_lora.up.weight"),
    (".lora_A", ".lora_B"),
];

/// A tensor's name taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// The module, in the file's own naming.
    pub stem: &'a str,
    /// Which part of the pair.
    pub half: Half,
    /// The adapter's name inside the key, where peft has left one.
    pub adapter: Option<&'a str>,
}

/// Takes a tensor's name apart; nothing if it is none of an adapter's.
pub fn apart(key: &str) -> Option<Name<'_>> {
    if let Some(stem) = key.strip_suffix(".alpha") {
        return Some(Name { stem, half: Half::Alpha, adapter: None });
    }
    for (down, up) in ENDINGS {
        for (ending, half) in [(down, Half::Down), (up, Half::Up)] {
            if let Some(stem) = key.strip_suffix(ending) {
                return Some(Name { stem, half, adapter: None });
            }
        }
    }
    let inner = key.strip_suffix(".weight")?;
    for (mark, half) in [(".lora_A.", Half::Down), (".lora_B.", Half::Up)] {
        if let Some((stem, adapter)) = inner.rsplit_once(mark) {
            return (!adapter.contains('.')).then_some(Name { stem, half, adapter: Some(adapter) });
        }
    }
    None
}

/// The name of the half that belongs to `key`, for errors.
pub fn other_half(key: &str) -> String {
    for (one, other) in [("lora_A", "lora_B"), ("lora_B", "lora_A"), ("down", "up"), ("up", "down")] {
        if let Some(at) = key.rfind(one) {
            return format!("{}{other}{}", &key[..at], &key[at + one.len()..]);
        }
    }
    key.to_owned()
}

/// Why a tensor that is no half of a pair cannot be read, with the way out.
pub fn foreign(key: &str) -> String {
    let merge = "merge it into the base with the program that made it and name the merged model as the base, or train a \
                 plain LoRA";
    let any = |marks: &[&str]| marks.iter().any(|m| key.contains(m));
    let kind = if any(&["lora_magnitude_vector", "dora_scale"]) {
        "a DoRA's magnitude; DoRA is no sum of low-rank products"
    } else if any(&["lokr_"]) {
        "part of a LoKr; Kronecker products are no low-rank products"
    } else if any(&["hada_"]) {
        "part of a LoHa; Hadamard products are no low-rank products"
    } else if any(&["oft_", "boft_"]) {
        "part of an OFT, which turns weights"
    } else if any(&["lora_mid"]) {
        "the middle of a LoCon with three factors"
    } else if any(&["lora_E", "ranknum"]) {
        "part of an AdaLoRA"
    } else if any(&["lora_diag", "vera_", "ia3_", "lora_embedding_"])
        || any(&[".a1.weight", ".b1.weight", ".a2.", ".b2."])
    {
        "part of another kind of adapter"
    } else if any(&["bundle_emb", "emb_params"]) {
        return format!(
            "`{key}` is a trained word of the text encoders, which is not read: save the adapter without it"
        );
    } else if key.ends_with(".diff") || any(&[".diff_b", "w_norm", "b_norm", "set_weight", "reshape_weight"]) {
        "a change of a whole tensor"
    } else if key.ends_with(".bias") || key.ends_with("lora_bias") || any(&["modules_to_save"]) {
        "a bias or a layer of the base itself"
    } else if key.ends_with(".weight") && !key.contains("lora") {
        return format!(
            "`{key}` is not part of a LoRA but a model's own weight: a whole model is no adapter; name it as the base"
        );
    } else {
        return format!(
            "`{key}` is not part of a LoRA in a known naming (peft, diffusers, sd-scripts, ComfyUI, OneTrainer: docs/how-to/adapters.md)"
        );
    };
    format!("`{key}` is {kind}: {merge}")
}

/// Whether a module is one of a text encoder's.
pub fn of_text_encoder(stem: &str) -> bool {
    const BEGINNINGS: [&str; 14] = [
        "text_encoder.",
        "text_encoder_2.",
        "text_encoder_3.",
        "lora_te_",
        "lora_te1_",
        "lora_te2_",
        "lora_te3_",
        "lora_te1.",
        "lora_te2.",
        "lora_te3.",
        "clip_l.",
        "clip_g.",
        "t5.",
        "t5xxl.",
    ];
    const INSIDE: [&str; 3] = ["text_model.encoder.layers.", "text_encoders.", "SelfAttention"];
    BEGINNINGS.iter().any(|b| stem.starts_with(b)) || INSIDE.iter().any(|i| stem.contains(i))
}

/// What a module of the file is in the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One layer.
    One {
        /// Its path in the model.
        module: String,
        /// Whether scale and shift are the other way round.
        swapped: bool,
    },
    /// Several in one, from the top row down: q, k and v, and in a single block of FLUX.1 what enters the feed-forward part.
    Fused(Vec<String>),
}

/// The names of a model's linear layers in each naming.
pub struct Dictionary {
    dotted: HashMap<String, Target>,
    flat: HashMap<String, Target>,
    /// Blocks of each list of them, by its name.
    blocks: BTreeMap<String, i64>,
    /// What only layers of this model's family have in their names.
    marks: &'static [&'static str],
}

const DOTTED: [&str; 8] = [
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "lora_transformer.",
    "transformer.",
    "module.",
    "mmdit.",
    "unet.",
];
const FLAT: [&str; 3] = ["lora_unet_", "lora_transformer_", "lycoris_"];

impl Dictionary {
    /// Of these layers, with the other names that their family has.
    #[must_use]
    pub fn of(linears: &Linears) -> Dictionary {
        let mut dotted = HashMap::new();
        let mut fused: HashMap<String, (usize, BTreeMap<usize, String>)> = HashMap::new();
        for l in linears.iter() {
            let one = |swapped| Target::One { module: l.name.clone(), swapped };
            dotted.insert(l.name.clone(), one(false));
            // Older files of diffusers have `to_out` for `to_out.0`.
            if let Some(short) = l.name.strip_suffix(".to_out.0") {
                dotted.insert(format!("{short}.to_out"), one(false));
            }
            let Some(place) = linears.naming().and_then(|n| n.place(l)) else { continue };
            match place.cut.part() {
                Some((n, units)) => {
                    dotted.insert(format!("{}.{n}", place.name), one(false));
                    let members = fused.entry(place.name).or_insert((units.len(), BTreeMap::new()));
                    members.1.insert(n, l.name.clone());
                }
                None => drop(dotted.entry(place.name).or_insert_with(|| one(place.cut == Cut::Swapped))),
            }
        }
        for (name, (parts, members)) in fused {
            if members.len() == parts {
                dotted.insert(name, Target::Fused(members.into_values().collect()));
            }
        }
        let flat = dotted.iter().map(|(n, t)| (n.replace('.', "_"), t.clone())).collect();
        let mut blocks = BTreeMap::new();
        for (list, block) in dotted.keys().filter_map(|name: &String| block_of(name)) {
            let count = blocks.entry(list.to_owned()).or_insert(0);
            *count = (block + 1).max(*count);
        }
        let marks = linears.naming().map_or(&[][..], |n| n.marks());
        Dictionary { dotted, flat, blocks, marks }
    }

    /// Whether all modules `stems` of a file are of this model. Families have layers of the same name, so that a module which
    /// tells another family goes before others that are none of this model's.
    ///
    /// # Errors
    /// A module that is not.
    pub fn knows<'a>(&self, stems: impl Iterator<Item = &'a String> + Clone) -> Result<()> {
        let unknown = || stems.clone().filter(|stem| self.find(stem).is_err());
        match unknown().find(|stem| self.of_others(stem).is_some()).or_else(|| unknown().next()) {
            Some(stem) => self.target(stem).map(|_| ()),
            None => Ok(()),
        }
    }

    /// What the module `stem` of a file is; its name without what programs put before it, if it is nothing.
    fn find<'a>(&self, stem: &'a str) -> Result<&Target, &'a str> {
        let mut rest = stem;
        loop {
            if let Some(target) = self.dotted.get(rest) {
                return Ok(target);
            }
            match DOTTED.iter().find_map(|p| rest.strip_prefix(p)) {
                Some(shorter) => rest = shorter,
                None => break,
            }
        }
        FLAT.iter().find_map(|p| self.flat.get(rest.strip_prefix(p)?)).ok_or(rest)
    }

    /// The other families of which one has such a layer, and this model's has not.
    fn of_others(&self, stem: &str) -> Option<String> {
        let others = families::of_layer(stem);
        let foreign = !others.is_empty() && others.iter().all(|f| f.naming().marks() != self.marks);
        foreign.then(|| families::either(&others))
    }

    /// What the module `stem` of a file is.
    ///
    /// # Errors
    /// Nothing of this model.
    pub fn target(&self, stem: &str) -> Result<&Target> {
        let rest = match self.find(stem) {
            Ok(target) => return Ok(target),
            Err(rest) => rest,
        };
        if let Some(others) = self.of_others(stem) {
            let own = families::FAMILIES.iter().find(|f| f.naming().marks() == self.marks);
            bail!(
                "`{rest}` is a layer of {others}, and the base is {}: name the base that the adapter was trained on",
                own.map_or("a model of another family", |f| f.title())
            );
        }
        let flat = stem.replace('.', "_");
        // The longest name first: `single_transformer_blocks` ends in another list's name.
        let mut lists: Vec<(&String, &i64)> = self.blocks.iter().collect();
        lists.sort_by_key(|(list, _)| std::cmp::Reverse(list.len()));
        let found = lists.into_iter().find_map(|(list, count)| {
            let after = flat.split_once(&format!("{list}_"))?.1;
            let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
            Some((digits.parse::<i64>().ok()?, *count))
        });
        match found.filter(|(block, count)| block >= count) {
            Some((block, blocks)) => bail!(
                "`{stem}` is in block {block}, and this model has {blocks} (0 to {}): the adapter belongs to a deeper model; name the \
                 base that it was trained on",
                blocks - 1
            ),
            None if flat.ends_with("pos_embed_proj") || flat.ends_with("x_embedder_proj") => {
                bail!("`{stem}` is the convolution over patches, on which no adapter is read: train without it")
            }
            None => bail!("`{}` is no linear layer of this model; name the base that the adapter was trained on", rest),
        }
    }
}

/// The list of blocks that a module lies in, and the number of its block there.
fn block_of(module: &str) -> Option<(&str, i64)> {
    let (list, rest) = module.split_once('.')?;
    Some((list, rest.split('.').next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linears::LinearShape;

    fn linears() -> Linears {
        let mut out = Vec::new();
        for i in 0..2 {
            for (name, parts) in [
                ("attn.to_q", 1),
                ("attn.to_k", 1),
                ("attn.to_v", 1),
                ("attn.to_out.0", 1),
                ("attn.add_q_proj", 1),
                ("norm1_context.linear", if i == 1 { 2 } else { 6 }),
                ("ff.net.0.proj", 4),
            ] {
                out.push(LinearShape { name: format!("transformer_blocks.{i}.{name}"), d_in: 8, d_out: 8 * parts });
            }
        }
        out.push(LinearShape { name: "norm_out.linear".into(), d_in: 8, d_out: 16 });
        Linears::named(out, families::FAMILIES[0].naming())
    }

    #[test]
    fn every_naming_finds_its_module() {
        let d = Dictionary::of(&linears());
        let to_q = Target::One { module: "transformer_blocks.0.attn.to_q".into(), swapped: false };
        for key in [
            "base_model.model.transformer_blocks.0.attn.to_q.lora_A.weight",
            "base_model.model.transformer_blocks.0.attn.to_q.lora_A.default.weight",
            "transformer.transformer_blocks.0.attn.to_q.lora_A.weight",
            "transformer_blocks.0.attn.to_q.lora.down.weight",
            "transformer.transformer_blocks.0.attn.to_q_lora.down.weight",
            "lora_transformer_transformer_blocks_0_attn_to_q.lora_down.weight",
            "transformer.joint_blocks.0.x_block.attn.qkv.0.lora_down.weight",
            "lycoris_transformer_blocks_0_attn_to_q.lora_down.weight",
            "lora_unet_transformer_blocks_0_attn_to_q.lora_down.weight",
            "lora_transformer.transformer_blocks.0.attn.to_q.lora_down.weight",
        ] {
            let name = apart(key).unwrap_or_else(|| panic!("{key}"));
            assert_eq!(name.half, Half::Down, "{key}");
            assert_eq!(d.target(name.stem).unwrap(), &to_q, "{key}");
        }
        let fused = Target::Fused(["to_q", "to_k", "to_v"].map(|n| format!("transformer_blocks.1.attn.{n}")).to_vec());
        for stem in [
            "lora_unet_joint_blocks_1_x_block_attn_qkv",
            "diffusion_model.joint_blocks.1.x_block.attn.qkv",
            "model.diffusion_model.joint_blocks.1.x_block.attn.qkv",
        ] {
            assert_eq!(d.target(stem).unwrap(), &fused, "{stem}");
        }
        let swapped = |stem: &str| matches!(d.target(stem).unwrap(), Target::One { swapped: true, .. });
        assert!(
            swapped("lora_unet_final_layer_adaLN_modulation_1")
                && swapped("joint_blocks.1.context_block.adaLN_modulation.1")
        );
        assert!(!swapped("norm_out.linear") && !swapped("joint_blocks.0.context_block.adaLN_modulation.1"));
    }

    #[test]
    fn what_is_not_read_says_why() {
        let d = Dictionary::of(&linears());
        let error = |stem: &str| d.target(stem).unwrap_err().to_string();
        assert!(error("lora_unet_joint_blocks_30_x_block_attn_qkv").contains("block 30, and this model has 2"));
        assert!(error("transformer.elsewhere").contains("`elsewhere` is no linear layer"));
        assert!(error("lora_unet_x_embedder_proj").contains("convolution over patches"));
        for (key, says) in [
            ("x.lora_magnitude_vector", "DoRA"),
            ("x.dora_scale", "DoRA"),
            ("x.lokr_w1", "LoKr"),
            ("x.hada_w1_a", "LoHa"),
            ("x.oft_blocks", "OFT"),
            ("x.lora_mid.weight", "three factors"),
            ("x.diff", "whole tensor"),
            ("x.lora_B.bias", "a bias"),
            ("proj_out.weight", "is not part of a LoRA but"),
            ("bundle_emb.a.clip_l", "trained word"),
            ("x", "known naming"),
        ] {
            assert!(foreign(key).contains(says), "{key}: {}", foreign(key));
        }
        assert!(of_text_encoder("lora_te1_text_model_encoder_layers_0_mlp_fc1") && of_text_encoder("text_encoder_2.x"));
        assert!(
            of_text_encoder("base_model.model.text_model.encoder.layers.0.mlp.fc1")
                && !of_text_encoder("transformer.x")
        );
        assert_eq!(other_half("a.lora_A.weight"), "a.lora_B.weight");
        assert_eq!(other_half("a_up.lora_up.weight"), "a_up.lora_down.weight");
    }
}
