//! The folder of one run: `.opdflow/runs/<UTC time>-<recipe>-<4 hex>/`.

use anyhow::{Context as _, Result};
use opdflow_api::Fault;
use opdflow_api::cache::{Digest, Host, utc_now};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Where the records of one run lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder(PathBuf);

impl RunFolder {
    /// Where runs are kept below the folder `run_dir`.
    #[must_use]
    pub fn home(run_dir: &Path) -> PathBuf {
        run_dir.join("runs")
    }

    /// A fresh folder below `home` for a run of `recipe`, with its subfolders; `home/latest` points to it.
    ///
    /// # Errors
    /// The place cannot be written to.
    pub fn create(home: &Path, recipe: &str) -> Result<Self> {
        std::fs::create_dir_all(home).with_context(|| format!("cannot create {}", home.display()))?;
        let time = utc_now().replace([':', '-'], "");
        for attempt in 0..100_u32 {
            let name = format!("{time}-{}-{}", file_name(recipe), tag(attempt));
            let folder = home.join(&name);
            match std::fs::create_dir(&folder) {
                Ok(()) => {
                    let made = Self(folder);
                    made.fill()?;
                    point_latest(home, &name);
                    return Ok(made);
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e).with_context(|| format!("cannot create {}", folder.display())),
            }
        }
        anyhow::bail!("cannot find a free name for a run in {}", home.display())
    }

    /// A folder below the system's temporary one, for when the proper place cannot be written to.
    ///
    /// # Errors
    /// Not even that can be written to.
    pub fn temporary(recipe: &str) -> Result<Self> {
        Self::create(&own_folder(&std::env::temp_dir(), true)?, recipe)
    }

    /// Where the runs lie that could not be recorded in their proper place, if there are any: a folder of this user's
    /// that no other could have written to.
    #[must_use]
    pub fn temporary_home() -> Option<PathBuf> {
        own_folder(&std::env::temp_dir(), false).ok()
    }

    /// The folder of an earlier run.
    #[must_use]
    pub fn of(path: PathBuf) -> Self {
        Self(path)
    }

    fn fill(&self) -> Result<()> {
        for part in ["logs", "jobs"] {
            let folder = self.0.join(part);
            std::fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        Ok(())
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The folder's name, by which `status` finds the run.
    #[must_use]
    pub fn name(&self) -> String {
        let full = self.0.canonicalize().unwrap_or_else(|_| self.0.clone());
        full.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
    }

    /// The run log.
    #[must_use]
    pub fn events(&self) -> PathBuf {
        self.0.join("events.jsonl")
    }

    /// The keys that became known in the run, beside its log.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }

    /// What the process of a stage writes to its standard error.
    #[must_use]
    pub fn log(&self, stage: &str) -> PathBuf {
        self.0.join("logs").join(format!("{}.log", file_name(stage)))
    }

    /// The job of a stage.
    #[must_use]
    pub fn job(&self, stage: &str) -> PathBuf {
        self.0.join("jobs").join(format!("{}.json", file_name(stage)))
    }

    /// Images that a training leaves on its way.
    #[must_use]
    pub fn samples(&self, stage: &str) -> PathBuf {
        self.0.join("samples").join(file_name(stage))
    }

    /// A copy of an output for the user: `stage.port.extension`, without what is left out.
    #[must_use]
    pub fn output(&self, stage: &str, port: Option<&str>, extension: Option<&str>) -> PathBuf {
        let parts = [Some(stage), port].into_iter().flatten().map(file_name).chain(extension.map(ToOwned::to_owned));
        self.0.join("outputs").join(parts.collect::<Vec<_>>().join("."))
    }
}

/// The folder of this user in a folder that all users share. Anybody can make one of that name there, or a link: what is
/// not this user's own, or that others may write to, is not used.
fn own_folder(shared: &Path, make: bool) -> Result<PathBuf> {
    // SAFETY: it takes nothing and cannot fail.
    let uid = unsafe { libc::geteuid() };
    let path = shared.join(format!("opdflow-{uid}"));
    let shown = path.display();
    if make {
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(e).with_context(|| format!("cannot create {shown}"));
            }
            _ => {}
        }
    }
    let meta = path.symlink_metadata().with_context(|| format!("cannot look at {shown}"))?;
    let wrong = match meta.mode() & 0o7777 {
        _ if meta.is_symlink() => "it is a symbolic link".to_owned(),
        _ if !meta.is_dir() => "it is no folder".to_owned(),
        _ if meta.uid() != uid => format!("it belongs to the user {}", meta.uid()),
        mode if mode & 0o022 != 0 => format!("others may write to it (mode {mode:o})"),
        _ => return Ok(path),
    };
    let help = "remove it, or give `--run-dir` or TMPDIR a folder of your own that can be written to";
    Err(Fault::machine(format!("{shown} is not used: {wrong}")).help(help).into())
}

