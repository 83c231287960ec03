//! The families of models, one folder each: what is known of a family without a tensor. The folder of the same name in
//! `opdflow-models` has its networks. Nothing outside of a family's two folders names what is in them; docs/how-to/model-family.md says
//! how to add one.

use crate::config::supported;
use crate::family::{Family, Part, Role, SINGLE_FILE, SingleFile};
use crate::weights;
use anyhow::Result;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Hands the list of all families to the macro `$then`, by the names of their modules. The first is that of adapters from
/// before there were others.
///
/// This crate makes the modules and the list of what describes them of it, `opdflow-models` those of what loads them: a family
/// that has one half alone does not compile. Each module has the family itself as `FAMILY`.
///
/// rustfmt does not see modules that a macro declares: `make fmt` and `make lint` name their files.
#[macro_export]
macro_rules! for_families {
    ($then:ident) => {
        $then![sd3, flux, aura];
    };
}

macro_rules! descriptions {
    ($($family:ident),+ $(,)?) => {
        $(pub mod $family;)+

        /// All families. The first is that of adapters from before there were others.
        pub static FAMILIES: &[&dyn Family] = &[$(&$family::FAMILY),+];
    };
}

for_families!(descriptions);

/// The family whose models have this `_class_name`.
#[must_use]
pub fn of_class(class: &str) -> Option<&'static dyn Family> {
    FAMILIES.iter().copied().find(|f| f.class() == class)
}

/// The family of a model by its `model_index.json`. `at`: that file's name, for the message.
///
/// # Errors
/// It is of none that is known: what was found, and what there is.
pub fn of_index(index: &Value, at: &str) -> Result<&'static dyn Family> {
    let class = index.get("_class_name").and_then(Value::as_str).unwrap_or("absent");
    let found = of_class(class);
    supported(at, "_class_name", class, found.is_some(), &known())?;
    found.ok_or_else(|| anyhow::anyhow!("{at}: `_class_name` is {class}"))
}

/// The classes that are known, with what people call the families.
#[must_use]
pub fn known() -> String {
    let all: Vec<String> = FAMILIES.iter().map(|f| format!("{} ({})", f.class(), f.title())).collect();
    all.join(", ")
}

/// What people call the families of whose models single files are read.
#[must_use]
pub fn titles_of_single_files() -> String {
    FAMILIES.iter().filter(|f| f.single_files()).map(|f| f.title()).collect::<Vec<_>>().join(", ")
}

/// The single file at `path`, of whichever family it is; nothing if it holds no network under the names of one.
///
/// # Errors
/// It is no whole safetensors file.
pub fn single(path: &Path) -> Result<Option<Box<dyn SingleFile>>> {
    let shapes = weights::shapes(path)?;
    Ok(FAMILIES.iter().copied().find_map(|family| family.single(path, &shapes)))
}

/// What must be there of a model to load the parts with these roles, of whichever family it is: those parts, and of the others
/// the configurations. Names in the model's folder.
#[must_use]
pub fn needed(roles: &[Role]) -> Vec<String> {
    let of = |part: &Part| match part.config_file() {
        _ if roles.contains(&part.role) => Some(part.name.to_owned()),
        config => config.map(|file| format!("{}/{file}", part.name)),
    };
    let parts: BTreeSet<String> = FAMILIES.iter().flat_map(|family| family.parts()).filter_map(of).collect();
    ["model_index.json", SINGLE_FILE].into_iter().map(str::to_owned).chain(parts).collect()
}

/// The families that may have a layer of such a name, as far as the name alone tells: none where most have one. For messages.
#[must_use]
pub fn of_layer(stem: &str) -> Vec<&'static dyn Family> {
    let flat = stem.replace('.', "_");
    FAMILIES.iter().copied().filter(|f| f.naming().marks().iter().any(|mark| flat.contains(mark))).collect()
}

/// What people call these families, of which one is meant.
#[must_use]
pub fn either(families: &[&'static dyn Family]) -> String {
    families.iter().map(|f| f.title()).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::Configs;

    #[test]
    fn what_is_needed_are_the_parts_asked_for_and_all_configurations() {
        let needed = needed(&[Role::Autoencoder]);
        for there in
            ["model_index.json", SINGLE_FILE, "vae", "transformer/config.json", "scheduler/scheduler_config.json"]
        {
            assert!(needed.iter().any(|n| n == there), "{there}: {needed:?}");
        }
        assert!(!needed.iter().any(|n| n == "transformer" || n.starts_with("tokenizer")), "{needed:?}");
    }

    #[test]
    fn a_model_of_no_known_family_is_refused_with_those_that_are() {
        let of = |index: &str| of_index(&serde_json::from_str(index).unwrap(), "model_index.json");
        for (index, found) in [(r#"{"_class_name": "PixArtSigmaPipeline"}"#, "PixArtSigmaPipeline"), ("{}", "absent")] {
            let error = of(index).err().unwrap().to_string();
            assert!(error.contains(&format!("`_class_name` is {found}")) && error.contains(&known()), "{error}");
        }
        for family in FAMILIES {
            assert_eq!(
                of_index(&family.index(), "").unwrap().class(),
                family.class(),
                "what a single file says of itself"
            );
            assert!(known().contains(family.title()));
            assert_eq!(titles_of_single_files().contains(family.title()), family.single_files());
        }
    }

    #[test]
    fn no_two_families_have_the_same_class_or_marks() {
        let classes: BTreeSet<&str> = FAMILIES.iter().map(|f| f.class()).collect();
        let marks: BTreeSet<&[&str]> = FAMILIES.iter().map(|f| f.naming().marks()).collect();
        assert_eq!((classes.len(), marks.len()), (FAMILIES.len(), FAMILIES.len()));
    }

    /// A model of each family by the defaults of its classes: no layer of it, in diffusers' names or in those that it was published with,
    /// is taken for one of other families alone.
    #[test]
    fn a_layer_is_not_taken_for_another_family_s() {
        for family in FAMILIES {
            let model = [4, 16].into_iter().find_map(|channels| {
                let parts = [
                    ("transformer", serde_json::json!({})),
                    ("vae", serde_json::json!({ "latent_channels": channels })),
                    ("scheduler", serde_json::json!({})),
                ];
                family.architecture(&Configs(parts.map(|(part, config)| (part.to_owned(), config)).into())).ok()
            });
            let model = model.unwrap_or_else(|| panic!("{} has no model of default configurations", family.title()));
            let mut marked = 0;
            for layer in model.linears().iter() {
                let there = family.naming().place(layer).map(|place| place.name);
                for name in [Some(layer.name.clone()), there].into_iter().flatten() {
                    let of = of_layer(&name);
                    marked += of.len();
                    let own = of.iter().any(|f| f.class() == family.class());
                    assert!(own || of.is_empty(), "{name} of {} is taken for {}", family.title(), either(&of));
                }
            }
            assert!(marked > 0, "no layer of {} is known by its name", family.title());
        }
    }
}
