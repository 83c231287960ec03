//! Parameters held against a model's configuration before it is loaded.

use crate::adapter::Shape;
use crate::model_folder::Sizes;
use opdflow_flow::lora::LoraConfig;
use opdflow_flow::mmdit::MmditConfig;
use opdflow_flow::nn::LinearShape;
use opdflow_stage::{Foreseen, ParamFault};
use std::collections::{BTreeMap, BTreeSet};

/// Deeper configurations are left to the network itself.
const DEEPEST: i64 = 1000;

/// What is known of the base on the port `base`, if its configurations are sound.
#[must_use]
pub fn sizes(inputs: &Foreseen) -> Option<Sizes> {
    let sizes: Sizes = serde_json::from_value(inputs.get("base")?.clone()).ok()?;
    let sound =
        sizes.transformer.num_layers <= DEEPEST && sizes.transformer.check().is_ok() && sizes.vae.check().is_ok();
    sound.then_some(sizes)
}

/// Why pictures of this side (or of the model's own) cannot be made with the base, as a fault of the parameter `size`.
#[must_use]
pub fn size(inputs: &Foreseen, size: Option<i64>) -> Option<ParamFault> {
    let Sizes { transformer, vae, .. } = sizes(inputs)?;
    let (factor, patch) = (vae.factor(), transformer.patch_size);
    let side = match size {
        Some(pixels) if vae.check_picture(pixels, pixels).is_ok() => pixels / factor,
        Some(pixels) => return Some(unfit(pixels, factor * patch, &transformer)),
        None => transformer.sample_size,
    };
    let fits = transformer.check_latent(transformer.in_channels, side, side).is_ok();
    (!fits).then(|| unfit(side * factor, factor * patch, &transformer))
}

fn unfit(pixels: i64, step: i64, transformer: &MmditConfig) -> ParamFault {
    let most = transformer.pos_embed_max_size.map(|patches| patches.saturating_mul(step));
    let up_to = most.map_or_else(String::new, |most| format!(" up to {most}"));
    let near = ((pixels + step / 2) / step * step).max(step).min(most.unwrap_or(i64::MAX));
    let what = format!("the base makes pictures whose side is a multiple of {step} pixels{up_to}, and {pixels} is not");
    ParamFault::new("size", what).help(format!("write `size: {near}`"))
}

/// Why a fresh adapter of this shape cannot be made for a network of this configuration, as faults of the parameter `lora`.
#[must_use]
pub fn shape(config: &MmditConfig, shape: &Shape) -> Vec<ParamFault> {
    let wanted = LoraConfig { rank: shape.rank, alpha: shape.alpha, targets: shape.targets.clone() };
    let layers = config.linears();
    let targeted: Vec<&LinearShape> = layers.iter().filter(|l| wanted.matches(&l.name)).collect();
    // Of a network of one block, or without second attentions, some names that others have match nothing.
    let dual = vec![0];
    let kin = MmditConfig { num_layers: config.num_layers.max(2), dual_attention_layers: dual, ..config.clone() };
    let kin = kin.linears();
    let alone = |target: &String| LoraConfig { targets: vec![target.clone()], ..wanted.clone() };
    let mut faults = Vec::new();
    for (i, target) in shape.targets.iter().enumerate() {
        if !kin.iter().any(|l| alone(target).matches(&l.name)) {
            let fault =
                ParamFault::new(format!("lora.targets[{i}]"), format!("no layer of the base is named `{target}`"));
            faults.push(fault.help(names(&kin)));
        }
    }
    if targeted.is_empty() && faults.is_empty() {
        let what = "no layer of the base is a target of this adapter";
        faults.push(ParamFault::new("lora.targets", what).help(names(&layers)));
    }
    let narrow = targeted.iter().min_by_key(|l| l.d_in.min(l.d_out));
    if let Some(layer) = narrow.filter(|l| shape.rank > l.d_in.min(l.d_out)) {
        let width = layer.d_in.min(layer.d_out);
        let what =
            format!("the rank is {}, but `{}` is {width} wide: a larger rank adds nothing", shape.rank, layer.name);
        faults.push(ParamFault::new("lora.rank", what).help(format!("take at most {width}")));
    }
    faults
}

/// The last parts of the layers' names, once each.
fn names(layers: &[LinearShape]) -> String {
    let last = |l: &LinearShape| {
        let name = l
            .name
            .strip_prefix("transformer_blocks.")
            .and_then(|n| n.split_once('.'))
            .map_or(l.name.as_str(), |(_, n)| n);
        name.to_owned()
    };
    let all: BTreeSet<String> = layers.iter().map(last).collect();
    format!("layers are named {}", all.into_iter().collect::<Vec<_>>().join(", "))
}

