//! `--on slurm`: the profile of a cluster, from where it lies.

use super::args::Cluster;
use super::{Failure, Session};
use crate::exec::slurm::profile::Profile;
use crate::exec::slurm::reading;
use crate::recipe::{Diagnostic, Diagnostics, MOST_THREADS};
use crate::sched::Slots;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Its name beside a recipe, and in the user's folder of configurations.
const FILE: &str = "slurm.yaml";

/// The profile that is meant, read.
///
/// # Errors
/// There is none, or it has mistakes.
pub(crate) fn profile(session: &Session, recipe: &Path, on: &Cluster) -> Result<Profile, Failure> {
    let path = match &on.profile {
        Some(path) => path.clone(),
        None => found(recipe, |name| std::env::var_os(name))?,
    };
    let kinds: Vec<&str> = session.registry.names().collect();
    reading::read(&path, &kinds).map_err(Failure::Recipe)
}

/// Beside the recipe, where `$OPDFLOW_SLURM` says, or in the user's folder.
fn found(recipe: &Path, variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, Failure> {
    let beside = recipe.parent().unwrap_or(Path::new("")).join(FILE);
    if opdflow_io::file::is_named(&beside) {
        return Ok(beside);
    }
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = set("OPDFLOW_SLURM") {
        return Ok(path);
    }
    let home = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    let own = home.map(|home| home.join("opdflow").join(FILE));
    match own.filter(|path| opdflow_io::file::is_named(path)) {
        Some(path) => Ok(path),
        None => {
            let title = "`--on slurm` finds no profile of the cluster";
            let label = format!(
                "neither {} nor $OPDFLOW_SLURM nor opdflow/{FILE} in the folder of configurations",
                beside.display()
            );
            let help = "write one of these files, such as `partition: gpu`, or name it: `--on slurm=FILE`";
            let found = Diagnostic::error("E060", title, 0..0, label).help(help);
            Err(Diagnostics::new(&beside, "", vec![found]).into())
        }
    }
}

/// More GPUs than a stage asks for.
const MOST_GPUS: usize = 1024;

/// What all jobs of a run together may take: each what it asks for, of as many nodes as that needs. How many jobs there are at once
/// the executor bounds.
pub(crate) fn slots(profile: &Profile) -> Slots {
    // Slurm gives a job its GPUs; these only count.
    let gpus = if profile.node.gpus > 0 { MOST_GPUS.max(profile.jobs) } else { 0 };
    Slots::new(MOST_THREADS.saturating_mul(MOST_GPUS.max(profile.jobs)), (0..gpus).map(|i| i.to_string()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_looked_for_from_the_nearest_place_on() {
        let dir = tempfile::tempdir().unwrap();
        let (recipe, home) = (dir.path().join("r.yaml"), dir.path().join("home"));
        let none = |_: &str| None;
        let Err(Failure::Recipe(found)) = found_in(&recipe, none) else { panic!("there is none") };
        assert!(found.render(false).contains("E060"));
        std::fs::create_dir_all(home.join(".config/opdflow")).unwrap();
        let of_user = home.join(".config/opdflow/slurm.yaml");
        std::fs::write(&of_user, "{}").unwrap();
        let variables = |name: &str| match name {
            "HOME" => Some(home.clone().into_os_string()),
            _ => None,
        };
        assert_eq!(found_in(&recipe, variables).ok(), Some(of_user));
        let set = |name: &str| match name {
            "OPDFLOW_SLURM" => Some("elsewhere.yaml".into()),
            other => variables(other),
        };
        assert_eq!(found_in(&recipe, set).ok(), Some("elsewhere.yaml".into()));
        std::fs::write(dir.path().join("slurm.yaml"), "{}").unwrap();
        assert_eq!(found_in(&recipe, set).ok(), Some(dir.path().join("slurm.yaml")));
    }

    fn found_in(recipe: &Path, variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, Failure> {
        super::found(recipe, variable)
    }
}
