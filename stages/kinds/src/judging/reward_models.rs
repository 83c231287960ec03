//! What is known of the reward models on the port `reward_models` before anything runs.

use opdflow_api::port::Input;
use opdflow_api::{Foreseen, Memory, ParamFault};
use opdflow_spec::served::Asking;
use serde::{Deserialize, Serialize};

/// The port of the reward models, on every kind that judges images.
pub const REWARD_MODELS: Input = Input::any(
    "reward_models",
    &["reward_model"],
    "reward models, each under the name of its reward; a `geneval` or an `ocr` here replaces the program's own, and a `served_reward` has a name of its own",
)
.formerly(&["critics"]);

/// The port of those that only tables ask.
pub const HELD_OUT: &str = "held_out";

/// What is known of a reward model before it is opened.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Known {
    /// The reward that it judges by.
    pub reward: String,
    /// Bytes of its weights in f32.
    pub bytes: Option<u64>,
    /// Of GenEval's, the classes that its detector finds.
    pub classes: Option<Vec<String>>,
    /// Of one that a server gives, what is known of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<ServedKnown>,
}

/// What is known of a served reward.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServedKnown {
    /// The names of its measures.
    pub measures: Vec<String>,
    /// How many images are asked about at once.
    pub each: u64,
    /// Which questions beside a prompt it is asked, each by itself, if it is not asked about the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asking: Option<Asking>,
}

/// What is known of those on this port, by the names that they are connected under.
pub fn on_port<'a>(inputs: &'a Foreseen, port: &'a str) -> impl Iterator<Item = (&'a str, Known)> {
    let on = move |place: &'a String| place.strip_prefix(port)?.strip_prefix('.');
    let reward_models = inputs.iter().filter_map(move |(place, value)| Some((on(place)?, value)));
    reward_models.filter_map(|(name, value)| Some((name, serde_json::from_value(value.clone()).ok()?)))
}

/// The ports that reward models are on.
const PORTS: [&str; 2] = [REWARD_MODELS.name, HELD_OUT];

/// The memory that connected reward models take, if something is known of them.
#[must_use]
pub fn memory(inputs: &Foreseen) -> Option<Memory> {
    let all = PORTS.into_iter().flat_map(|port| on_port(inputs, port));
    let bytes: u64 = all.filter_map(|(_, reward_model)| reward_model.bytes).sum();
    (bytes > 0).then(|| Memory::of("reward_models", bytes))
}

/// The classes that the connected `geneval` finds, if there is one and they are known.
#[must_use]
pub fn classes(inputs: &Foreseen) -> Option<Vec<String>> {
    on_port(inputs, REWARD_MODELS.name).find(|(name, _)| *name == "geneval")?.1.classes
}

/// What is known of the served reward of this name on this port, if it is one.
#[must_use]
pub fn served(inputs: &Foreseen, port: &str, name: &str) -> Option<ServedKnown> {
    on_port(inputs, port).find(|(other, _)| *other == name)?.1.served
}

/// Which questions the reward of this name on this port, or the one of which it is a measure, is asked, if it is asked any.
#[must_use]
pub fn asking(inputs: &Foreseen, port: &str, name: &str) -> Option<Asking> {
    served(inputs, port, name.split('.').next().unwrap_or(name))?.asking
}

/// Reward models that are connected under another name than that of their reward.
#[must_use]
pub fn misnamed(inputs: &Foreseen) -> Vec<ParamFault> {
    let of_port = |port: &'static str| {
        let other = on_port(inputs, port).filter(|(name, reward_model)| *name != reward_model.reward);
        other.map(move |(name, reward_model)| {
            let what = format!("this reward model judges by `{}`, not by `{name}`", reward_model.reward);
            ParamFault::of_port(format!("{port}.{name}"), what)
                .help(format!("connect it as `{port}: {{{}: ...}}`", reward_model.reward))
        })
    };
    PORTS.into_iter().flat_map(of_port).collect()
}
