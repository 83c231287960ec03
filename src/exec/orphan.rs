//! Processes of stages whose run is no more. They work on, publish what they make, and listen to signals as before.

use crate::runlog::RunFolder;
use std::ffi::OsStr;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// A stage's process that was started by a run of which only the records are left.
#[derive(Debug)]
pub struct Orphan {
    /// The stage.
    pub stage: String,
    /// The process.
    pub pid: u32,
    /// Holds the process by more than its number. Nothing on a system that cannot.
    handle: Option<OwnedFd>,
}

/// The process `pid`, if it is the one that runs this job of this run. Its number alone could belong to a stranger by now,
/// or to a process of another machine that shares the folder.
#[must_use]
pub fn orphan(folder: &RunFolder, stage: &str, pid: u32) -> Option<Orphan> {
    // Held first: what is then found out is of the process that is held.
    let handle = hold(pid);
    runs(pid, &folder.job(stage)).then(|| Orphan { stage: stage.to_owned(), pid, handle })
}

impl Orphan {
    /// Whether it still works.
    #[must_use]
    pub fn lives(&self, folder: &RunFolder) -> bool {
        runs(self.pid, &folder.job(&self.stage))
    }
    /// Asks it to checkpoint and end; with `now` ends it, and what it has started.
    pub fn stop(&self, folder: &RunFolder, now: bool) {
        if !now {
            return self.signal(libc::SIGTERM);
        }
        // It leads a group of its own, and for a group there is no better name than the number.
        if let Some(group) = i32::try_from(self.pid).ok().filter(|_| self.lives(folder)) {
            // SAFETY: no memory is involved.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
        self.signal(libc::SIGKILL);
    }

    fn signal(&self, signal: i32) {
        let null = std::ptr::null::<libc::siginfo_t>();
        match (&self.handle, i32::try_from(self.pid)) {
            // SAFETY: the descriptor is open, and no information is passed.
            (Some(handle), _) => unsafe {
                libc::syscall(libc::SYS_pidfd_send_signal, handle.as_raw_fd(), signal, null, 0);
            },
            // SAFETY: no memory is involved.
            (None, Ok(pid)) if pid > 0 => unsafe {
                libc::kill(pid, signal);
            },
            _ => {}
        }
    }
}

fn hold(pid: u32) -> Option<OwnedFd> {
    // SAFETY: two numbers go in, and a descriptor that nobody else has comes out, or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: see above.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether the process works on the job in this file, as its command line says. One that has ended and that nobody has
/// asked about has none.
fn runs(pid: u32, job: &Path) -> bool {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let asked = || -> Option<PathBuf> {
        let words = std::fs::read(proc.join("cmdline")).ok()?;
        let mut words = words.split(|b| *b == 0).skip(1);
        let found = (words.next()? == b"__stage").then(|| words.next())??;
        // What is relative is so to the folder in which the run was started.
        proc.join("cwd").join(OsStr::from_bytes(found)).canonicalize().ok()
    };
    job.canonicalize().ok().is_some_and(|job| asked() == Some(job))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_alone_is_nobody() {
        let home = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(home.path(), "r").unwrap();
        assert!(orphan(&folder, "a", std::process::id()).is_none());
        std::fs::write(folder.job("a"), "{}").unwrap();
        assert!(orphan(&folder, "a", std::process::id()).is_none());
        assert!(orphan(&folder, "a", 1).is_none() && orphan(&folder, "a", u32::MAX).is_none());
    }

    #[test]
    fn a_process_at_its_job_is_known_and_stops() {
        let home = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(home.path(), "r").unwrap();
        std::fs::write(folder.job("a"), "{}").unwrap();
        let relative = folder.job("a").strip_prefix(home.path()).unwrap().to_owned();
        // A script of this name: the words stand where those of a stage's process do.
        let script = home.path().join("__stage");
        std::fs::write(&script, "while :; do sleep 0.02; done\n").unwrap();
        let mut child =
            std::process::Command::new("sh").arg("__stage").arg(&relative).current_dir(home.path()).spawn().unwrap();
        let found = loop {
            if let Some(found) = orphan(&folder, "a", child.id()) {
                break found;
            }
        };
        assert!(found.lives(&folder) && orphan(&folder, "b", child.id()).is_none());
        found.stop(&folder, false);
        child.wait().unwrap();
        assert!(!found.lives(&folder));
    }
}
