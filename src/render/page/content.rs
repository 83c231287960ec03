//! What a page shows of a run.

use crate::report::against::Known;
use crate::report::numbers::Numbers;
use crate::report::{StageSummary, Summary};
use opdflow_api::Warning;
use opdflow_api::cache::ActionRecord;
use std::collections::{BTreeMap, BTreeSet};

/// What a page is to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether prompts, the recipe's text and paths are left out, for a page that is shared.
    pub no_prompts: bool,
    /// Most bytes of images in the page; what finds no room lies beside it.
    pub image_bytes: usize,
}

/// What is shown of a run.
#[derive(Debug, Default)]
pub struct Page {
    /// The run's name; empty where a recipe is shown by what the store has of it.
    pub run: String,
    /// What is known of it by its log.
    pub summary: Summary,
    /// Whether its process still works.
    pub alive: bool,
    /// Tables, texts and figures that no other stage reads.
    pub results: Vec<Shown>,
    /// The same of stages on the way, such as the choice of a checkpoint.
    pub others: Vec<Shown>,
    /// The same tables as numbers, with the published ones and with what each row was made of.
    pub numbers: Vec<Numbers>,
    /// The records of stages that have a result.
    pub records: BTreeMap<String, ActionRecord>,
    /// Floating-point operations of trainings that say them.
    pub operations: BTreeMap<String, f64>,
    /// Metrics, by stage.
    pub curves: Vec<Curves>,
    /// Images by set and prompt, each of several models.
    pub images: Vec<ImageSet>,
    /// The folder beside the page in which `files` lie.
    pub folder: String,
    /// Files that lie beside the page, by name: images that found no room in it.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Images on the way of trainings: a set each, whose columns are steps.
    pub samples: Vec<ImageSet>,
    /// Trainings whose images on the way are gone, or were never made.
    pub without_samples: Vec<String>,
    /// The folder of the run's outputs, for commands; nothing where paths are left out.
    pub outputs: Option<String>,
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
    /// By the place of its stage.
    pub images: Vec<Option<ScoredImage>>,
}

/// An image with its scores.
#[derive(Debug, Default)]
pub struct ScoredImage {
    /// The PNG, which is in the page; empty if it lies beside it.
    pub png: Vec<u8>,
    /// The name of its file beside the page, if it found no room in it.
    pub beside: Option<String>,
    /// By reward.
    pub scores: BTreeMap<String, f64>,
}

impl Page {
    /// What is known of its stages.
    #[must_use]
    pub fn known(&self) -> Known {
        let one = |s: &StageSummary| {
            let manifest = self.records.get(&s.name).map(|record| record.manifest.clone());
            (s.name.clone(), (s.key, manifest))
        };
        self.summary.stages.iter().map(one).collect()
    }

    /// A fact that the record of a stage notes, such as `gpu_seconds`.
    pub(super) fn fact(&self, stage: &str, name: &str) -> Option<&str> {
        self.records.get(stage)?.note.get(name).map(String::as_str)
    }

    /// The same, as a number.
    pub(super) fn measured(&self, stage: &str, name: &str) -> Option<f64> {
        self.fact(stage, name)?.parse().ok().filter(|n: &f64| n.is_finite())
    }

    /// A stage and all that it stands on, in the order of the plan.
    pub(super) fn above(&self, stages: &[String]) -> Vec<&StageSummary> {
        let lines = &self.summary.started.stages;
        let mut wanted: BTreeSet<&str> = stages.iter().map(String::as_str).collect();
        // Each stage comes after all that it needs.
        for line in lines.iter().rev() {
            if wanted.contains(line.name.as_str()) {
                wanted.extend(line.needs.iter().map(String::as_str));
            }
        }
        self.summary.stages.iter().filter(|s| wanted.contains(s.name.as_str())).collect()
    }

    /// All warnings, with their stages.
    pub(super) fn warnings(&self) -> impl Iterator<Item = (&StageSummary, &Warning)> {
        self.summary.stages.iter().flat_map(|s| s.warnings.iter().map(move |w| (s, w)))
    }
}
