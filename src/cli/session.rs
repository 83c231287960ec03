//! What every command works with, and how it ends.

use crate::cli::output::Output;
use crate::cli::threads;
use crate::plan::{NumericFacts, Plan};
use crate::recipe::{self, Diagnostics, Overrides};
use crate::render::bytes;
use crate::runlog::{self, RunFolder};
use opdflow_api::{Doubt, Fault, FaultClass, Registry, STOPPED, Workers};
use opdflow_cache::{Memo, Store, StoreError};
use opdflow_io::terminal;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// What every command works with: settled once, from the arguments and the environment.
pub struct Session {
    /// The stage kinds of this build.
    pub registry: Registry,
    /// The stage kinds that this program can run itself.
    pub workers: Workers,
    /// What is known of the arithmetic here.
    pub facts: NumericFacts,
    /// Root of the store.
    pub store: PathBuf,
    /// JSON on standard output instead of text.
    pub json: bool,
    /// Errors and results only.
    pub quiet: bool,
    /// What the command line changes in the recipe.
    pub overrides: Overrides,
    /// Whether standard error may be coloured.
    pub colour: bool,
    /// Whether standard error is a terminal on which lines can be moved and replaced.
    pub moving: bool,
    /// The standard output.
    pub out: Output,
}

/// How a command ended, if it could do its work. `docs/reference/errors.md` lists the exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well: 0.
    Done,
    /// A stage failed: 1.
    StageFailed,
    /// The machine failed all the stages that failed (a full disk, a lost process): 3.
    MachineFailed,
    /// Files that the recipe names are not there; what could be said without them was said: 2.
    Missing,
    /// Something in the store was damaged: 3.
    Damaged,
    /// There is work to do, and the user asked for a code that says so: 10.
    WorkToDo,
    /// Stopped at checkpoints as asked; running again goes on from there: [`STOPPED`].
    Stopped,
    /// Interrupted by the user: 130.
    Interrupted,
    /// A stage's process, with the code that tells the scheduler what happened.
    Stage(u8),
}

impl Exit {
    /// The exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::StageFailed => 1,
            Self::Missing => 2,
            Self::Damaged | Self::MachineFailed => 3,
            Self::WorkToDo => 10,
            Self::Stopped => STOPPED,
            Self::Interrupted => 130,
            Self::Stage(code) => code,
        }
    }
}

/// Why a command could not do its work.
#[derive(Debug)]
pub enum Failure {
    /// The recipe has mistakes: exit code 2.
    Recipe(Box<Diagnostics>),
    /// The arguments do not fit, in a way that only the command could see: exit code 2.
    Usage(String),
    /// The store or the disk fails: exit code 3.
    Store(String),
    /// A bug of ours: exit code 70.
    Bug(String),
}

impl Failure {
    /// What it says, without colours.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Recipe(found) => found.render(false),
            Self::Usage(text) | Self::Store(text) | Self::Bug(text) => text.clone(),
        }
    }
}

impl From<Diagnostics> for Failure {
    fn from(found: Diagnostics) -> Self {
        Self::Recipe(Box::new(found))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let text = format!("{error:#}");
        match Fault::class_of(&error) {
            FaultClass::User | FaultClass::NotFinite => Self::Usage(text),
            FaultClass::Machine | FaultClass::OutOfMemory => Self::Store(text),
            FaultClass::Bug => Self::Bug(text),
        }
    }
}

impl Failure {
    /// Adds where to look, or the way out.
    #[must_use]
    pub fn help(self, help: &str) -> Self {
        let with = |text: String| format!("{text}\nhelp: {help}");
        match self {
            Self::Recipe(found) => Self::Recipe(found),
            Self::Usage(text) => Self::Usage(with(text)),
            Self::Store(text) => Self::Store(with(text)),
            Self::Bug(text) => Self::Bug(with(text)),
        }
    }
}

