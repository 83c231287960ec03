//! The protocol by which one program asks another for a reward: docs/reference/reward_server.md. JSON over HTTP/1.1.
//!
//! Numbers go as JSON numbers with as many digits as give back the same f64.

use opdflow_rewards::{Score, Subject};
use serde::{Deserialize, Serialize};

/// Where the server says what it is.
pub const HEALTH: &str = "/v1/health";

/// Where it is asked.
pub const SCORE: &str = "/v1/score";

/// How images go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// As PNGs, 8 bits a channel, RGB.
    #[default]
    Png,
    /// As their bytes, row by row, red, green and blue, of the shapes that are beside them.
    Rgb,
}

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
    /// The form in which it wants images.
    #[serde(default)]
    pub form: Form,
}

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Question {
    /// The form of the images.
    #[serde(default)]
    pub form: Form,
    /// The images in that form, each in base64 of the standard alphabet with padding.
    pub images: Vec<String>,
    /// Of `rgb`, height, width and 3 of each image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shapes: Vec<[usize; 3]>,
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
