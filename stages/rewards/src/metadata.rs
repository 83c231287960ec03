//! GenEval's metadata, in the JSON of its own prompt files (Ghosh et al. 2023, `evaluation_metadata.jsonl`).

use serde::{Deserialize, Serialize};

/// The six tasks of GenEval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tag {
    /// One object.
    SingleObject,
    /// Two objects of different classes.
    TwoObject,
    /// An exact number of objects of one class.
    Counting,
    /// One object of a named colour.
    Colors,
    /// Two objects in a named relation.
    Position,
    /// Two objects, each of its own colour.
    ColorAttr,
}

impl Tag {
    /// All tasks, in the order of GenEval's paper.
    pub const ALL: [Tag; 6] =
        [Tag::SingleObject, Tag::TwoObject, Tag::Counting, Tag::Colors, Tag::Position, Tag::ColorAttr];

    /// The name used in the metadata.
    pub fn name(self) -> &'static str {
        match self {
            Tag::SingleObject => "single_object",
            Tag::TwoObject => "two_object",
            Tag::Counting => "counting",
            Tag::Colors => "colors",
            Tag::Position => "position",
            Tag::ColorAttr => "color_attr",
        }
    }
}

/// Where an object lies as seen from another one; y grows downwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Relation {
    /// Smaller x.
    #[serde(rename = "left of")]
    LeftOf,
    /// Larger x.
    #[serde(rename = "right of")]
    RightOf,
    /// Smaller y.
    #[serde(rename = "above")]
    Above,
    /// Larger y.
    #[serde(rename = "below")]
    Below,
}

impl Relation {
    /// All four relations.
    pub const ALL: [Relation; 4] = [Relation::LeftOf, Relation::RightOf, Relation::Above, Relation::Below];

    /// The words used in the metadata and in prompts.
    pub fn name(self) -> &'static str {
        match self {
            Relation::LeftOf => "left of",
            Relation::RightOf => "right of",
            Relation::Above => "above",
            Relation::Below => "below",
        }
    }
}

/// One clause of `include`: at least (officially) or exactly (strictly) `count` objects of `class`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Include {
    /// Class name as the detector gives it.
    pub class: String,
    /// Required number, 1 or more.
    pub count: usize,
    /// Required colour, one of the ten of GenEval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<String>,
    /// Required relation to the objects of an earlier clause, given by its index: `["left of", 0]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<(Relation, usize)>,
}

/// One clause of `exclude`: fails when `count` or more objects of `class` are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exclude {
    /// Class name as the detector gives it.
    pub class: String,
    /// The first number that is too many.
    pub count: usize,
}

/// What an image must show, one line of a GenEval prompt file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The task.
    pub tag: Tag,
    /// What must be there; all clauses must hold.
    pub include: Vec<Include>,
    /// What must not be there; no clause may hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Exclude>,
    /// The prompt in words.
    #[serde(default)]
    pub prompt: String,
}
