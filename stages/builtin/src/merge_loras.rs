//! `merge_loras`: one adapter of several, without training. A baseline, and a start for distillation.

use crate::adapter;
use crate::param;
use crate::precision::Precision;
use crate::studio::Studio;
use anyhow::Result;
use opdflow_flow::lora::Lora;
use opdflow_flow::merge::{Merge, merge};
use opdflow_stage::port::{Input, Output};
use opdflow_stage::{Description, Fault, ParamFault, Ports, Resources, Stage, StageContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The stage kind.
pub struct MergeLoras;

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// What is averaged.
    how: Merge,
    /// Weight of each adapter; one divided by their number where none is given.
    #[schemars(with = "BTreeMap<String, param::Share>")]
    weights: BTreeMap<String, f64>,
}

impl Stage for MergeLoras {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "merge_loras",
            semantics: 1,
            about: "Averages adapters of one base: the changes that they make (exact, ranks add up), or their factors A and B apart.",
            inputs: const {
                &[
                    Input::one("base", &["model"], "the base of all of them"),
                    Input::many("loras", &["lora"], "the adapters"),
                ]
            },
            outputs: const { &[Output::new("lora", "lora", "the merged adapter")] },
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

    fn resources(&self, _: &Params) -> Resources {
        Resources { cpus: 1, memory: 1 << 30, gpu: false }
    }

    fn run(&self, params: Params, context: &mut StageContext) -> Result<()> {
        let studio = Studio::open(context, "base", 1, None, Precision::default())?;
        let names = context.names("loras");
        if let Some(unknown) = params.weights.keys().find(|n| !names.contains(n)) {
            return Err(Fault::user(format!("`weights.{unknown}` names no adapter"))
                .help(format!("adapters are {}", names.join(", ")))
                .into());
        }
        let loras = names
            .iter()
            .map(|n| adapter::input(context, &format!("loras.{n}"), &studio))
            .collect::<Result<Vec<Lora>>>()?;
        let share = 1.0 / names.len() as f64;
        let weighted: Vec<(f64, &Lora)> =
            names.iter().zip(&loras).map(|(n, l)| (params.weights.get(n).copied().unwrap_or(share), l)).collect();
        let merged = merge(params.how, &weighted).map_err(|e| Fault::user(format!("{e:#}")))?;
        adapter::save(&merged, &merged.parameters(), studio.base, &context.output("lora"))
    }
}