/// Why an adapter with tensors of these shapes is for another network. Names that are not those of peft or diffusers are left
/// to whoever reads them.
#[must_use]
pub fn adapter(config: &MmditConfig, tensors: &BTreeMap<String, Vec<u64>>) -> Option<String> {
    let layers: BTreeMap<String, LinearShape> = config.linears().into_iter().map(|l| (l.name.clone(), l)).collect();
    let depth = |module: &str| -> Option<i64> {
        module.strip_prefix("transformer_blocks.")?.split('.').next()?.parse().ok().filter(|n| *n >= config.num_layers)
    };
    tensors.iter().find_map(|(name, shape)| {
        let path = name.strip_prefix("base_model.model.").unwrap_or(name);
        let path = path.strip_prefix("transformer.").unwrap_or(path);
        let (module, down) = match path.strip_suffix(".lora_A.weight") {
            Some(module) => (module, true),
            None => (path.strip_suffix(".lora_B.weight")?, false),
        };
        if let Some(block) = depth(module) {
            let has = config.num_layers;
            return Some(format!("the adapter changes block {block}, but the base has {has}, 0 to {}", has - 1));
        }
        let layer = layers.get(module)?;
        let (side, wanted) = if down { (shape.get(1)?, layer.d_in) } else { (shape.first()?, layer.d_out) };
        let what = || format!("the adapter's `{name}` is for {side} features, but the base has {wanted} there");
        (*side != wanted.unsigned_abs()).then(what)
    })
}

/// Why the parameters of a stage do not fit the base on its port `base`: the side of its pictures, and the shape of a fresh
/// adapter if it makes one.
#[must_use]
pub fn faults(inputs: &Foreseen, side: Option<i64>, fresh: Option<&Shape>) -> Vec<ParamFault> {
    let of_shape = fresh.and_then(|s| Some(shape(&sizes(inputs)?.transformer, s))).unwrap_or_default();
    size(inputs, side).into_iter().chain(of_shape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mini() -> Foreseen {
        let sizes = crate::bundle::named("bundled:mini").unwrap().sizes().unwrap();
        Foreseen::from([("base".to_owned(), serde_json::to_value(sizes).unwrap())])
    }

    #[test]
    fn sides_fit_the_autoencoder_the_patches_and_the_positions() {
        // Eight pixels a latent pixel, two of those a patch, at most eight patches.
        for (side, near) in [
            (Some(7), Some("16")),
            (Some(72), Some("80")),
            (Some(144), Some("128")),
            (Some(64), None),
            (None, None),
            (Some(128), None),
        ] {
            let fault = size(&mini(), side);
            assert_eq!(
                fault.as_ref().map(|f| f.help.clone().unwrap()),
                near.map(|n| format!("write `size: {n}`")),
                "{side:?}"
            );
        }
        assert_eq!(size(&Foreseen::new(), Some(7)), None, "nothing is said of what is not known");
    }

    #[test]
    fn adapters_fit_the_layers() {
        let config = sizes(&mini()).unwrap().transformer;
        let paths = |rank, targets: &[&str]| {
            let wanted = Shape { rank, alpha: 1.0, targets: targets.iter().map(|t| (*t).to_owned()).collect() };
            shape(&config, &wanted).into_iter().map(|f| f.path).collect::<Vec<_>>()
        };
        assert!(shape(&config, &Shape::default()).is_empty());
        assert_eq!(paths(4, &["attn.to_q", "nosuch"]), ["lora.targets[1]"]);
        assert_eq!(paths(97, &["attn.to_q"]), ["lora.rank"]);
        assert!(
            paths(96, &["to_q", "ff.net.0.proj", "proj_out"]).contains(&"lora.rank".to_owned()),
            "the head is 64 wide"
        );
        // A network of one block has no `to_add_out`, but the name is no mistake.
        let one = MmditConfig { num_layers: 1, ..config.clone() };
        assert!(shape(&one, &Shape::default()).is_empty());
        let only = Shape { targets: vec!["attn.to_add_out".into()], ..Shape::default() };
        assert_eq!(shape(&one, &only)[0].path, "lora.targets");
    }

    #[test]
    fn an_adapter_of_another_depth_or_width_is_told_by_its_header() {
        let config = sizes(&mini()).unwrap().transformer;
        let wrong = |name: &str, shape: [u64; 2]| adapter(&config, &BTreeMap::from([(name.to_owned(), shape.into())]));
        let name = |block: u32| format!("base_model.model.transformer_blocks.{block}.attn.to_q.lora_A.weight");
        assert_eq!(wrong(&name(3), [4, 96]), None);
        assert!(wrong(&name(4), [4, 96]).unwrap().contains("block 4, but the base has 4"));
        assert!(wrong(&name(0), [4, 1536]).unwrap().contains("for 1536 features, but the base has 96"));
        assert!(wrong("transformer.transformer_blocks.0.attn.to_q.lora_B.weight", [1536, 4]).is_some());
        assert_eq!(wrong("lora_unet_x.lora_down.weight", [4, 1]), None, "other names are another reader's");
    }
}
