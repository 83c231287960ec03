//! A lock: a recipe with all that it was made of, in one file. It runs as the recipe does, and holds what the stages read from outside
//! against the digests of then.
//!
//! ```yaml
//! opdflow_lock: 1
//! program: opdflow 0.1.0
//! output: student.lora
//! key: 5f0c...
//! digest: 91ab...
//! stages: [student, student_scores]      # what `run` runs, with all that these need
//! folder: /data/recipes                  # where relative paths start, if it is there; else beside the lock
//! recipe: multitask.yaml                 # which of `files` it is; the others are those that it includes
//! seed: 9                                # as given on the command line
//! set: {rounds: '5'}                     # the same
//! vars: ['iterations: 2']                # the texts of files of variables
//! files: {multitask.yaml: 'opdflow: 1'}
//! assets: {base: {model: 77d0...}}       # by stage, what its key stands on
//! inputs: {base: [{path: sd3/vae/x.safetensors, size: 12, digest: c4e1...}]}
//! ```

use super::text::diagnostic::{Diagnostic, Diagnostics};
use super::variables::outside::Overrides;
use opdflow_api::cache::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// The format that this build writes and reads.
pub const LOCK_FORMAT: u64 = 1;

/// What a lock says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// [`LOCK_FORMAT`].
    pub opdflow_lock: u64,
    /// The program that made it.
    pub program: String,
    /// The output that it is for, as `stage.port`.
    pub output: String,
    /// The key of its stage.
    pub key: Digest,
    /// Its content.
    pub digest: Digest,
    /// The stages that `run` runs if it is not told which.
    pub stages: Vec<String>,
    /// The folder of the recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// The recipe among `files`.
    pub recipe: PathBuf,
    /// The seed of the command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// What the command line set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// The texts of files of variables, the last one uppermost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vars: Vec<String>,
    /// The recipe and those that it includes, by their paths from `folder`.
    pub files: BTreeMap<PathBuf, String>,
    /// By stage the digests of what it reads from outside, by name.
    pub assets: BTreeMap<String, BTreeMap<String, Digest>>,
    /// By stage the files of that.
    pub inputs: BTreeMap<String, Vec<Pinned>>,
}

/// A file that a stage reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pinned {
    /// Where it was, from the folder if it is in it.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Its content.
    pub digest: Digest,
}

/// A lock as it was read.
#[derive(Clone, Debug)]
pub struct Locked {
    /// What it says.
    pub lock: Lock,
    /// Its own text.
    pub text: String,
}

/// Whether a text is a lock and not a recipe: a line of it begins so, and none within a text that it holds.
pub(super) fn is_lock(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("opdflow_lock:"))
}

impl Locked {
    /// Reads a lock.
    ///
    /// # Errors
    /// It is none, or one of another format.
    pub(super) fn read(path: &Path, text: String) -> Result<Self, Diagnostics> {
        let fail = |title: &str, label: String, help: &str| {
            let found = Diagnostic::error("E052", title, 0..0, label).help(help.to_owned());
            Err(Diagnostics::new(path, "", vec![found]))
        };
        let again =
            "take the file as it was written, or have it written again: `opdflow get RECIPE STAGE.lora -o DIR --card`";
        let lock = match serde_yaml::from_str::<Lock>(&text) {
            Ok(lock) if lock.opdflow_lock == LOCK_FORMAT => lock,
            Ok(lock) => {
                let label = format!("this program reads format {LOCK_FORMAT}");
                return fail(
                    &format!("format {} of locks is not known", lock.opdflow_lock),
                    label,
                    "update the program",
                );
            }
            Err(error) => return fail("the lock cannot be read", error.to_string(), again),
        };
        if !lock.files.contains_key(&lock.recipe) {
            let label = format!("`{}` is not among its `files`", lock.recipe.display());
            return fail("the lock does not hold its recipe", label, again);
        }
        Ok(Self { lock, text })
    }

    /// Where the paths of its recipe start: in the recipe's folder if that is here, else beside the lock.
    pub(super) fn home(&self, path: &Path) -> PathBuf {
        let beside = || path.parent().map_or_else(PathBuf::new, Path::to_owned);
        self.lock.folder.clone().filter(|folder| folder.is_dir()).unwrap_or_else(beside)
    }

    /// The texts of its files, by the paths that the reader of recipes asks for.
    pub(super) fn texts(&self, home: &Path) -> BTreeMap<PathBuf, String> {
        self.lock.files.iter().map(|(path, text)| (plain(&home.join(path)), text.clone())).collect()
    }

    /// What the command line of then changed, and above it that of now.
    pub(super) fn overrides(&self, now: &Overrides) -> Overrides {
        let mut vars = self.lock.set.clone();
        vars.extend(now.vars.clone());
        Overrides { files: now.files.clone(), vars, seed: now.seed.or(self.lock.seed) }
    }
}

/// A path without `.`.
pub(crate) fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| !matches!(part, Component::CurDir)).collect()
}

/// A path from a folder, if it is in it or beside it; else as it is.
#[must_use]
pub fn from_folder(path: &Path, folder: &Path) -> PathBuf {
    let (path, folder) = (plain(path), plain(folder));
    path.strip_prefix(&folder).map(Path::to_owned).unwrap_or(path)
}
