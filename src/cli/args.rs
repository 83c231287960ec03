//! What the command line accepts. Types only: nothing here does anything.

mod score;
mod tools;
mod values;

pub use score::{Score, ScoreFormat};
pub use tools::{Doctor, Dtype, Generate, Place, RewardServer};
pub use values::{Cluster, MOST};

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;
use values::{assignment, cluster, megabytes, seconds, size, threads, time};

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
    /// Lay the variables of this file over those of the recipe; may be given again, and `--set` goes above it
    #[arg(long = "vars", global = true, value_name = "FILE")]
    pub vars: Vec<PathBuf>,
    /// Set a variable of the recipe, as in `--set iters=5`, or a parameter of a stage, as in `--set student.with.rounds=5`
    #[arg(long = "set", global = true, value_name = "NAME=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,
    /// Set the recipe's seed; stages that set their own keep it. Of `generate`: the first image's [default: 0]
    #[arg(long, global = true, value_name = "N")]
    pub seed: Option<u64>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run what a recipe asks for and the store does not have
    Run(Run),
    /// Make images of prompts with a model and, if you have one, an adapter; no recipe, no store
    Generate(Generate),
    /// Serve a reward of this machine for stages on others, until Ctrl-C; no recipe, no store
    RewardServer(RewardServer),
    /// Say what this machine has and lacks, for which devices, rewards and recipes, and how to get it
    Doctor(Doctor),
    /// Score images of your own by a reward; no recipe, no store
    Score(Score),
    /// Look for mistakes in a recipe
    Check(Check),
    /// Show what would run, and what the store already has
    Plan(Plan),
    /// Say why a stage would run, field by field against the nearest earlier result
    Explain(Explain),
    /// Copy an output of a stage out of the store
    Get(Get),
    /// Say what an output, a file or a cell of a table was made of, back to weights, prompts and seeds
    Lineage(Lineage),
    /// Put a run, with all its results, into one file; or its curves into those of another tracker
    Export(Export),
    /// Take such a file into the store, so that the run is all hits here
    Import(Import),
    /// Show how a run is doing, or how it ended
    Status(Status),
    /// Follow a run from another terminal; ends with the run, and with its exit code
    Watch(Watch),
    /// Write a run as one page for a browser: tables, curves, images, stages
    Report(Report),
    /// Ask a run to stop: its stages checkpoint, and the same command goes on later
    Stop(Stop),
    /// Print what a stage said, in the newest run in which it was at work
    Logs(Logs),
    /// Draw which stage reads from which
    Graph(Graph),
    /// List the kinds of stage, their ports and parameters
    Stages(Stages),
    /// Print the JSON Schema of recipes, for editors
    Schema,
    /// Show what the store takes, and for what
    Du,
    /// Make room in the store; only says what it would do, unless told otherwise
    Gc(Gc),
    /// Look the store over, and move what is damaged aside so that it is computed again
    Verify(Verify),
    /// Keep stages, and all they stand on, from `gc`; without a recipe: list what is kept
    Pin(Pin),
    /// Take a pin away
    Unpin(Unpin),
    /// Explain an error code, an exit code or a command
    Help(Help),
    /// Print what a shell needs to complete our commands
    Completions(Completions),
    /// Print the manual page, of the program or of one command, for `man`
    Man(Man),
    /// One stage in a process of its own; the scheduler starts it
    #[command(name = "__stage", hide = true)]
    Stage(Stage),
    /// One stage in a job of Slurm; the job's script starts it
    #[command(name = "__job", hide = true)]
    Job(Job),
}

