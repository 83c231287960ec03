//! The recipes that are shipped, and the keys of their stages.
#![allow(dead_code, reason = "each test uses its part")]

use opdflow::plan::{Keys, NumericFacts, Plan};
use opdflow::recipe::{self, Overrides};
use opdflow_cache::{Digest, Memo};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub fn shipped() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.to_string_lossy().ends_with(".yaml") && !path.to_string_lossy().ends_with(".vars.yaml") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join("recipes"), &mut found);
    // A part has no name; it is in the recipes that include it.
    found.retain(|path| std::fs::read_to_string(path).unwrap().lines().any(|line| line.starts_with("name: ")));
    found.sort();
    found
}

pub fn plan(path: &Path, overrides: &Overrides) -> Plan {
    let recipe =
        recipe::load(path, &opdflow_kinds::registry(), overrides).unwrap_or_else(|e| panic!("{}", e.render(false)));
    assert!(recipe.warnings.is_empty(), "{}: {:?}", path.display(), recipe.warnings);
    let mut plan = Plan::survey(recipe, NumericFacts::default(), &Memo::none());
    plan.stages.iter_mut().for_each(settle);
    plan
}

/// The keys of a build of the committed sources: of a part that is being edited its version, whatever it is now.
fn settle(stage: &mut opdflow::plan::Planned) {
    let own = stage.spec.kind.describe().kind;
    stage.code.retain(|part, _| part != own && part != "unlisted");
    for (name, value) in &mut stage.code {
        let part = opdflow_kinds::code::parts().iter().find(|p| p.name == name).expect("a part");
        *value = part.version.into();
    }
}

/// A stage's name without its seed, if that is the main recipe's: with this one seed, a cell has the key of the stage that
/// has no matrix. The cell of a task is named as where it is written out: `ocr_teacher` for `teacher[task=ocr]`.
pub fn plain(name: &str) -> String {
    let name = name.replace("[seed=42]", "").replace("seed=42,", "");
    let axes = ["[task=", "[reward=", "[after=", "[way=", "[by=", "[row=", "[of="];
    match name.strip_suffix(']').and_then(|name| axes.iter().find_map(|axis| name.split_once(axis))) {
        Some((stage, cell)) => format!("{cell}_{}", stage.trim_start_matches("teacher_")),
        None => name,
    }
}

/// Keys of all stages that lack no file, with a digest made of the upstream's name in place of each input's.
pub fn keys(path: &Path) -> Vec<(String, Digest)> {
    keys_with(path, &Overrides::default())
}

pub fn keys_with(path: &Path, overrides: &Overrides) -> Vec<(String, Digest)> {
    all_keys(path, overrides).into_iter().map(|(stage, keys)| (stage, keys.key)).collect()
}

/// Their lineages: what longer and shorter trainings of otherwise equal parameters share.
pub fn lineages(path: &Path) -> Vec<(String, Digest)> {
    all_keys(path, &Overrides::default()).into_iter().map(|(stage, keys)| (stage, keys.lineage)).collect()
}

fn all_keys(path: &Path, overrides: &Overrides) -> Vec<(String, Keys)> {
    let plan = plan(path, overrides);
    let key = |i: usize| {
        let stage = &plan.stages[i];
        let input = |(port, (from, output)): (&String, &(usize, String))| {
            (port.clone(), Digest::of(format!("{}.{output}", plain(&plan.stages[*from].spec.name)).as_bytes()))
        };
        let inputs: BTreeMap<String, Digest> = stage.needs.iter().map(input).collect();
        (plain(&stage.spec.name), plan.keys(i, &inputs))
    };
    (0..plan.stages.len()).filter(|i| plan.stages[*i].missing.is_empty()).map(key).collect()
}

/// All their keys, as the golden file holds them: recipe, stage and key, a line each.
pub fn golden() -> String {
    let mut text = String::new();
    for path in shipped() {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        for (stage, key) in keys(&path) {
            text += &format!("{name} {stage} {key}\n");
        }
    }
    text
}
