//! What a landscape shows.

use serde::{Deserialize, Serialize};

use crate::Colour;

/// The light of a landscape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mood {
    /// Sunset.
    Warm,
    /// Clear day.
    Cool,
    /// Night, with a moon.
    Dark,
    /// Hazy noon.
    Bright,
}

impl Mood {
    /// All moods.
    pub const ALL: [Mood; 4] = [Mood::Warm, Mood::Cool, Mood::Dark, Mood::Bright];

    /// The word used in prompts.
    pub fn name(self) -> &'static str {
        match self {
            Mood::Warm => "warm",
            Mood::Cool => "cool",
            Mood::Dark => "dark",
            Mood::Bright => "bright",
        }
    }
}

/// What a landscape shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Landscape {
    /// Light.
    pub mood: Mood,
    /// Colour of the hills.
    pub hills: Colour,
}