/// Arguments of `run`.
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// The recipe
    pub recipe: PathBuf,
    /// How many threads all stages together may use [default: the machine's]
    #[arg(short = 'j', long, value_name = "N", value_parser = threads)]
    pub slots: Option<usize>,
    /// Run stages as jobs of a cluster: `slurm`, or `slurm=FILE` with its profile [default: slurm.yaml beside the recipe, else
    /// $OPDFLOW_SLURM, else opdflow/slurm.yaml in the user's folder of configurations]
    #[arg(long, value_name = "CLUSTER", value_parser = cluster, conflicts_with = "slots")]
    pub on: Option<Cluster>,
    /// Run this stage even if its result is in the store; may be given again
    #[arg(long, value_name = "STAGE")]
    pub force: Vec<String>,
    /// Run only what this stage needs, and it; may be given again
    #[arg(long, value_name = "STAGE")]
    pub until: Vec<String>,
    /// Take every warning for an error: before the run, and in a stage, which then stops at a checkpoint and fails
    #[arg(long)]
    pub strict: bool,
    /// Stop all other stages when one fails [default: those that do not need it go on]
    #[arg(long)]
    pub fail_fast: bool,
    /// Seconds between the checkpoints that stages make without being asked; results are the same with any number
    #[arg(long, value_name = "N", default_value_t = 60.0, env = "OPDFLOW_CHECKPOINT_SECONDS", value_parser = seconds)]
    pub checkpoint_seconds: f64,
    /// Plain lines instead of progress bars
    #[arg(long)]
    pub plain: bool,
    /// Where runs are recorded
    #[arg(long, value_name = "DIR", default_value = ".opdflow")]
    pub run_dir: PathBuf,
}

impl Dtype {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }
}

/// Arguments of `check`.
#[derive(Clone, Debug, Args)]
pub struct Check {
    /// The recipe
    pub recipe: PathBuf,
    /// Look for mistakes in the profile of this cluster too: `slurm`, or `slurm=FILE`
    #[arg(long, value_name = "CLUSTER", value_parser = cluster)]
    pub on: Option<Cluster>,
    /// Take every warning for an error
    #[arg(long)]
    pub strict: bool,
}

/// Arguments of `plan`.
#[derive(Clone, Debug, Args)]
pub struct Plan {
    /// The recipe
    pub recipe: PathBuf,
    /// Take every warning for an error
    #[arg(long)]
    pub strict: bool,
    /// End with code 10 if anything would run, and 0 if all is in the store
    #[arg(long)]
    pub exit_code: bool,
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
    /// The recipe; or the key of a result, before a port
    #[arg(value_name = "RECIPE|KEY")]
    pub recipe: PathBuf,
    /// The output, as STAGE.PORT
    #[arg(value_name = "STAGE.PORT")]
    pub port: String,
    /// Where to put it
    #[arg(short, long, value_name = "PATH")]
    pub output: PathBuf,
    /// Of an adapter: the form that another program reads. All but `peft` are one file, which PATH names if it ends in
    /// `.safetensors`, and in which it lies if it does not
    #[arg(long, value_enum)]
    pub format: Option<LoraFormat>,
    /// The number format of the adapter's matrices
    #[arg(long, value_enum, default_value = "f32", requires = "format")]
    pub dtype: Dtype,
    /// Of an adapter: a model card, sample images and a lock beside it, ready to publish
    #[arg(long)]
    pub card: bool,
    /// Of a card: leave prompts and paths out, and with them the lock
    #[arg(long)]
    pub no_prompts: bool,
    /// Replace what is there: a file, or a folder in which all was written by an earlier `get`
    #[arg(long)]
    pub overwrite: bool,
}

/// Forms of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LoraFormat {
    /// A folder for `PeftModel.from_pretrained`.
    Peft,
    /// A file for `load_lora_weights` of diffusers.
    Diffusers,
    /// A file in the names of sd-scripts.
    Kohya,
    /// A file in the original names, for ComfyUI.
    Comfyui,
}

impl LoraFormat {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Peft => "peft",
            Self::Diffusers => "diffusers",
            Self::Kohya => "kohya",
            Self::Comfyui => "comfyui",
        }
    }
}

/// Arguments of `lineage`.
#[derive(Clone, Debug, Args)]
pub struct Lineage {
    /// A file or folder that came out of the store; or a recipe, before an output
    #[arg(value_name = "FILE|RECIPE")]
    pub from: PathBuf,
    /// The output, as STAGE.PORT
    #[arg(value_name = "STAGE.PORT")]
    pub output: Option<String>,
    /// Of a table's CSV file, this row: what its first cell says
    #[arg(long, value_name = "TEXT")]
    pub row: Option<String>,
    /// Of that row, this column: what its head says
    #[arg(long, value_name = "TEXT", requires = "row")]
    pub column: Option<String>,
}

