//! The protocol by which one program asks another for a reward: docs/reference/reward_server.md. JSON over HTTP/1.1.
//!
//! Numbers go as JSON numbers with as many digits as give back the same f64.

use opdflow_rewards::{Score, Subject};
use serde::{Deserialize, Serialize};

/// Where the server says what it is.
pub const HEALTH: &str = "/v1/health";

/// Where it is asked.
pub const SCORE: &str = "/v1/score";

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// The reward, in the server's own words.
    pub name: String,
    /// The version of the program, for people.
    pub version: String,
    /// A digest of all that the scores hang on.
    pub digest: String,
    /// The names of its measures.
    #[serde(default)]
    pub measures: Vec<String>,
}

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Question {
    /// PNGs, 8 bits a channel, RGB, in base64 of the standard alphabet with padding.
    pub images: Vec<String>,
    /// What the reward may know of each image's prompt, in the order of the images.
    pub subjects: Vec<About>,
}

/// What a reward may know of a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Its words.
    pub text: String,
    /// The text that the image must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What the image must show, as GenEval has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geneval: Option<serde_json::Value>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The digest of [`Health`], with every answer: a server may have been begun anew meanwhile.
    pub digest: String,
    /// A score for each image, in their order.
    pub scores: Vec<Score>,
}

impl About {
    /// Of a subject.
    ///
    /// # Errors
    /// Metadata that have no form in JSON: a bug.
    pub fn of(subject: &Subject) -> Result<Self, serde_json::Error> {
        Ok(Self {
            text: subject.text.to_owned(),
            target: subject.target.map(str::to_owned),
            geneval: subject.geneval.map(serde_json::to_value).transpose()?,
        })
    }
}
