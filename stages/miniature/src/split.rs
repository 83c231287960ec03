//! Which prompts belong to training, validation and test.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One of three sets of prompts that share no text, wherever the space of texts is large enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// For training.
    Train,
    /// For choosing between runs.
    Validation,
    /// For the figures that are reported.
    Test,
}

impl Split {
    /// The split of entry `rank` of a list of `total` texts sorted by [`hash`]: a sixth (at least 2) for test, a twelfth
    /// (at least 2) for validation.
    pub(crate) fn of_rank(rank: usize, total: usize) -> Split {
        let test = (total / 6).max(2);
        let validation = (total / 12).max(2);
        match rank {
            r if r < test => Split::Test,
            r if r < test + validation => Split::Validation,
            _ => Split::Train,
        }
    }

    /// The split of a text of a space too large to list: 2 parts in 32 for test, 1 for validation.
    pub(crate) fn of_hash(text: &str) -> Split {
        match hash(text) >> 59 {
            0 | 1 => Split::Test,
            2 => Split::Validation,
            _ => Split::Train,
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
        })
    }
}

impl FromStr for Split {
    type Err = crate::WorldError;

    fn from_str(text: &str) -> Result<Split, Self::Err> {
        match text {
            "train" => Ok(Split::Train),
            "validation" => Ok(Split::Validation),
            "test" => Ok(Split::Test),
            other => Err(crate::WorldError::Split(other.to_owned())),
        }
    }
}

/// FNV-1a of 64 bits with a final mix, so that the high bits of short texts are even too.
pub(crate) fn hash(text: &str) -> u64 {
    let mut h = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    h ^= h >> 32;
    h = h.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    h ^ (h >> 29)
}
