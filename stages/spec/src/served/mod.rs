//! Rewards that a server gives: what their scores hang on, and how they are asked. Nothing here sends anything.

mod endpoint;
mod name;
mod parser;
mod template;

pub use endpoint::{Endpoint, EndpointFault};
pub use name::{NAME, is_name, token_variable, url_variable};
pub use parser::{Asking, Parser, Reading, Reply};
pub use template::{BUNDLED, PROMPT, fill};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The file of a reward model that says that it is asked of a server.
pub const FILE: &str = "served.json";

/// The most images of one request by the protocol of opdflow.
pub const IMAGES: usize = 8;

/// A reward that a server gives: what is in keys of it. Where the server is and what opens it is not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Served {
    /// Its name in recipes.
    pub reward: String,
    /// How it is asked.
    pub protocol: Protocol,
}

/// How a reward is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Protocol {
    /// A language model that sees images, by the chat interface of OpenAI, which vLLM and SGLang have too.
    Chat(Chat),
    /// A reward by the protocol of opdflow, docs/reference/reward_server.md: a number and measures for an image and its prompt.
    Opdflow(Pinned),
}

/// What a chat model is asked, and how its answer is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Chat {
    /// The model's name, as its server knows it.
    pub model: String,
    /// The words of the question, with `{prompt}` where the image's prompt stands; `bundled:unified_reward` and
    /// `bundled:unified_reward_acs` are the published ones.
    pub template: String,
    /// How a number is read from the answer.
    pub parser: Parser,
    /// Side in pixels to which an image is brought before it is sent, as Pillow's bicubic does; its own size if absent.
    #[schemars(range(min = 8, max = 4096))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<u32>,
    /// The most tokens of an answer. One that is cut there is no answer.
    #[schemars(range(min = 1, max = 65_536))]
    #[serde(default = "most_tokens")]
    pub max_tokens: u32,
}

fn most_tokens() -> u32 {
    512
}

/// Which server is right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pinned {
    /// What the server must say of itself: a digest of all that its scores hang on. `opdflow reward-server` prints its own.
    pub digest: String,
    /// The names of its measures, each a reward of its own under `NAME.measure`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measures: Vec<String>,
}

/// How servers are asked: outside of keys, for it changes no score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Requests {
    /// Requests at a time, of each process of the stage.
    #[schemars(range(min = 1, max = 1024))]
    pub concurrency: usize,
    /// Seconds for one request with its answer.
    #[schemars(range(min = 0.1, max = 86_400.0))]
    pub timeout_seconds: f64,
    /// Seconds that an endpoint may be away, or answer that it is busy or broken, before the stage stops.
    #[schemars(range(min = 0.0, max = 2_592_000.0))]
    pub patience_seconds: f64,
    /// The most requests of the stage, those of interrupted attempts counted as far as their answers were kept; without end if
    /// absent.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_calls: Option<u64>,
}

impl Requests {
    /// Whether nothing is said of them.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self { concurrency: 8, timeout_seconds: 120.0, patience_seconds: 600.0, max_calls: None }
    }
}

/// A fault of a protocol: where below it, what is wrong, and the way out.
pub type Wrong = (String, String, String);

impl Protocol {
    /// What is wrong with it.
    #[must_use]
    pub fn faults(&self) -> Vec<Wrong> {
        match self {
            Self::Chat(chat) => chat.faults(),
            Self::Opdflow(pinned) => pinned.faults(),
        }
    }

    /// The same with the words that a name of the program's own stands for.
    #[must_use]
    pub fn written_out(self) -> Self {
        match self {
            Self::Chat(chat) => {
                let template = template::bundled(&chat.template).map_or(chat.template, str::to_owned);
                Self::Chat(Chat { template, ..chat })
            }
            other => other,
        }
    }

    /// How many images are asked about at once.
    #[must_use]
    pub fn images_of_request(&self) -> usize {
        match self {
            Self::Chat(_) => 1,
            Self::Opdflow(_) => IMAGES,
        }
    }

    /// Which questions beside a prompt it is asked, each by itself, if it is not asked about the prompt.
    #[must_use]
    pub fn asking(&self) -> Option<Asking> {
        match self {
            Self::Chat(chat) => chat.parser.asking(),
            Self::Opdflow(_) => None,
        }
    }

    /// The names of the measures that its scores have.
    #[must_use]
    pub fn measures(&self) -> Vec<String> {
        match self {
            Self::Chat(chat) => chat.parser.measures().iter().map(|m| (*m).to_owned()).collect(),
            Self::Opdflow(pinned) => pinned.measures.clone(),
        }
    }
}

impl Chat {
    fn faults(&self) -> Vec<Wrong> {
        let mut faults = Vec::new();
        let at = |name: &str| format!("chat.{name}");
        if self.model.trim().is_empty() {
            let help = "the name under which the server has the model, such as UnifiedReward-7b-v1.5";
            faults.push((at("model"), "there is no name".to_owned(), help.to_owned()));
        }
        if self.template.starts_with(BUNDLED) && template::bundled(&self.template).is_none() {
            let what = format!("no template is bundled as `{}`", self.template);
            faults.push((at("template"), what, format!("there are {}, or words of your own", template::names())));
        } else if self.template.trim().is_empty() {
            let help = format!("write the question, with `{PROMPT}` where the image's prompt stands");
            faults.push((at("template"), "there is no question".to_owned(), help));
        }
        faults.extend(self.parser.fault().map(|(what, help)| (at("parser"), what, help)));
        faults
    }
}

impl Pinned {
    fn faults(&self) -> Vec<Wrong> {
        let mut faults = Vec::new();
        if self.digest.trim().is_empty() {
            let help = "what the server says of itself at GET /v1/health";
            faults.push(("opdflow.digest".to_owned(), "there is no digest".to_owned(), help.to_owned()));
        }
        for (i, name) in self.measures.iter().enumerate().filter(|(_, name)| !is_name(name)) {
            let what = format!("`{name}` is no name of a measure");
            faults.push((format!("opdflow.measures[{i}]"), what, NAME.to_owned()));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundled_template_is_written_out_and_an_unknown_one_is_named_with_those_there_are() {
        let chat = |template: &str| {
            let text = format!(r#"{{"chat": {{"model": "m", "template": {template:?}, "parser": "unified_reward"}}}}"#);
            serde_json::from_str::<Protocol>(&text).unwrap()
        };
        let Protocol::Chat(out) = chat("bundled:unified_reward").written_out() else { panic!() };
        assert!(
            out.template.contains("Text Caption: [{prompt}]") && chat("bundled:unified_reward").faults().is_empty()
        );
        let (at, what, help) = chat("bundled:unified").faults().remove(0);
        assert_eq!(at, "chat.template");
        assert!(what.contains("`bundled:unified`") && help.contains("bundled:unified_reward_acs"), "{what}; {help}");
        assert_eq!(chat(" ").faults().len(), 1);
        assert_eq!(out.max_tokens, 512);
    }
}