/// Arguments of `export`.
#[derive(Clone, Debug, Args)]
pub struct Export {
    /// The run: its name, the beginning of one, or its folder [default: the newest]
    pub run: Option<String>,
    /// The file to write, a tar archive, never over another; of another form the folder
    #[arg(short, long, value_name = "PATH")]
    pub output: PathBuf,
    /// What is written: the run itself, or its curves, scores, parameters and images for another tracker
    #[arg(long, value_enum, default_value_t = RunFormat::Bundle)]
    pub format: RunFormat,
    /// Of another form: replace a folder in which all was written by an earlier `export`
    #[arg(long)]
    pub overwrite: bool,
    /// Of another form: leave prompts and paths out
    #[arg(long)]
    pub no_prompts: bool,
    /// Where runs are recorded
    #[arg(long, value_name = "DIR", default_value = ".opdflow")]
    pub run_dir: PathBuf,
}

/// Forms of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RunFormat {
    /// An archive with all results, for `opdflow import`.
    Bundle,
    /// Event files for `tensorboard --logdir`.
    Tensorboard,
    /// A file store for `mlflow ui --backend-store-uri`.
    Mlflow,
}

impl RunFormat {
    /// The name of what reads it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bundle => "opdflow",
            Self::Tensorboard => "TensorBoard",
            Self::Mlflow => "MLflow",
        }
    }
}

/// Arguments of `import`.
#[derive(Clone, Debug, Args)]
pub struct Import {
    /// What `export` wrote
    #[arg(value_name = "FILE")]
    pub archive: PathBuf,
    /// Where runs are recorded
    #[arg(long, value_name = "DIR", default_value = ".opdflow")]
    pub run_dir: PathBuf,
}

/// Arguments of `status`.
#[derive(Clone, Debug, Args)]
pub struct Status {
    /// The run: its name, the beginning of one, or its folder [default: the newest]
    pub run: Option<String>,
    /// Where runs are recorded
    #[arg(long, value_name = "DIR", default_value = ".opdflow")]
    pub run_dir: PathBuf,
}

/// Arguments of `watch`.
#[derive(Clone, Debug, Args)]
pub struct Watch {
    /// The run: its name, the beginning of one, or its folder [default: the newest]
    pub run: Option<String>,
    /// Where runs are recorded
    #[arg(long, value_name = "DIR", default_value = ".opdflow")]
    pub run_dir: PathBuf,
    /// Plain lines instead of progress bars
    #[arg(long)]
    pub plain: bool,
}

/// Arguments of `report`.
#[derive(Clone, Debug, Args)]
pub struct Report {
    /// A run: its name, the beginning of one, or its folder; or a recipe, for what the store has of it. Two stand beside each
    /// other [default: the newest run]
    #[arg(num_args = 0..=2, value_name = "RUN|RECIPE")]
    pub of: Vec<String>,
    /// The page to write
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    pub output: PathBuf,
    /// Replace the page if it is there
    #[arg(long)]
    pub overwrite: bool,
    /// Leave prompts, the recipe's text and paths out
    #[arg(long)]
    pub no_prompts: bool,
    /// Most megabytes of images in the page; what finds no room is laid into a folder beside it, and linked
    #[arg(long = "image-mb", value_name = "N", default_value_t = 20, value_parser = megabytes)]
    pub image_megabytes: usize,
    /// Write no file, but show the page in a browser of this machine, and follow the run; ends with ctrl-c
    #[arg(long, conflicts_with_all = ["output", "overwrite"])]
    pub serve: bool,
    /// Of `--serve`: the port [default: one that is free]
    #[arg(long, value_name = "N", requires = "serve", default_value_t = 0, hide_default_value = true)]
    pub port: u16,
    /// Where runs are recorded
    #[arg(long, value_name = "DIR", default_value = ".opdflow")]
    pub run_dir: PathBuf,
}

/// Arguments of `stop`.
#[derive(Clone, Debug, Args)]
pub struct Stop {
    /// The run: its name, the beginning of one, or its folder [default: the newest]
    pub run: Option<String>,
    /// Where runs are recorded
    #[arg(long, value_name = "DIR", default_value = ".opdflow")]
    pub run_dir: PathBuf,
    /// End running stages at once: what they did since their last checkpoints is lost
    #[arg(long)]
    pub now: bool,
    /// Come back when the run has ended
    #[arg(long)]
    pub wait: bool,
}

