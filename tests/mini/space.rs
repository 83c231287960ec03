//! A place to run the miniature in. The models that all tests start from are made once for the whole program.

use crate::common::{Ran, TestSpace, finish};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

pub const TEACHERS: [&str; 3] = ["geneval_teacher", "ocr_teacher", "looks_teacher"];

const RECIPES: [(&str, &str); 4] = [
    ("multitask.yaml", include_str!("multitask.yaml")),
    ("noise.yaml", include_str!("noise.yaml")),
    ("own.yaml", include_str!("own.yaml")),
    ("two_bases.yaml", include_str!("two_bases.yaml")),
];

/// A space with all recipes of this folder, and a store that holds the base and the prompts.
pub struct Mini(TestSpace);

impl Deref for Mini {
    type Target = TestSpace;
    fn deref(&self) -> &TestSpace {
        &self.0
    }
}

impl Mini {
    pub fn new() -> Self {
        let mini = Self::empty();
        copy(made(), &mini.store());
        mini
    }

    fn empty() -> Self {
        let space = TestSpace::new();
        for (name, text) in RECIPES {
            space.write(name, text);
        }
        Self(space)
    }

    /// A folder with two prompts in `words.txt` and this text as the recipe `r.yaml`.
    pub fn with_words(recipe: &str) -> Self {
        let mini = Self::new();
        mini.write("words.txt", "a red dot\na sea\n");
        mini.write("r.yaml", recipe);
        mini
    }

    /// The program with real stages, its output to be read.
    pub fn prepared(&self, args: &[&str]) -> Command {
        let mut command = self.0.command(args);
        command.env_remove("OPDFLOW_FAKE_STAGES").env("OMP_NUM_THREADS", "1");
        // A checkpoint after every round, so that there is something to go on from.
        command.env("OPDFLOW_CHECKPOINT_SECONDS", "0");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn start(&self, args: &[&str]) -> Child {
        self.prepared(args).spawn().expect("the program starts")
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        finish(self.start(args))
    }

    /// Replaces text everywhere in a recipe.
    #[track_caller]
    pub fn edit(&self, recipe: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(recipe)).expect("a recipe");
        assert!(text.contains(from), "{recipe} has no `{from}`");
        self.write(recipe, &text.replace(from, to));
    }
}

/// The store with the base and the prompts. It outlives its tests in cargo's own folder for such things; what earlier
/// programs left there is cleared.
fn made() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR"));
        for old in std::fs::read_dir(home).into_iter().flatten().flatten() {
            let name = old.file_name().to_string_lossy().into_owned();
            if name.strip_prefix("mini-").is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = std::fs::remove_dir_all(old.path());
            }
        }
        let mini = Mini::empty();
        let until = ["base", "geneval_prompts", "ocr_prompts", "looks_prompts"]
            .iter()
            .flat_map(|s| ["--until", s])
            .collect::<Vec<_>>();
        mini.run(&[&["run", "multitask.yaml"], &until[..]].concat()).expect(0);
        let store = home.join(format!("mini-{}", std::process::id()));
        copy(&mini.store(), &store);
        store
    })
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a store").flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("a file of the store");
        }
    }
}

/// The digests of what does not say how long a run took: two runs of the same recipe agree in them.
pub fn lasting(ran: &Ran) -> BTreeMap<String, String> {
    let timed = |name: &str| name.ends_with(".timing") || (name.starts_with("table1.") && name != "table1.png");
    ran.outputs().into_iter().filter(|(name, _)| !timed(name)).collect()
}
