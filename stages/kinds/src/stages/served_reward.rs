//! `served_reward`: a reward that a server gives. What the stage leaves says how it is asked; nothing is sent here.

use crate::code;
use crate::judging::{reward, reward_models};
use anyhow::{Context as _, Result};
use opdflow_api::port::Output;
use opdflow_api::{Code, Description, Foreseen, ParamFault, Ports, Stage, StageContext};
use opdflow_spec::served::{FILE, NAME, Protocol, Served, is_name, token_variable, url_variable};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The stage kind.
pub struct ServedReward;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the schema has the words of a parameter's own type")]
pub struct Params {
    /// A name of your own, which no reward of the program has: what `reward: {NAME: 1.0}` and `reward_models: {NAME: ...}` call it.
    /// Where its server is, `OPDFLOW_REWARD_NAME_URL` says, and `OPDFLOW_REWARD_NAME_TOKEN` is sent to it, both with the name in
    /// capital letters and from the environment alone.
    pub reward: String,
    /// How it is asked.
    pub protocol: Protocol,
}

impl Stage for ServedReward {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "served_reward",
            semantics: 1,
            about: "Says how a reward is asked of a server, for the port `reward_models` of the stages that train, choose and evaluate with it: of a language model by a question and a parser, or of another program.",
            inputs: &[],
            outputs: const { &[Output::new("reward_model", "reward_model", "how it is asked; not where")] },
            outside_key: &[],
            seeded: false,
            numeric: false,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        let name = &params.reward;
        let mut faults = Vec::new();
        if reward::is_whole(name) || name == reward_models::HELD_OUT {
            let what = format!("`{name}` is a name of the program's own");
            let help = format!("take another, such as `{name}_served`: scores under one name are of one reward");
            faults.push(ParamFault::new("reward", what).help(help));
        } else if !is_name(name) {
            faults.push(ParamFault::new("reward", format!("`{name}` is no name of a served reward")).help(NAME));
        }
        let wrong = params.protocol.faults().into_iter();
        faults.extend(wrong.map(|(at, what, help)| ParamFault::new(format!("protocol.{at}"), what).help(help)));
        faults
    }

    fn code(&self, _params: &Params, _ports: &Ports) -> Code {
        code::of("served_reward", &[&["served"]])
    }

    fn remarks(&self, params: &Params, _folder: &Path) -> Vec<String> {
        let name = &params.reward;
        let at = format!("`{name}` is asked at {}, with {} if it is set", url_variable(name), token_variable(name));
        let twice =
            "a server's answers may differ from run to run, even at temperature 0: the output `answers` keeps them";
        match params.protocol {
            Protocol::Chat(_) => vec![format!("{at}; {twice}")],
            Protocol::Opdflow(_) => vec![at],
        }
    }

    fn foresee(&self, params: &Params, _folder: &Path, _inputs: &Foreseen) -> Foreseen {
        let known = reward_models::ServedKnown {
            measures: params.protocol.measures(),
            each: params.protocol.images_of_request() as u64,
            asking: params.protocol.asking(),
        };
        let known = reward_models::Known {
            reward: params.reward.clone(),
            served: Some(known),
            ..reward_models::Known::default()
        };
        serde_json::to_value(known).ok().map(|known| ("reward_model".to_owned(), known)).into_iter().collect()
    }
}

/// Writes how the reward is asked, with the words of the question.
///
/// # Errors
/// The disk is full.
pub fn run(params: Params, context: &mut StageContext) -> Result<()> {
    let folder = context.output("reward_model").join(&params.reward);
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let served = Served { reward: params.reward, protocol: params.protocol.written_out() };
    std::fs::write(folder.join(FILE), serde_json::to_string_pretty(&served)? + "\n").context("writing how it is asked")
}
