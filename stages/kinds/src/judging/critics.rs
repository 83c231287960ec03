//! What is known of the critics on the port `critics` before anything runs.

use opdflow_api::port::Input;
use opdflow_api::{Foreseen, Memory, ParamFault};
use serde::{Deserialize, Serialize};

/// The port of the critics, on every kind that judges pictures.
pub const CRITICS: Input = Input::any(
    "critics",
    &["critic"],
    "networks that judge, each under the name of its reward; `geneval` here takes the place of the miniature's own",
);

/// What is known of a critic before it is opened.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Known {
    /// The reward that it judges by.
    pub reward: String,
    /// Bytes of its weights in f32.
    pub bytes: Option<u64>,
    /// Of GenEval's, the classes that its detector finds.
    pub classes: Option<Vec<String>>,
}

fn known(inputs: &Foreseen) -> impl Iterator<Item = (&str, Known)> {
    let critics = inputs.iter().filter_map(|(port, value)| Some((port.strip_prefix("critics.")?, value)));
    critics.filter_map(|(name, value)| Some((name, serde_json::from_value(value.clone()).ok()?)))
}

/// The memory that connected critics take, if something is known of them.
#[must_use]
pub fn memory(inputs: &Foreseen) -> Option<Memory> {
    let bytes: u64 = known(inputs).filter_map(|(_, critic)| critic.bytes).sum();
    (bytes > 0).then(|| Memory::of("critics", bytes))
}

/// The classes that the connected `geneval` finds, if there is one and they are known.
#[must_use]
pub fn classes(inputs: &Foreseen) -> Option<Vec<String>> {
    known(inputs).find(|(name, _)| *name == "geneval")?.1.classes
}

/// Critics that are connected under another name than that of their reward.
#[must_use]
pub fn misnamed(inputs: &Foreseen) -> Vec<ParamFault> {
    let other = known(inputs).filter(|(name, critic)| *name != critic.reward);
    let fault = |(name, critic): (&str, Known)| {
        let what = format!("this critic judges by `{}`, not by `{name}`", critic.reward);
        ParamFault::of_port(format!("critics.{name}"), what)
            .help(format!("connect it as `critics: {{{}: ...}}`", critic.reward))
    };
    other.map(fault).collect()
}