impl Session {
    /// Shows warnings, unless nothing is to be shown.
    pub(crate) fn show(&self, warnings: &Diagnostics) {
        if !warnings.list.is_empty() && !self.quiet && !self.json {
            self.tell(warnings);
        }
    }
    /// Shows the warnings of a recipe and what its stages are doubted for, and gives them back.
    ///
    /// # Errors
    /// There are some, and `strict` takes them for errors.
    pub fn warned(
        &self,
        plan: &Plan,
        doubts: &[Vec<Doubt>],
        more: Vec<crate::recipe::Diagnostic>,
        strict: bool,
    ) -> Result<Diagnostics, Failure> {
        let warnings = plan.warnings(doubts, more);
        if strict && !warnings.list.is_empty() {
            return Err(warnings.strict().into());
        }
        self.show(&warnings);
        Ok(warnings)
    }
    /// Reads a recipe and plans it. What it lacks outside the store is in the plan ([`Plan::whole`]).
    ///
    /// # Errors
    /// The recipe has mistakes.
    pub fn survey(&self, path: &Path) -> Result<Plan, Failure> {
        let plan = self.survey_quietly(path)?;
        self.show(&plan.recipe.warnings());
        Ok(plan)
    }
    /// The same, for a command that shows warnings itself ([`Session::warned`]).
    ///
    /// # Errors
    /// As there.
    pub fn survey_quietly(&self, path: &Path) -> Result<Plan, Failure> {
        self.survey_for(path, self.facts.gpu)
    }
    /// The same, for a place that has GPUs or none.
    ///
    /// # Errors
    /// As there.
    pub fn survey_for(&self, path: &Path, gpu: bool) -> Result<Plan, Failure> {
        threads::ready();
        let facts = NumericFacts { gpu, ..self.facts.clone() };
        let silent = self.quiet || self.json;
        let memo = Memo::of(&self.store).telling(move |path, size| {
            if !silent {
                let _ = writeln!(
                    std::io::stderr(),
                    "hashing {} ({}), once",
                    terminal::line(&path.to_string_lossy()),
                    bytes(size)
                );
            }
        });
        let plan = Plan::survey(recipe::load(path, &self.registry, &self.overrides)?, facts, &memo);
        memo.save();
        Ok(plan)
    }
    /// Reads a recipe and plans it.
    ///
    /// # Errors
    /// The recipe has mistakes, or names files that are not there.
    pub fn plan(&self, path: &Path) -> Result<Plan, Failure> {
        let plan = self.survey(path)?;
        plan.whole(&plan.meant())?;
        Ok(plan)
    }
    /// The same, for a command that shows warnings itself ([`Session::warned`]).
    ///
    /// # Errors
    /// As there.
    pub fn plan_quietly(&self, path: &Path) -> Result<Plan, Failure> {
        let plan = self.survey_quietly(path)?;
        plan.whole(&plan.meant())?;
        Ok(plan)
    }
    /// Opens the store.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(&self) -> Result<Store, Failure> {
        threads::ready();
        Ok(Store::open(&self.store)?)
    }
    /// Finds a stage of a plan by the name that was given on the command line.
    ///
    /// # Errors
    /// There is none; the message names those there are, or one that is near.
    pub fn stage(&self, plan: &Plan, name: &str) -> Result<usize, Failure> {
        let names = plan.stages.iter().map(|s| s.spec.name.as_str());
        let found = match recipe::select(name, names.clone())[..] {
            [one] => plan.index(one),
            [first, _, ..] => {
                return Err(Failure::Usage(format!(
                    "`{name}` has more than one cell\nhelp: name one of them, such as `{first}`"
                )));
            }
            [] => None,
        };
        found.ok_or_else(|| {
            let help = recipe::near(name, names.clone()).map_or_else(
                || format!("its stages are {}", names.map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            Failure::Usage(format!("{} has no stage `{name}`\nhelp: {help}", plan.recipe.path.display()))
        })
    }
    /// The stages that a name on the command line means: one, or all cells of a matrix, or some of them.
    ///
    /// # Errors
    /// There is none.
    pub fn stages(&self, plan: &Plan, name: &str) -> Result<Vec<usize>, Failure> {
        let meant = recipe::select(name, plan.stages.iter().map(|s| s.spec.name.as_str()));
        if meant.is_empty() {
            return self.stage(plan, name).map(|i| vec![i]);
        }
        Ok(meant.into_iter().filter_map(|name| plan.index(name)).collect())
    }
    /// A line for the user, on standard error.
    pub fn note(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "{}", terminal::message(text));
    }
    /// What was found in a recipe, on standard error.
    pub fn tell(&self, found: &Diagnostics) {
        let text = found.render(self.colour);
        let _ = writeln!(std::io::stderr(), "{}", terminal::coloured(text.trim_end()));
    }
    /// A result, on standard output. Nobody reading it is no error; a full disk is one, at the command's end.
    pub fn print(&self, text: &str) {
        let text = if self.json { terminal::json(text) } else { terminal::shown(text) };
        self.out.line(&text);
    }

    /// Shows why a command could not do its work; its exit code.
    pub(crate) fn explain_failure(&self, failure: &Failure) -> u8 {
        let (kind, text, code) = match failure {
            Failure::Recipe(found) => {
                if self.json {
                    self.print(&found.to_json().to_string());
                } else {
                    self.tell(found);
                }
                return 2;
            }
            Failure::Usage(text) => ("usage", text.clone(), 2),
            Failure::Store(text) => ("store", text.clone(), 3),
            Failure::Bug(text) => ("bug", format!("this is a bug of opdflow, please report it: {text}"), 70),
        };
        if self.json {
            self.print(&serde_json::json!({"error": kind, "message": terminal::message(&text)}).to_string());
        } else {
            self.note(&format!("error: {text}"));
        }
        code
    }
}

/// The run of this name, or the newest one.
pub(crate) fn find_run(run_dir: &Path, name: Option<&str>) -> Result<RunFolder, Failure> {
    runlog::find(&RunFolder::home(run_dir), name).map_err(|e| Failure::Usage(format!("{e:#}")))
}
