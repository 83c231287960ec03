//! Arguments of `score`.

use super::Place;
use super::tools::parameters;
use super::values::{at_least_one, part};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// Arguments of `score`.
#[derive(Clone, Debug, Args)]
pub struct Score {
    /// Images (PNG, JPEG, WebP), or folders of them
    #[arg(required = true)]
    pub images: Vec<PathBuf>,
    /// The reward: a rule (`geneval`, `looks`, `ocr`), or a reward model with its parts
    #[arg(long, value_name = "NAME")]
    pub reward: String,
    /// The folder of a reward model: of each part the folder of its name in it, or else this folder itself
    #[arg(long, value_name = "FOLDER")]
    pub model: Option<PathBuf>,
    /// A part of a reward model and its folder or file, as the stage kind `reward_model` takes them; may be given again
    #[arg(long, value_name = "NAME=PATH", value_parser = part)]
    pub part: Vec<(String, String)>,
    /// Further parameters of that kind as YAML, such as `reader: {preset: paddleocr_en}`, or `@FILE` with them; with
    /// `protocol: {...}` those of `served_reward`, whose server OPDFLOW_REWARD_NAME_URL names
    #[arg(long, value_name = "YAML", value_parser = parameters, default_value = "{}")]
    pub with: Map<String, Value>,
    /// A prompt a line, in the order of the images; one line is that of all [default: of `a.png` the file `a.txt`]
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
    /// How to print: a table, or comma-separated values; `--json` prints a JSON object a line
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = ScoreFormat::Table)]
    pub format: ScoreFormat,
    /// Images that a network sees at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least_one)]
    pub batch: usize,
    /// Where it computes.
    #[command(flatten)]
    pub place: Place,
}

/// Forms of scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScoreFormat {
    /// Columns for people.
    Table,
    /// Comma-separated values, every digit.
    Csv,
}
