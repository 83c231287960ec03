//! A prompt with what its family needs.

use opdflow_rewards::Subject;
use opdflow_rewards::geneval::Metadata;
use serde::{Deserialize, Serialize};

use crate::{Family, Landscape};

/// A caption with what rewards and the painter need to know of it. One line of a JSONL file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// The words given to the model, 8 at most.
    pub text: String,
    /// Its kind.
    pub family: Family,
    /// What the image must show; only [`Family::Geneval`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geneval: Option<Metadata>,
    /// The word to be written; only [`Family::Ocr`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The landscape; only [`Family::Scene`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landscape: Option<Landscape>,
}

/// What rewards may read of it.
impl<'a> From<&'a Prompt> for Subject<'a> {
    fn from(prompt: &'a Prompt) -> Subject<'a> {
        Subject {
            text: &prompt.text,
            target: prompt.target.as_deref(),
            geneval: prompt.geneval.as_ref(),
            ..Subject::default()
        }
    }
}