/// Arguments of `logs`.
#[derive(Clone, Debug, Args)]
pub struct Logs {
    /// The stage
    pub stage: String,
    /// The run: its name, the beginning of one, or its folder [default: the newest in which the stage was at work]
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Where runs are recorded
    #[arg(long, value_name = "DIR", default_value = ".opdflow")]
    pub run_dir: PathBuf,
    /// Go on printing until the run ends
    #[arg(short, long)]
    pub follow: bool,
}

/// Arguments of `graph`.
#[derive(Clone, Debug, Args)]
pub struct Graph {
    /// The recipe
    pub recipe: PathBuf,
    /// Lines for the terminal, the language of Graphviz, or an image
    #[arg(long, value_enum, default_value_t = Drawing::Text)]
    pub format: Drawing,
    /// Draw a matrix as one box; lines for the terminal do so by themselves
    #[arg(long)]
    pub fold: bool,
    /// Draw each cell of a matrix
    #[arg(long, conflicts_with = "fold")]
    pub cells: bool,
}

/// How `graph` draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Drawing {
    /// Lines, each stage indented by how many others it waits for in a row.
    Text,
    /// For `dot -Tsvg`.
    Dot,
    /// An image, for a browser.
    Svg,
}

/// Arguments of `gc`.
#[derive(Clone, Debug, Args)]
pub struct Gc {
    /// Do it; without this, only say what would be done
    #[arg(long)]
    pub delete: bool,
    /// Evict results and checkpoints, the cheapest to compute again first, until the store takes at most this: `20G`
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub budget: Option<u64>,
    /// Evict every result and checkpoint that no pin and no recorded run names
    #[arg(long, conflicts_with = "budget")]
    pub unused: bool,
    /// Keep whatever is younger: `36h`, `7d`
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = time)]
    pub grace: Duration,
    /// Where runs are recorded whose results are kept; may be given again, for projects that share the store
    /// [default: .opdflow]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Vec<PathBuf>,
    /// Keep the results of no recorded run, only what is pinned or young
    #[arg(long, conflicts_with = "run_dir")]
    pub no_runs: bool,
}

/// Arguments of `verify`.
#[derive(Clone, Debug, Args)]
pub struct Verify {
    /// Read every byte, not only names and sizes
    #[arg(long)]
    pub deep: bool,
}

/// Arguments of `pin`.
#[derive(Clone, Debug, Args)]
pub struct Pin {
    /// The recipe
    pub recipe: Option<PathBuf>,
    /// Stages to keep, with all they stand on [default: all]
    #[arg(value_name = "STAGE")]
    pub stages: Vec<String>,
    /// What to call it [default: the recipe's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Of the one STAGE, use this differing result (see `run --force`) from now on, instead of the first
    #[arg(long, value_name = "N")]
    pub attempt: Option<u32>,
}

/// Arguments of `unpin`.
#[derive(Clone, Debug, Args)]
pub struct Unpin {
    /// The pin, or the name that several of them begin with
    pub name: String,
}

/// Arguments of `help`.
#[derive(Clone, Debug, Args)]
pub struct Help {
    /// A code such as `E012` or `75`, or a command
    pub about: Option<String>,
}

/// Arguments of `man`.
#[derive(Clone, Debug, Args)]
pub struct Man {
    /// The command [default: the program as a whole]
    pub command: Option<String>,
}

/// Arguments of `completions`.
#[derive(Clone, Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Arguments of `stages`.
#[derive(Clone, Debug, Args)]
pub struct Stages {
    /// Inputs, parameters and outputs of this kind
    pub kind: Option<String>,
    /// Inputs, parameters and outputs of all kinds
    #[arg(long, conflicts_with = "kind")]
    pub all: bool,
    /// As the page of a reference, `docs/reference/recipe.md`
    #[arg(long)]
    pub markdown: bool,
}

/// Arguments of `__stage`.
#[derive(Clone, Debug, Args)]
pub struct Stage {
    /// The job, as JSON
    pub job: PathBuf,
}

/// Arguments of `__job`.
#[derive(Clone, Debug, Args)]
pub struct Job {
    /// The files of the job, without their endings
    pub files: PathBuf,
    /// Its number
    pub id: u64,
    /// The stage's program and its arguments
    #[arg(last = true, required = true)]
    pub command: Vec<std::ffi::OsString>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        <Opdflow as clap::CommandFactory>::command().debug_assert();
    }
}
