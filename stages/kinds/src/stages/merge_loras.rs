//! `merge_loras`: one adapter of several, without training. A baseline, and a start for distillation.

use crate::model::model_folder::Sizes;
use crate::prompt::provenance;
use crate::training::course_doubts;
use crate::{code, param};
use opdflow_api::port::{Input, Output};
use opdflow_api::{Code, Description, Doubt, Foreseen, ParamFault, Ports, Resources, Stage, Work};
use opdflow_spec::family::Role;
use opdflow_spec::merge::Merge;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The stage kind.
pub struct MergeLoras;

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the schema has the words of a parameter's own type")]
pub struct Params {
    /// What is averaged.
    pub how: Merge,
    /// Weight of each adapter; one divided by their number where none is given.
    #[schemars(with = "BTreeMap<String, param::Share>")]
    pub weights: BTreeMap<String, f64>,
}

impl Stage for MergeLoras {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "merge_loras",
            semantics: 1,
            about: "Averages adapters of one base: the changes of the weights (exact, ranks add up), or their factors A and B separately.",
            inputs: const {
                &[
                    Input::one("base", &["model"], "the base of all of them"),
                    Input::many("loras", &["lora"], "the adapters"),
                ]
            },
            outputs: const { &[Output::new("lora", "lora", "the merged adapter").result()] },
            outside_key: &[],
            seeded: false,
            numeric: true,
        }
    }

    fn wired(&self, params: &Params, ports: &Ports) -> Vec<ParamFault> {
        let names = ports.names("loras");
        let unknown = params.weights.keys().filter(|n| !names.contains(n)).map(|n| {
            let fault = ParamFault::new(format!("weights.{n}"), format!("no adapter is named `{n}`"));
            fault.help(format!("adapters are {}", names.join(", ")))
        });
        let nothing = names.iter().all(|n| params.weights.get(n) == Some(&0.0));
        let nothing = nothing.then(|| {
            ParamFault::new("weights", "every adapter has weight 0").help("leave `weights` out for equal shares")
        });
        unknown.chain(nothing).collect()
    }

    fn code(&self, _params: &Params, _ports: &Ports) -> Code {
        code::of("merge_loras", &[code::MODEL, &["training.merge", "stages.files"]])
    }

    /// The model is loaded, and little else is done.
    fn work(&self, _params: &Params, _folder: &Path, inputs: &Foreseen) -> Option<Work> {
        let sizes: Sizes = serde_json::from_value(inputs.get("base")?.clone()).ok()?;
        Some(Work { operations: sizes.parameters(Role::Network) as f64, bytes: None })
    }

    fn resources(&self, _: &Params) -> Resources {
        Resources::default()
    }

    fn foresee(&self, _params: &Params, _folder: &Path, inputs: &Foreseen) -> Foreseen {
        provenance::trained(inputs, &["loras"], &["lora"])
    }

    fn doubts(&self, params: &Params, _folder: &Path, _inputs: &Foreseen) -> Vec<Doubt> {
        course_doubts::weightless("weights", &params.weights, "adapter", "give it a weight, or take it out")
    }
}
