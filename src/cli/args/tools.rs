//! Arguments of the commands that work without a recipe: `generate`, `reward-server`, `doctor`.

use super::values::{at_least_one, device, number, part, t5_length, threads};
use crate::recipe::text::bound::Bound;
use crate::recipe::text::tree;
use clap::{Args, ValueEnum};
use opdflow_io::file;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Bytes of a file of parameters, at most.
const LARGEST: u64 = 1 << 20;

/// Where a command computes that has no recipe.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// Threads [default: the machine's]
    #[arg(short = 'j', long, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
    /// `cpu`, or `cuda:N` [default: the first GPU if there is one]
    #[arg(long, value_name = "NAME", value_parser = device)]
    pub device: Option<String>,
}

/// Arguments of `generate`.
#[derive(Clone, Debug, Args)]
pub struct Generate {
    /// The model: a folder in diffusers' layout (Stable Diffusion 3, FLUX.1, AuraFlow), a single file in the original names, or `bundled:mini`
    #[arg(long, value_name = "FOLDER")]
    pub base: String,
    /// A prompt; may be given again
    #[arg(long, value_name = "TEXT")]
    pub prompt: Vec<String>,
    /// A file of prompts: one a line, or JSON objects with `prompt` or `text`
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
    /// The folder for the images, and a sheet of them if there are several
    #[arg(short, long, value_name = "FOLDER")]
    pub output: PathBuf,
    /// Replace images that are there
    #[arg(long)]
    pub overwrite: bool,
    /// An adapter: a folder or a file, of peft, diffusers, sd-scripts, ComfyUI or OneTrainer
    #[arg(long, value_name = "PATH")]
    pub lora: Option<PathBuf>,
    /// How strong the adapter is; 0 is not at all
    #[arg(long, value_name = "X", default_value_t = 1.0, requires = "lora", allow_negative_numbers = true, value_parser = number)]
    pub lora_scale: f64,
    /// What the images should not show
    #[arg(long = "negative-prompt", value_name = "TEXT", default_value = "")]
    pub negative: String,
    /// Images of each prompt, with seeds one after the other
    #[arg(long = "num-images-per-prompt", value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub count: usize,
    /// Denoising steps
    #[arg(long = "num-inference-steps", value_name = "N", default_value_t = 40, value_parser = at_least_one)]
    pub steps: usize,
    /// Guidance scale; 1 is none [default: the model's own, 4.5 for Stable Diffusion 3, 3.5 for FLUX.1-dev and AuraFlow]
    #[arg(long = "guidance-scale", value_name = "X", allow_negative_numbers = true, value_parser = number)]
    pub guidance: Option<f64>,
    /// Width and height in pixels [default: the model's own]
    #[arg(long, value_name = "N")]
    pub size: Option<i64>,
    /// Width in pixels, instead of `--size`
    #[arg(long, value_name = "N")]
    pub width: Option<i64>,
    /// Height in pixels, instead of `--size`
    #[arg(long, value_name = "N")]
    pub height: Option<i64>,
    /// Tokens that the T5 encoder sees of a prompt [default: 256, or what its tokenizer says if that is less]
    #[arg(long, value_name = "N", value_parser = t5_length)]
    pub max_sequence_length: Option<usize>,
    /// Leave the T5 encoder out: at full size it takes twice the memory of the transformer
    #[arg(long)]
    pub no_t5: bool,
    /// Number format of transformer and text encoders
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    pub dtype: Dtype,
    /// Take this of several sets of weights, as in `model.fp16.safetensors`
    #[arg(long, value_name = "NAME")]
    pub variant: Option<String>,
    /// Decode large images in overlapping tiles, to save memory
    #[arg(long)]
    pub vae_tiling: bool,
    /// Images that are made together; more is faster and takes more memory
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub batch: usize,
    /// Where it computes.
    #[command(flatten)]
    pub place: Place,
}

/// Number formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// 32 bits.
    F32,
    /// 16 bits, with the range of 32.
    Bf16,
    /// 16 bits.
    F16,
}

/// Parameters of a stage kind: a map in YAML, or a file of it.
pub(super) fn parameters(text: &str) -> Result<Map<String, Value>, String> {
    let read = |path: &str| file::read_text(Path::new(path), LARGEST).map_err(|e| format!("{path}: {e}"));
    let text = text.strip_prefix('@').map_or_else(|| Ok(text.to_owned()), read)?;
    // As a recipe is read: no name twice, no number that is none.
    let mut faults = Vec::new();
    let node = tree::parse(&text, &mut Bound::default(), &mut faults);
    if let Some(fault) = faults.first() {
        return Err(format!("not a map in YAML: {}: {}", fault.title, fault.label));
    }
    match node.map(|node| node.json()) {
        Some(Value::Object(map)) => match ["reward", "files"].into_iter().find(|name| map.contains_key(*name)) {
            Some(name) => Err(format!("`{name}` has an argument of its own")),
            None => Ok(map),
        },
        _ => Err("not a map in YAML".to_owned()),
    }
}

/// Arguments of `reward-server`.
#[derive(Clone, Debug, Args)]
pub struct RewardServer {
    /// The reward: a rule (`geneval`, `looks`, `ocr`), or a reward model with its parts
    pub reward: String,
    /// A part of a reward model and its folder or file, as the stage kind `reward_model` takes them; may be given again
    #[arg(long, value_name = "NAME=PATH", value_parser = part)]
    pub part: Vec<(String, String)>,
    /// Further parameters of that kind as YAML, such as `reader: {preset: paddleocr_en}`, or `@FILE` with them
    #[arg(long, value_name = "YAML", value_parser = parameters, default_value = "{}")]
    pub with: Map<String, Value>,
    /// Address and port; other machines need the token of `OPDFLOW_REWARD_SERVER_TOKEN`
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7400")]
    pub listen: String,
    /// Where it computes.
    #[command(flatten)]
    pub place: Place,
}

/// Arguments of `doctor`.
#[derive(Clone, Debug, Args)]
pub struct Doctor {
    /// A recipe, whose stages are asked what they lack here
    pub recipe: Option<PathBuf>,
}
