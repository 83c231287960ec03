//! The three families of prompts, how they are mixed, and what cannot be asked of them.

use std::fmt;
use std::str::FromStr;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Why an image or a prompt cannot be made.
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

    /// A family, drawn by its weight.
    pub(crate) fn family(&self, rng: &mut ChaCha8Rng) -> Family {
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
