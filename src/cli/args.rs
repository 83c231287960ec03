//! What the command line accepts. Types only: nothing here does anything.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Train one teacher per reward and distil them into one student, from a recipe.
#[derive(Debug, Parser)]
#[command(name = "opdflow", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Opdflow {
    /// What every command accepts.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command accepts.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Where results are kept [default: $OPDFLOW_STORE, or opdflow in the user's cache folder]
    #[arg(long, global = true, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Print for programs: JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Print errors and results only
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Set a variable of the recipe, as in `--set iters=5`
    #[arg(long = "set", global = true, value_name = "NAME=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,
    /// Set the recipe's seed; stages that set their own keep it
    #[arg(long, global = true, value_name = "N")]
    pub seed: Option<u64>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run what a recipe asks for and the store does not have
    Run(Run),
    /// Look for mistakes in a recipe
    Check(Check),
    /// Show what would run, and what the store already has
    Plan(Plan),
    /// Say why a stage would run, field by field against the nearest earlier result
    Explain(Explain),
    /// Copy an output of a stage out of the store
    Get(Get),
    /// Show how a run is doing, or how it ended
    Status(Status),
    /// List the kinds of stage, their ports and parameters
    Stages(Stages),
    /// One stage in a process of its own; the scheduler starts it
    #[command(name = "__stage", hide = true)]
    Stage(Stage),
}

/// Arguments of `run`.
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// The recipe
    pub recipe: PathBuf,
    /// How many threads all stages together may use [default: the machine's]
    #[arg(short = 'j', long, value_name = "N", value_parser = at_least_one)]
    pub slots: Option<usize>,
    /// Run this stage even if its result is in the store; may be given again
    #[arg(long, value_name = "STAGE")]
    pub force: Vec<String>,
    /// Run only what this stage needs, and it; may be given again
    #[arg(long, value_name = "STAGE")]
    pub until: Vec<String>,
    /// Stop all other stages when one fails [default: those that do not need it go on]
    #[arg(long)]
    pub fail_fast: bool,
    /// Seconds between the checkpoints that stages make of their own accord; results are the same with any number
    #[arg(long, value_name = "N", default_value_t = 60.0, env = "OPDFLOW_CHECKPOINT_SECONDS", value_parser = seconds)]
    pub checkpoint_seconds: f64,
    /// Plain lines instead of progress bars
    #[arg(long)]
    pub plain: bool,
    /// Where runs are recorded
    #[arg(long, value_name = "DIR", default_value = ".opdflow")]
    pub run_dir: PathBuf,
}

/// Arguments of `check`.
#[derive(Clone, Debug, Args)]
pub struct Check {
    /// The recipe
    pub recipe: PathBuf,
}

/// Arguments of `plan`.
#[derive(Clone, Debug, Args)]
pub struct Plan {
    /// The recipe
    pub recipe: PathBuf,
}

/// Arguments of `explain`.
#[derive(Clone, Debug, Args)]
pub struct Explain {
    /// The recipe
    pub recipe: PathBuf,
    /// The stage
    pub stage: String,
}

/// Arguments of `get`.
#[derive(Clone, Debug, Args)]
pub struct Get {
    /// The recipe
    pub recipe: PathBuf,
    /// The output, as STAGE.PORT
    #[arg(value_name = "STAGE.PORT")]
    pub port: String,
    /// Where to put it
    #[arg(short, long, value_name = "PATH")]
    pub output: PathBuf,
    /// Replace what is there
    #[arg(long)]
    pub overwrite: bool,
}

/// Arguments of `status`.
#[derive(Clone, Debug, Args)]
pub struct Status {
    /// The run [default: the newest]
    pub run: Option<String>,
    /// Where runs are recorded
    #[arg(long, value_name = "DIR", default_value = ".opdflow")]
    pub run_dir: PathBuf,
}

/// Arguments of `stages`.
#[derive(Clone, Debug, Args)]
pub struct Stages {
    /// Only this kind
    pub kind: Option<String>,
}

/// Arguments of `__stage`.
#[derive(Clone, Debug, Args)]
pub struct Stage {
    /// The job, as JSON
    pub job: PathBuf,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE, such as `iters=5`".into()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(n) if n >= 0.0 && f64::is_finite(n) => Ok(n),
        _ => Err("expected seconds, from 0, which is a checkpoint after each step".into()),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("expected a whole number from 1".into()),
    }
}
