//! Rewards that a server gives, as stages that judge see them before anything runs.

use crate::judging::reward::{self, may_be_served};
use crate::judging::reward_models::{self, HELD_OUT, REWARD_MODELS, ServedKnown};
use crate::prompt::prompt_set::PromptSet;
use crate::prompt::provenance;
use opdflow_api::port::Output;
use opdflow_api::{Calls, Foreseen, ParamFault, Ports};
use opdflow_spec::served::Endpoint;
use std::collections::{BTreeMap, BTreeSet};

/// The output of the raw answers.
pub const ANSWERS: Output = Output::side(
    "answers",
    "answers",
    "where a chat model judges: its raw answers, a line of JSON each, with the number that was read and digests of question and image",
);

/// The served rewards that are connected, each once.
fn connected(ports: &Ports) -> BTreeSet<String> {
    let on = |port: &str| ports.names(port).into_iter().filter(|name| may_be_served(name)).collect::<Vec<_>>();
    on(REWARD_MODELS.name).into_iter().chain(on(HELD_OUT)).collect()
}

/// What this machine lacks to ask the connected ones: variables that say where their servers are.
#[must_use]
pub fn lacks(ports: &Ports) -> Vec<ParamFault> {
    let fault = |name: String| {
        let fault = Endpoint::of(&name).err()?;
        let port = [REWARD_MODELS.name, HELD_OUT].map(|p| format!("{p}.{name}"));
        let port = port.into_iter().find(|p| ports.contains(p)).unwrap_or_default();
        Some(ParamFault::of_port(port, fault.what).help(fault.help))
    };
    connected(ports).into_iter().filter_map(fault).collect()
}

/// The fault of a parameter at `path` that names a measure that the connected reward does not have.
#[must_use]
pub fn unmeasured(inputs: &Foreseen, path: &str, name: &str) -> Option<ParamFault> {
    let (whole, measure) = name.split_once('.')?;
    let ServedKnown { measures, .. } = reward_models::served(inputs, REWARD_MODELS.name, whole)?;
    let unknown = !measures.iter().any(|m| m == measure) && measure != "reward";
    let has = if measures.is_empty() { "it has none".to_owned() } else { format!("it has {}", measures.join(", ")) };
    unknown.then(|| ParamFault::new(path, format!("`{whole}` has no measure `{measure}`")).help(has))
}

/// How often the reward of this name on `port` is asked about one image of each of these prompts, if that is known: once, or for each of
/// their questions.
#[must_use]
pub fn about_each(inputs: &Foreseen, port: &str, name: &str, prompts: &serde_json::Value) -> Option<u64> {
    match reward_models::asking(inputs, port, name) {
        None => provenance::count(prompts),
        Some(_) => serde_json::from_value::<PromptSet>(prompts.clone()).ok()?.asked(),
    }
}

/// Requests by reward.
#[derive(Debug, Default)]
pub struct Counted(BTreeMap<String, Option<u64>>);

impl Counted {
    /// Counts that the reward `name` on `port` judges so many images, `times` over; nothing of either if it is not known. One that is
    /// not served is not counted.
    pub fn judges(&mut self, inputs: &Foreseen, port: &str, name: &str, images: Option<u64>, times: Option<u64>) {
        let name = reward::whole_of(name);
        let Some(known) = reward_models::served(inputs, port, name) else { return };
        let more = images.zip(times).map(|(images, times)| images.div_ceil(known.each.max(1)).saturating_mul(times));
        let so_far = self.0.entry(name.to_owned()).or_insert(Some(0));
        *so_far = so_far.zip(more).map(|(one, other)| one.saturating_add(other));
    }

    /// As the plan has them.
    #[must_use]
    pub fn calls(self) -> Vec<Calls> {
        self.0.into_iter().map(|(of, most)| Calls { of, most }).collect()
    }
}
