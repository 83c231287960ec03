//! The trait that all rewards share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::metadata::Metadata;
use crate::questions::Question;
use crate::{Image, quoted};

/// What a reward may read of a prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Subject<'a> {
    /// The words given to the model.
    pub text: &'a str,
    /// The text that the image must contain.
    pub target: Option<&'a str>,
    /// What the image must show.
    pub geneval: Option<&'a Metadata>,
    /// What is asked about the image.
    pub questions: &'a [Question],
}

impl<'a> Subject<'a> {
    /// The text that the image must contain: `target`, or else what stands between the first pair of quotation marks
    /// ([`quoted`]). Blank text is none: every image contains it.
    pub fn target(&self) -> Option<&'a str> {
        self.target.or_else(|| quoted(self.text)).filter(|t| !t.trim().is_empty())
    }
}

/// What one image earned.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The training reward.
    pub value: f64,
    /// Named measures besides it, for reports: `strict`, `exact`, `contrast`...
    pub parts: BTreeMap<String, f64>,
}

impl Score {
    /// A score with its parts.
    pub fn new<const N: usize>(value: f64, parts: [(&str, f64); N]) -> Score {
        Score { value, parts: parts.map(|(name, v)| (name.to_owned(), v)).into() }
    }

    /// The first of its numbers that is not finite, if one is: the value, or a part by its name.
    pub fn broken(&self) -> Option<(Option<&str>, f64)> {
        if !self.value.is_finite() {
            return Some((None, self.value));
        }
        self.parts.iter().find(|(_, v)| !v.is_finite()).map(|(name, v)| (Some(name.as_str()), *v))
    }
}

/// A judge of images.
pub trait Reward: Send + Sync {
    /// Its short name, as recipes write it.
    fn name(&self) -> &str;

    /// Whether the subject carries what this reward needs.
    fn applies(&self, subject: &Subject) -> bool;

    /// Why the subject can never earn anything here, if that is known before there is an image of it. A stage asks
    /// before it begins to train for a reward that is always nought.
    fn refuses(&self, _subject: &Subject) -> Option<RewardError> {
        None
    }

    /// One score for each image, in order. The score of an image does not depend on its neighbours.
    ///
    /// # Errors
    /// [`RewardError`] when the lists differ in length, an image is malformed, or a subject lacks what is needed.
    fn score(&self, images: &[Image], subjects: &[Subject]) -> Result<Vec<Score>, RewardError>;
}

/// A reward that several use.
impl<R: Reward + ?Sized> Reward for Arc<R> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn applies(&self, subject: &Subject) -> bool {
        (**self).applies(subject)
    }

    fn refuses(&self, subject: &Subject) -> Option<RewardError> {
        (**self).refuses(subject)
    }

    fn score(&self, images: &[Image], subjects: &[Subject]) -> Result<Vec<Score>, RewardError> {
        (**self).score(images, subjects)
    }
}

/// Why images could not be scored, or a reward not be made.
#[derive(Debug, thiserror::Error)]
pub enum RewardError {
    /// Lists of different lengths.
    #[error("{images} images but {subjects} subjects")]
    Lengths {
        /// Number of images.
        images: usize,
        /// Number of subjects.
        subjects: usize,
    },
    /// An image that is empty or whose bytes do not fit its size.
    #[error("image {index} is malformed: {width}x{height} with {bytes} bytes; it needs width x height x 3, not 0")]
    Image {
        /// Its place in the list.
        index: usize,
        /// Its width in pixels.
        width: usize,
        /// Its height in pixels.
        height: usize,
        /// Its number of bytes.
        bytes: usize,
    },
    /// A part that the reward does not have.
    #[error("no reward has a part `{0}`")]
    Part(String),
    /// A subject without what the reward reads.
    #[error("the reward `{reward}` cannot score {text:?}: the prompt has no {needs}")]
    Missing {
        /// The reward.
        reward: String,
        /// The prompt's words.
        text: String,
        /// What is missing.
        needs: &'static str,
    },
    /// Metadata that ask for something impossible.
    #[error("bad GenEval metadata of {prompt:?}: {why}")]
    Metadata {
        /// The prompt's words.
        prompt: String,
        /// What is wrong.
        why: String,
    },
    /// A class of objects that the detector cannot find.
    #[error("the prompt {prompt:?} asks for `{class}`, which the detector `{detector}` cannot find")]
    Class {
        /// The prompt's words.
        prompt: String,
        /// The class in the metadata.
        class: String,
        /// The detector.
        detector: String,
    },
    /// A file that a reward needs is not there.
    #[error("cannot read {path}: {source}; run scripts/setup.sh to fetch it", path = path.display())]
    Asset {
        /// Where it should be.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// A file of other contents than the scores are known for.
    #[error("{path} has sha256 {found}, not {wanted}; delete it and run scripts/setup.sh", path = path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// The digest it must have.
        wanted: &'static str,
        /// The digest it has.
        found: String,
    },
    /// ONNX Runtime did not load, or failed at work.
    #[error("ONNX Runtime: {0}")]
    Runtime(String),
    /// A model whose inputs, outputs or tables are not those expected.
    #[error("unexpected model: {0}")]
    Model(String),
    /// A score that is infinite or NaN.
    #[error("the reward `{reward}` failed: image {image} with {text:?} gave {found}")]
    NotFinite {
        /// The reward.
        reward: String,
        /// The image's place in the list.
        image: usize,
        /// Its prompt.
        text: String,
        /// The value.
        found: f64,
    },
    /// A network that gave no score.
    #[error("the reward `{reward}` failed: {why}")]
    Failed {
        /// The reward.
        reward: String,
        /// What went wrong.
        why: String,
    },
    /// A server that answered, and whose answer is no score. It is never taken for a nought.
    #[error("the reward `{reward}` has no score for image {image}, of the prompt {text:?}: {why}")]
    Unjudged {
        /// The reward.
        reward: String,
        /// The image's place in the list.
        image: usize,
        /// Its prompt.
        text: String,
        /// What the answer was.
        why: String,
    },
    /// A server that is away, or busy, for longer than the stage waits. Nothing is wrong with what was asked.
    #[error("the server of the reward `{reward}` {why}")]
    Away {
        /// The reward.
        reward: String,
        /// Since when, and what it last said.
        why: String,
    },
    /// No more may be asked.
    #[error("the reward `{reward}` may not be asked any more: {why}")]
    Spent {
        /// The reward.
        reward: String,
        /// The limit.
        why: String,
    },
    /// The stage was asked to stop while a server was asked.
    #[error("stopped while the reward `{0}` was asked")]
    Stopped(String),
    /// Another process of the stage, which has a part of the images, is gone.
    #[error("{0}")]
    Parted(String),
    /// A weight that is not a finite number, or no rewards at all.
    #[error("bad weights: {0}")]
    Weights(String),
}

/// Checks what every reward must check first.
///
/// # Errors
/// Lists of different lengths, or an image that is empty or not whole.
pub fn check(images: &[Image], subjects: &[Subject]) -> Result<(), RewardError> {
    if images.len() != subjects.len() {
        return Err(RewardError::Lengths { images: images.len(), subjects: subjects.len() });
    }
    match images.iter().position(|p| p.rgb.is_empty() || !p.is_whole()) {
        Some(index) => {
            let Image { width, height, ref rgb } = images[index];
            Err(RewardError::Image { index, width, height, bytes: rgb.len() })
        }
        None => Ok(()),
    }
}
