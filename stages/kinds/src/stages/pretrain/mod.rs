//! The miniature from nothing: its autoencoder, then its text encoders and transformer by flow matching on the
//! miniature world. Sizes come from the configuration files of a layout folder alone.

pub mod base;
pub mod reward_model;
pub mod vae;

pub use base::PretrainBase;
pub use reward_model::PretrainRewardModel;
pub use vae::PretrainVae;

use crate::training::course_doubts::{of_average, of_schedule};
use anyhow::{Context as _, Result};
use opdflow_api::cache::Digest;
use opdflow_api::warning::Doubt;
use opdflow_api::{Asset, ParamFault};
use opdflow_miniature::Family;
use opdflow_spec::muon::MuonConfig;
use opdflow_spec::optim::EmaConfig;
use opdflow_spec::train::LrSchedule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What both stages have in common.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Pretraining {
    /// Optimizer steps; 0 leaves a model as it is.
    #[schemars(range(min = 0, max = 10_000_000))]
    pub steps: u64,
    /// Images in a step.
    #[schemars(range(min = 1, max = 100_000))]
    #[schemars(extend("x-formerly" = ["batch"]))]
    pub batch_size: usize,
    /// Images drawn from the miniature world, visited in shuffled epochs.
    #[schemars(range(min = 1, max = 10_000_000))]
    #[schemars(extend("x-formerly" = ["pictures"]))]
    pub images: usize,
    /// Muon for matrices, AdamW for the rest.
    #[schemars(extend("x-formerly" = ["optimiser"]))]
    pub optimizer: MuonConfig,
    /// Learning-rate schedule.
    #[schemars(extend("x-formerly" = ["pace"]))]
    pub lr_schedule: LrSchedule,
    /// Running average of the weights; it is what is kept.
    pub ema: EmaConfig,
}

impl Default for Pretraining {
    fn default() -> Self {
        Self {
            steps: 3000,
            batch_size: 32,
            images: 20_000,
            optimizer: MuonConfig::default(),
            lr_schedule: LrSchedule::default(),
            ema: EmaConfig { decay: 0.995, ..EmaConfig::default() },
        }
    }
}

impl Pretraining {
    /// Numbers with which hardly anything is learned.
    pub fn doubts(&self) -> Vec<Doubt> {
        // No step at all is asked for where a model is to stay as it is.
        let steps = Some(self.steps).filter(|steps| *steps > 0);
        let mut doubts = of_schedule("training.", &self.lr_schedule, steps);
        doubts.extend(of_average("training.", &self.ema, steps));
        doubts
    }

    /// What is wrong with its numbers together.
    pub fn fault(&self) -> Option<ParamFault> {
        self.lr_schedule
            .fault()
            .map(|f| ParamFault::new("training.lr_schedule", f).help("give both `hold` and a later `until`"))
    }
}

/// Where the layout lies, alone: `bundled:mini`, or a folder relative to the recipe.
pub fn layout_assets(layout: &str, folder: &Path) -> Result<Vec<Asset>, Vec<ParamFault>> {
    let digest = match crate::model::bundle::named(layout) {
        Some(bundle) => bundle.layout_digest(),
        None => tree_digest(&folder.join(layout)).map_err(|e| {
            let help = "write `bundled:mini`, or a folder in diffusers layout";
            vec![ParamFault::new("layout", format!("{e:#}")).help(help)]
        })?,
    };
    Ok(vec![Asset { name: "layout".to_owned(), digest }])
}

fn tree_digest(folder: &Path) -> Result<Digest> {
    let mut files: Vec<(PathBuf, Digest)> = Vec::new();
    for relative in crate::model::folder::files_below(folder)? {
        if crate::model::bundle::is_layout(&relative) {
            let bytes = std::fs::read(folder.join(&relative)).with_context(|| relative.display().to_string())?;
            let digest = Digest::of(&crate::model::bundle::unmeasured(&relative, &bytes));
            files.push((relative, digest));
        }
    }
    Ok(crate::model::folder::listing_digest(files.iter().map(|(p, d)| (p.as_path(), *d))))
}

/// How often an image shows something other than its caption says, by family.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Wrong {
    /// Share of scenes of shapes with one attribute changed.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub geneval: f64,
    /// Share of words with letters changed.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ocr: f64,
    /// Letters that are changed, drawn with replacement.
    #[schemars(range(min = 1, max = 64))]
    pub letters: usize,
    /// Share of landscapes with one attribute changed.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub scene: f64,
}

impl Default for Wrong {
    fn default() -> Self {
        Self { geneval: 0.25, ocr: 0.25, letters: 1, scene: 0.25 }
    }
}

impl Wrong {
    /// Never.
    pub const NONE: Self = Self { geneval: 0.0, ocr: 0.0, letters: 1, scene: 0.0 };

    /// The share and how often the change is made.
    pub fn of(&self, family: Family) -> (f64, usize) {
        match family {
            Family::Geneval => (self.geneval, 1),
            Family::Ocr => (self.ocr, self.letters),
            Family::Scene => (self.scene, 1),
        }
    }
}