/// `name` as a file name. Names of stages and recipes nearly always are one already; what is not one gets a few
/// digits of its digest, so that two names never meet in one file.
fn file_name(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' })
        .take(100)
        .collect();
    if plain == name && !plain.starts_with('.') && !plain.is_empty() {
        plain
    } else {
        let digest = Digest::of(name.as_bytes()).to_string();
        format!("_{plain}-{}", &digest[..8])
    }
}

/// Four hex digits that tell apart runs that began in the same second.
fn tag(attempt: u32) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    let seed = format!("{now} {} {attempt}", std::process::id());
    Digest::of(seed.as_bytes()).to_string()[..4].to_owned()
}

/// A convenience only: a file system without links does without.
fn point_latest(home: &Path, name: &str) {
    let fresh = home.join(format!(".latest-{}-{}", Host::this().tag, std::process::id()));
    let _ = std::fs::remove_file(&fresh);
    if std::os::unix::fs::symlink(name, &fresh).is_ok() && std::fs::rename(&fresh, home.join("latest")).is_err() {
        let _ = std::fs::remove_file(&fresh);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_never_share_a_folder() {
        let home = tempfile::tempdir().unwrap();
        let a = RunFolder::create(home.path(), "multi task").unwrap();
        let b = RunFolder::create(home.path(), "multi task").unwrap();
        assert_ne!(a, b);
        assert_eq!(RunFolder::of(home.path().join("latest")).name(), b.name());
    }

    #[test]
    fn what_others_may_have_made_in_a_shared_folder_is_not_used() {
        use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
        let shared = tempfile::tempdir().unwrap();
        assert!(own_folder(shared.path(), false).is_err());
        let path = own_folder(shared.path(), true).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
        assert_eq!(own_folder(shared.path(), false).unwrap(), path);
        // As an older program left it.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(own_folder(shared.path(), true).is_ok());
        let refused = |why: &str| {
            let text = format!("{:#}", own_folder(shared.path(), true).unwrap_err());
            assert!(text.contains(why) && text.contains("--run-dir"), "{text}");
        };
        for mode in [0o777, 0o775, 0o1777] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            refused("others may write");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        // Only root can give a folder away.
        if chown(&path, Some(12345), None).is_ok() {
            refused("belongs to the user 12345");
        }
        std::fs::remove_dir(&path).unwrap();
        symlink(shared.path(), &path).unwrap();
        refused("symbolic link");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        refused("no folder");
    }

    #[test]
    fn file_names_stay_apart() {
        let names = ["a", "a.b", "a/b", "a_b", "a b", "", ".", "..", "é"];
        let files: std::collections::BTreeSet<_> = names.iter().map(|n| file_name(n)).collect();
        assert_eq!(files.len(), names.len(), "{files:?}");
        assert!(files.iter().all(|f| !f.contains('/') && !f.starts_with('.')));
    }
}
