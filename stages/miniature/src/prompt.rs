//! Prompts of all families, and the functions that every caller starts from.

use std::fmt;
use std::str::FromStr;

use opdflow_rewards::geneval::Metadata;
use opdflow_rewards::{Picture, Subject};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{Landscape, Split, landscape, shapes, words};

/// Why a picture or a prompt cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    /// GenEval metadata outside this world.
    #[error("cannot draw {prompt:?}: {why}")]
    Shapes {
        /// The prompt.
        prompt: String,
        /// The reason.
        why: String,
    },
    /// A word that does not fit or has unknown letters.
    #[error(
        "cannot write {word:?}: a word has 1 to {letters} letters out of {:?}",
        String::from_utf8_lossy(crate::LETTERS)
    )]
    Word {
        /// The word.
        word: String,
        /// Most letters in a row.
        letters: usize,
    },
    /// A prompt without the part its family needs.
    #[error("the {family} prompt {text:?} has no `{needs}`")]
    Incomplete {
        /// Its family.
        family: Family,
        /// Its text.
        text: String,
        /// The missing field.
        needs: &'static str,
    },
    /// A family of another name.
    #[error("no family `{0}`; there are geneval, ocr, scene")]
    Family(String),
    /// A mix without families, or with a weight that is not a positive number.
    #[error("bad mix `{0}`; write for example `geneval,ocr` or `geneval:2,ocr:1`")]
    Mix(String),
    /// A split of another name.
    #[error("no split `{0}`; there are train, validation, test")]
    Split(String),
}

/// A kind of prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Shapes with GenEval metadata.
    Geneval,
    /// A word to write.
    Ocr,
    /// A landscape.
    Scene,
}

impl Family {
    /// All families.
    pub const ALL: [Family; 3] = [Family::Geneval, Family::Ocr, Family::Scene];
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Geneval => "geneval",
            Family::Ocr => "ocr",
            Family::Scene => "scene",
        })
    }
}

impl FromStr for Family {
    type Err = WorldError;

    fn from_str(text: &str) -> Result<Family, WorldError> {
        Family::ALL.into_iter().find(|f| f.to_string() == text).ok_or_else(|| WorldError::Family(text.to_owned()))
    }
}

/// Families and how often each is drawn. Parses from `geneval,ocr` or `geneval:2,ocr:1`.
#[derive(Debug, Clone, PartialEq)]
pub struct Mix(Vec<(Family, f64)>);

impl Mix {
    /// A mix of families by weight.
    ///
    /// # Errors
    /// [`WorldError::Mix`] when there is no family or a weight is not positive and finite.
    pub fn new(parts: Vec<(Family, f64)>) -> Result<Mix, WorldError> {
        let fine = !parts.is_empty() && parts.iter().all(|(_, w)| w.is_finite() && *w > 0.0);
        if fine { Ok(Mix(parts)) } else { Err(WorldError::Mix(format!("{parts:?}"))) }
    }

    /// All three families alike.
    pub fn all() -> Mix {
        Mix(Family::ALL.map(|f| (f, 1.0)).to_vec())
    }

    fn family(&self, rng: &mut ChaCha8Rng) -> Family {
        let total: f64 = self.0.iter().map(|(_, w)| w).sum();
        let mut at = rng.random_range(0.0..1.0) * total;
        for (family, weight) in &self.0 {
            if at < *weight {
                return *family;
            }
            at -= weight;
        }
        self.0.last().map_or(Family::Geneval, |(f, _)| *f)
    }
}

impl From<Family> for Mix {
    fn from(family: Family) -> Mix {
        Mix(vec![(family, 1.0)])
    }
}

impl FromStr for Mix {
    type Err = WorldError;

    fn from_str(text: &str) -> Result<Mix, WorldError> {
        let part = |part: &str| {
            let (name, weight) = part.split_once(':').unwrap_or((part, "1"));
            let weight = weight.trim().parse().map_err(|_| WorldError::Mix(text.to_owned()))?;
            Ok((name.trim().parse()?, weight))
        };
        let parts = text.split(',').map(part).collect::<Result<_, WorldError>>()?;
        Mix::new(parts).map_err(|_| WorldError::Mix(text.to_owned()))
    }
}

/// A caption with what rewards and the painter need to know of it. One line of a JSONL file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// The words given to the model, 8 at most.
    pub text: String,
    /// Its kind.
    pub family: Family,
    /// What the picture must show; only [`Family::Geneval`].
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
        Subject { text: &prompt.text, target: prompt.target.as_deref(), geneval: prompt.geneval.as_ref() }
    }
}

/// The random stream number `index` of a seed. Streams of one seed are independent, so pictures can be drawn in any order.
pub fn stream(seed: u64, index: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(index);
    rng
}

/// A random prompt of a family, of any split.
pub fn prompt(family: Family, rng: &mut ChaCha8Rng) -> Prompt {
    sample(family, rng, None)
}

/// `n` prompts of a mix, drawn with replacement from one split. Sets of different splits share no word, no landscape and
/// no position, colour or colour-attribution text; the three smaller tasks of GenEval (21 texts in all) are in every split.
pub fn prompts(mix: &Mix, n: usize, seed: u64, split: Split) -> Vec<Prompt> {
    let mut rng = stream(seed, u64::MAX - split as u64);
    (0..n)
        .map(|_| {
            let family = mix.family(&mut rng);
            sample(family, &mut rng, Some(split))
        })
        .collect()
}

fn sample(family: Family, rng: &mut ChaCha8Rng, split: Option<Split>) -> Prompt {
    match family {
        Family::Geneval => shapes::sample(rng, split),
        Family::Ocr => words::sample(rng, split),
        Family::Scene => landscape::sample(rng, split),
    }
}

/// Draws a 64x64 picture that shows what the prompt asks for; place, size, shade and ground are random.
///
/// # Errors
/// When the prompt lacks its family's part, or asks for something this world does not have.
pub fn render(prompt: &Prompt, rng: &mut ChaCha8Rng) -> Result<Picture, WorldError> {
    match part(prompt)? {
        Part::Shapes(metadata) => shapes::render(metadata, rng),
        Part::Word(word) => words::render(word, rng),
        Part::Landscape(landscape) => Ok(landscape::render(landscape, rng)),
    }
}

/// A prompt that differs in one thing: a count, a shape, a colour, a relation, a letter or a mood. Pictures of such prompts
/// beside the true caption teach a model a share of mistakes.
///
/// # Errors
/// As [`render`].
pub fn corrupt(prompt: &Prompt, rng: &mut ChaCha8Rng) -> Result<Prompt, WorldError> {
    match part(prompt)? {
        Part::Shapes(metadata) => shapes::corrupt(metadata, rng),
        Part::Word(word) => Ok(words::corrupt(word, rng)),
        Part::Landscape(landscape) => Ok(landscape::corrupt(landscape, rng)),
    }
}

enum Part<'a> {
    Shapes(&'a Metadata),
    Word(&'a str),
    Landscape(Landscape),
}

fn part(prompt: &Prompt) -> Result<Part<'_>, WorldError> {
    let (found, needs) = match prompt.family {
        Family::Geneval => (prompt.geneval.as_ref().map(Part::Shapes), "geneval"),
        Family::Ocr => (prompt.target.as_deref().map(Part::Word), "target"),
        Family::Scene => (prompt.landscape.map(Part::Landscape), "landscape"),
    };
    found.ok_or_else(|| WorldError::Incomplete { family: prompt.family, text: prompt.text.clone(), needs })
}
