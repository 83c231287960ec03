//! Work outside of recipes: no store, no key, no checkpoint. Its files go where the user said.
//!
//! A tool runs in the process that has the libraries for it, like a stage does; the command that the user gave starts
//! that process, hands it an order as JSON, and shows its events.

use crate::{Event, EventSink, Fault, FaultClass, StopFlag};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;

/// What `opdflow generate` asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerateOrder {
    /// A model folder in diffusers' layout, a single file, or `bundled:mini`.
    pub base: String,
    /// Which of several sets of weights, as in `model.fp16.safetensors`.
    pub variant: Option<String>,
    /// An adapter: a peft folder, or a single file in any published form.
    pub lora: Option<PathBuf>,
    /// What the adapter's output is multiplied by, beside its own alpha / rank.
    pub lora_scale: f64,
    /// The prompts, at least one.
    pub prompts: Vec<String>,
    /// What guidance leads away from.
    pub negative: String,
    /// Seed of a prompt's first image; the following ones have the following numbers.
    pub seed: u64,
    /// Images of each prompt.
    pub count: usize,
    /// Denoising steps, at least 1.
    pub steps: usize,
    /// Guidance scale; 1 or less is none. The model's own if absent.
    pub guidance: Option<f64>,
    /// Pixels; the model's own size if absent.
    pub width: Option<i64>,
    /// Pixels; the model's own size if absent.
    pub height: Option<i64>,
    /// Tokens of the T5 part; up to 256, as its tokenizer allows, if absent.
    pub max_sequence_length: Option<usize>,
    /// Whether the T5 encoder is left out.
    pub no_t5: bool,
    /// `f32`, `bf16` or `f16`.
    pub dtype: String,
    /// Whether large images are decoded in overlapping tiles.
    pub vae_tiling: bool,
    /// Images that are denoised together.
    pub batch: usize,
    /// Threads.
    pub threads: usize,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// Where each image goes, prompt by prompt: as many as prompts times count.
    pub images: Vec<PathBuf>,
    /// Where all of them go on one sheet, if they should.
    pub sheet: Option<PathBuf>,
}

/// What `opdflow get --format` asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportLoraOrder {
    /// An adapter as the store has it.
    pub source: PathBuf,
    /// `peft`, `diffusers`, `kohya` or `comfyui`.
    pub format: String,
    /// `f32`, `bf16` or `f16`.
    pub dtype: String,
    /// Where it goes: a path that does not exist yet. One that ends in `.safetensors` is a file where the form is one.
    pub output: PathBuf,
}

/// What `opdflow reward-server` asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardServerOrder {
    /// The reward's name.
    pub reward: String,
    /// Its parts, as the stage kind `reward_model` takes them; none for a rule of the program.
    pub files: std::collections::BTreeMap<String, String>,
    /// Further parameters of the stage kind `reward_model`.
    #[serde(default)]
    pub with: serde_json::Map<String, Value>,
    /// Address and port.
    pub listen: String,
    /// Threads.
    pub threads: usize,
    /// `cpu` or `cuda:N`.
    pub device: String,
}

/// What `opdflow score` asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreOrder {
    /// The reward's name.
    pub reward: String,
    /// Its parts, as the stage kind `reward_model` takes them; none for a rule of the program.
    pub files: std::collections::BTreeMap<String, String>,
    /// Further parameters of the stage kind `reward_model`, or those of `served_reward`.
    #[serde(default)]
    pub with: serde_json::Map<String, Value>,
    /// A folder in which the other parts are.
    pub model: Option<PathBuf>,
    /// The images, at least one.
    pub images: Vec<PathBuf>,
    /// A prompt a line, in their order.
    pub prompts: Option<PathBuf>,
    /// Images that are seen at once.
    pub batch: usize,
    /// Threads.
    pub threads: usize,
    /// `cpu` or `cuda:N`.
    pub device: String,
}

/// What `opdflow doctor` asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoctorOrder {
    /// The GPUs that are to be tried, `cuda:N` each.
    pub devices: Vec<String>,
}

/// A tool, by name.
pub trait Tool: Send + Sync {
    /// Its name after `__tool`.
    fn name(&self) -> &'static str;

    /// Does what `order` says. Polls `stop` and reports through `events`.
    ///
    /// # Errors
    /// A [`Fault`] somewhere in the chain says whose fault it is; anything else counts as a bug.
    fn run(&self, order: &Value, events: &EventSink, stop: &StopFlag) -> Result<()>;
}

/// Runs a tool to its end and gives the exit code: that of a stage's process. Whatever goes wrong is also an event.
pub fn run_tool(tool: &dyn Tool, order: &Value, events: &EventSink, stop: &StopFlag) -> i32 {
    let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tool.run(order, events, stop)));
    let error = match run {
        Ok(Ok(())) => return 0,
        Ok(Err(error)) => error,
        Err(panic) => anyhow::anyhow!("the tool panicked: {}", crate::run_job::words_of(panic.as_ref())),
    };
    if stop.raised() {
        events.send(&Event::Stopped { step: 0, why: None });
        return crate::STOPPED.into();
    }
    let class = Fault::class_of(&error);
    events.send(&Event::Failed { class, message: opdflow_io::terminal::message(&format!("{error:#}")) });
    class.exit_code()
}

/// Reads a tool's order.
///
/// # Errors
/// It is not what this build understands: the two programs are not from one build.
pub fn read_order<T: serde::de::DeserializeOwned>(order: &Value) -> Result<T> {
    serde_json::from_value(order.clone())
        .map_err(|e| Fault {
            class: FaultClass::User,
            message: format!("an order that cannot be read: {e}"),
            help: None,
        })
        .map_err(|f| f.help("`opdflow` and `opdflow-stage` must be from one build"))
        .context("cannot start")
}
