//! Parameters held against a model's configuration before it is loaded.

use crate::model::model_folder::Sizes;
use crate::model::shape::Shape;
use opdflow_api::{Foreseen, ParamFault};
use opdflow_spec::families;
use opdflow_spec::family::{Architecture, Sides};
use opdflow_spec::linears::{LinearShape, LoraConfig};
use std::collections::{BTreeMap, BTreeSet};

/// A model before it is loaded.
pub struct Model {
    /// What was read of its files.
    pub sizes: Sizes,
    /// What its configurations say.
    pub architecture: Box<dyn Architecture>,
}

/// What is known of the base on the port `base`, if its configurations are sound.
#[must_use]
pub fn model(inputs: &Foreseen) -> Option<Model> {
    let sizes: Sizes = serde_json::from_value(inputs.get("base")?.clone()).ok()?;
    Some(Model { architecture: sizes.architecture()?, sizes })
}

/// Why images of this side (or of the model's own) cannot be made with the base, as a fault of the parameter `size`.
#[must_use]
pub fn size(inputs: &Foreseen, size: Option<i64>) -> Option<ParamFault> {
    let architecture = model(inputs)?.architecture;
    let sides = architecture.sides();
    let side = size.unwrap_or(sides.own);
    architecture.latent(side, side).is_err().then(|| unfit(side, sides))
}

fn unfit(pixels: i64, sides: Sides) -> ParamFault {
    let step = sides.unit;
    let up_to = sides.most.map_or_else(String::new, |most| format!(" up to {most}"));
    let near = ((pixels + step / 2) / step * step).max(step).min(sides.most.unwrap_or(i64::MAX));
    let what = format!("the base makes images whose side is a multiple of {step} pixels{up_to}, and {pixels} is not");
    ParamFault::new("size", what).help(format!("write `size: {near}`"))
}

