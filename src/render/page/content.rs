//! What a page shows of a run.

use crate::report::{StageSummary, Summary};
use opdflow_api::Warning;
use std::collections::BTreeMap;

/// What is shown of a run.
#[derive(Debug, Default)]
pub struct Page {
    /// The run's name.
    pub run: String,
    /// What is known of it by its log.
    pub summary: Summary,
    /// Whether its process still works.
    pub alive: bool,
    /// Tables, texts and figures that no other stage reads.
    pub results: Vec<Shown>,
    /// The same of stages on the way, such as the choice of a checkpoint.
    pub others: Vec<Shown>,
    /// Metrics, by stage.
    pub curves: Vec<Curves>,
    /// Images by set and prompt, each of several models.
    pub images: Vec<ImageSet>,
    /// The recipe as it was run.
    pub recipe: Option<String>,
    /// What could not be read, and why.
    pub lacking: Vec<String>,
}

/// An output for people.
#[derive(Debug)]
pub struct Shown {
    /// Its stage.
    pub stage: String,
    /// Its port.
    pub port: String,
    /// What it holds.
    pub content: Content,
}

/// What an output for people holds.
#[derive(Debug)]
pub enum Content {
    /// Markdown.
    Markdown(String),
    /// An image: its media type and its bytes.
    Image(&'static str, Vec<u8>),
}

/// The metrics of a stage.
#[derive(Debug, Default)]
pub struct Curves {
    /// The stage.
    pub stage: String,
    /// By name the values by step.
    pub series: BTreeMap<String, Vec<(u64, f64)>>,
    /// Steps that somebody chose, each with by whom.
    pub chosen: Vec<(u64, String)>,
}

/// The images of one set of prompts.
#[derive(Debug, Default)]
pub struct ImageSet {
    /// The set.
    pub name: String,
    /// The stages that made images of it, in the order of the plan: the columns.
    pub stages: Vec<String>,
    /// The prompts: the rows.
    pub rows: Vec<ImageRow>,
}

/// The images of one prompt.
#[derive(Debug, Default)]
pub struct ImageRow {
    /// The prompt, unless prompts are left out.
    pub prompt: Option<String>,
    /// By the place of its stage, the PNG and its scores.
    pub images: Vec<Option<(Vec<u8>, BTreeMap<String, f64>)>>,
}

impl Page {
    /// All warnings, with their stages.
    pub(super) fn warnings(&self) -> impl Iterator<Item = (&StageSummary, &Warning)> {
        self.summary.stages.iter().flat_map(|s| s.warnings.iter().map(move |w| (s, w)))
    }
}