/// Why a fresh adapter of this shape cannot be made for such a model, as faults of the parameter `lora`.
#[must_use]
pub fn shape(model: &dyn Architecture, shape: &Shape) -> Vec<ParamFault> {
    let wanted = shape.config(model);
    let layers = model.linears();
    let targeted: Vec<&LinearShape> = layers.iter().filter(|l| wanted.matches(&l.name)).collect();
    // Of a network of one block, or without second attentions, some names that others have match nothing.
    let kin = model.kin();
    let alone = |target: &String| LoraConfig { target_modules: vec![target.clone()], ..wanted.clone() };
    let mut faults = Vec::new();
    for (i, target) in wanted.target_modules.iter().enumerate() {
        if !kin.iter().any(|l| alone(target).matches(&l.name)) {
            let fault = ParamFault::new(
                format!("lora.target_modules[{i}]"),
                format!("no layer of the base is named `{target}`"),
            );
            faults.push(fault.help(names(&kin)));
        }
    }
    if targeted.is_empty() && faults.is_empty() {
        let what = "no layer of the base is a target of this adapter";
        faults.push(ParamFault::new("lora.target_modules", what).help(names(&layers)));
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

/// A module's list of blocks, its number in it, and what follows; nothing of a module outside of blocks.
fn block(module: &str) -> Option<(&str, i64, &str)> {
    let (list, rest) = module.split_once('.')?;
    let (number, rest) = rest.split_once('.')?;
    Some((list, number.parse().ok()?, rest))
}

/// The last parts of the layers' names, once each.
fn names(layers: &[LinearShape]) -> String {
    let last = |l: &LinearShape| block(&l.name).map_or(l.name.as_str(), |(_, _, rest)| rest).to_owned();
    let all: BTreeSet<String> = layers.iter().map(last).collect();
    format!("layers are named {}", all.into_iter().collect::<Vec<_>>().join(", "))
}

/// Why an adapter with tensors of these shapes is for another network. Names that are not those of peft or diffusers are left
/// to whoever reads them.
#[must_use]
pub fn adapter(model: &dyn Architecture, tensors: &BTreeMap<String, Vec<u64>>) -> Option<String> {
    let linears = model.linears();
    let layers: BTreeMap<&str, &LinearShape> = linears.iter().map(|l| (l.name.as_str(), l)).collect();
    let depth = |list: &str| {
        linears
            .iter()
            .filter_map(|l| block(&l.name))
            .filter(|(l, _, _)| *l == list)
            .map(|(_, number, _)| number + 1)
            .max()
    };
    let family = model.family();
    if let Some((name, other)) = tensors.keys().find_map(|name| {
        let others = families::of_layer(name);
        let foreign = !others.is_empty() && others.iter().all(|other| other.class() != family.class());
        foreign.then(|| (name, families::either(&others)))
    }) {
        return Some(format!(
            "the adapter's `{name}` is a layer of {other}, but the base is a model of {}",
            family.title()
        ));
    }
    tensors.iter().find_map(|(name, shape)| {
        let path = name.strip_prefix("base_model.model.").unwrap_or(name);
        let path = path.strip_prefix("transformer.").unwrap_or(path);
        let (module, down) = match path.strip_suffix(".lora_A.weight") {
            Some(module) => (module, true),
            None => (path.strip_suffix(".lora_B.weight")?, false),
        };
        if let Some((list, number, _)) = block(module)
            && let Some(has) = depth(list).filter(|has| number >= *has)
        {
            return Some(format!("the adapter changes block {number}, but the base has {has}, 0 to {}", has - 1));
        }
        let layer = layers.get(module)?;
        let (side, wanted) = if down { (shape.get(1)?, layer.d_in) } else { (shape.first()?, layer.d_out) };
        let what = || format!("the adapter's `{name}` is for {side} features, but the base has {wanted} there");
        (*side != wanted.unsigned_abs()).then(what)
    })
}

/// Why the parameters of a stage do not fit the base on its port `base`: the side of its images, and the shape of a fresh
/// adapter if it makes one.
#[must_use]
pub fn faults(inputs: &Foreseen, side: Option<i64>, fresh: Option<&Shape>) -> Vec<ParamFault> {
    let of_shape = fresh.and_then(|s| Some(shape(&*model(inputs)?.architecture, s))).unwrap_or_default();
    size(inputs, side).into_iter().chain(of_shape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn mini() -> Foreseen {
        let sizes = crate::model::bundle::named("bundled:mini").unwrap().sizes().unwrap();
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
        let model = model(&mini()).unwrap();
        let paths = |rank, targets: &[&str]| {
            let wanted =
                Shape { rank, alpha: 1.0, target_modules: Some(targets.iter().map(|t| (*t).to_owned()).collect()) };
            shape(&*model.architecture, &wanted).into_iter().map(|f| f.path).collect::<Vec<_>>()
        };
        assert!(shape(&*model.architecture, &Shape::default()).is_empty());
        assert_eq!(paths(4, &["attn.to_q", "nosuch"]), ["lora.target_modules[1]"]);
        assert_eq!(paths(97, &["attn.to_q"]), ["lora.rank"]);
        assert!(
            paths(96, &["to_q", "ff.net.0.proj", "proj_out"]).contains(&"lora.rank".to_owned()),
            "the head is 64 wide"
        );
        // A network of one block has no `to_add_out`, but the name is no mistake.
        let mut one = model.sizes.clone();
        one.configs.get_mut("transformer").unwrap()["num_layers"] = 1.into();
        let one = one.architecture().unwrap();
        assert!(shape(&*one, &Shape::default()).is_empty());
        // What nobody names is the family's own.
        let flux = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/parity_flux/dev");
        let flux = Sizes::of(&flux).unwrap().architecture().unwrap();
        let fresh = Shape { rank: 2, ..Shape::default() };
        assert!(shape(&*flux, &fresh).is_empty());
        assert_eq!(fresh.config(&*flux).target_modules, flux.targets());
        assert_ne!(fresh.config(&*flux), fresh.config(&*model.architecture));
        let only = Shape { target_modules: Some(vec!["attn.to_add_out".into()]), ..Shape::default() };
        assert_eq!(shape(&*one, &only)[0].path, "lora.target_modules");
    }

    /// The three published forms of Stable Diffusion 3 at full size: what a plan knows of them from their configurations, without
    /// any weights.
    #[test]
    fn the_published_models_are_planned_for() {
        let form = |name: &str| -> Foreseen {
            let at = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/parity_sd3/published").join(name);
            let transformer: serde_json::Value = serde_json::from_slice(&std::fs::read(at).unwrap()).unwrap();
            let levels = |block: &'static str| vec![block; 4];
            let vae = serde_json::json!({
                "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 16, "sample_size": 1024,
                "down_block_types": levels("DownEncoderBlock2D"), "up_block_types": levels("UpDecoderBlock2D"),
                "scaling_factor": 1.5305, "shift_factor": 0.0609, "use_quant_conv": false, "use_post_quant_conv": false,
            });
            let sizes = Sizes {
                family: families::FAMILIES[0].class().to_owned(),
                configs: [("transformer".to_owned(), transformer), ("vae".to_owned(), vae)].into(),
                parameters: BTreeMap::new(),
                text_tokens: 333,
            };
            Foreseen::from([("base".to_owned(), serde_json::to_value(sizes).unwrap())])
        };
        let sides = [("sd3-medium.json", 3072), ("sd3.5-large.json", 3072), ("sd3.5-medium.json", 6144)];
        let all = sides.map(|(name, most)| {
            let inputs = form(name);
            assert_eq!(faults(&inputs, Some(512), Some(&Shape::default())), [], "{name}");
            assert_eq!(faults(&inputs, None, Some(&Shape::default())), [], "{name}");
            let most = size(&inputs, Some(most)).is_none() && size(&inputs, Some(most + 16)).is_some();
            assert!(most, "{name}: the table of positions ends elsewhere");
            let work = crate::cost::operations::Operations::of(&inputs, Some(512)).unwrap();
            let memory = crate::cost::memory::judging(&inputs, Some(512), 4, 4.5, crate::precision::Precision::Bf16, 1);
            assert!(memory.len() >= 3, "{name}: {memory:?}");
            (work.forward(1.0) / 1e12, work.forward(4.5) / work.forward(1.0))
        });
        // A forward at 512 pixels with 333 tokens, in TFLOP, as PyTorch counts it of diffusers' class.
        for ((tera, guided), wanted) in all.into_iter().zip([2.107_451, 7.977_786, 2.442_643]) {
            assert!((tera / wanted - 1.0).abs() < 2e-5, "{tera} instead of {wanted}");
            assert_eq!(guided, 2.0);
        }
    }

    #[test]
    fn an_adapter_of_another_depth_or_width_is_told_by_its_header() {
        let model = model(&mini()).unwrap();
        let wrong = |name: &str, shape: [u64; 2]| {
            adapter(&*model.architecture, &BTreeMap::from([(name.to_owned(), shape.into())]))
        };
        let name = |block: u32| format!("base_model.model.transformer_blocks.{block}.attn.to_q.lora_A.weight");
        assert_eq!(wrong(&name(3), [4, 96]), None);
        assert!(wrong(&name(4), [4, 96]).unwrap().contains("block 4, but the base has 4"));
        assert!(wrong(&name(0), [4, 1536]).unwrap().contains("for 1536 features, but the base has 96"));
        assert!(wrong("transformer.transformer_blocks.0.attn.to_q.lora_B.weight", [1536, 4]).is_some());
        assert_eq!(wrong("lora_unet_x.lora_down.weight", [4, 1]), None, "other names are another reader's");
    }
}
