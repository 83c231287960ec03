//! What one process holds at a time, on whatever host: a folder of numbered files, of which the highest counts.
//!
//! ```text
//! leases/<key>.claims/0000000001     {"free": ...}, or {"held": <who>}
//! leases/<key>.claims/0000000002
//! ```
//!
//! To take what is free, or what a dead process held, is to make the file of the next number, which one alone can do. A number
//! is never used twice, so that who looked at an old state and comes late makes nothing of it; and who was taken for dead
//! and comes back finds a higher number than its own.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::StoreError;
use crate::files::disk::{list, read_replaced};
use crate::files::failpoint::failpoint;
use crate::hosts::User;
use crate::hosts::host::random;

/// So many files below the highest stay: a listing that is read while they come and go then always has the highest of some moment.
const KEPT: u64 = 3;

/// The claims on one thing.
#[derive(Debug, Clone)]
pub(crate) struct Claims {
    dir: PathBuf,
}

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Claim {
    /// Given back by the holder of this mark.
    Free(String),
    /// Held.
    Held(Held),
    /// Torn, or of a program that we do not know: held by somebody.
    #[serde(skip)]
    Unreadable,
}

/// Who holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    pub user: User,
    /// Whether it holds a lock of the system beside it, so that on its host the lock says whether it still does.
    pub locked: bool,
    /// Random: tells this from anything else that the same process holds or held.
    pub mark: String,
}

impl Held {
    pub fn by(user: &User, locked: bool) -> Held {
        Held { user: user.clone(), locked, mark: random() }
    }
}

impl Claims {
    pub fn at(dir: PathBuf) -> Claims {
        Claims { dir }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The claim that counts, with its number; nothing where there never was one.
    pub fn top(&self) -> Result<Option<(u64, Claim)>, StoreError> {
        loop {
            let Some(number) = self.highest()? else { return Ok(None) };
            let path = self.path(number);
            match read_replaced(&path) {
                Ok(bytes) => return Ok(Some((number, serde_json::from_slice(&bytes).unwrap_or(Claim::Unreadable)))),
                // Removed since it was listed, for there are higher ones; or the whole folder was swept.
                Err(e) if e.kind() == io::ErrorKind::NotFound && self.highest()? != Some(number) => {}
                Err(e) => return Err(StoreError::io("read", &path, e)),
            }
        }
    }

    /// Makes the claim of this number; false if somebody else was faster. The folder must be there.
    pub fn take(&self, number: u64, held: &Held) -> Result<bool, StoreError> {
        let path = self.path(number);
        let failed = |e| StoreError::io("write", &path, e);
        let text = serde_json::to_vec(&Claim::Held(held.clone())).map_err(|e| failed(e.into()))?;
        let temp = self.dir.join(format!(".{}", held.mark));
        failpoint("claim-start").map_err(failed)?;
        let made =
            fs::write(&temp, &text).and_then(|()| failpoint("claim-written")).and_then(|()| once(&temp, &path, &text));
        let _ = fs::remove_file(&temp);
        let made = made.map_err(failed)?;
        failpoint("claim-made").map_err(failed)?;
        // Asked for twice, as over a network that lost the answer, it may be there because we made it.
        let ours = made || fs::read(&path).is_ok_and(|found| found == text);
        if !ours {
            return Ok(false);
        }
        // What we had looked at may have been long ago: then higher ones have come, and this number was free because it
        // was removed.
        if self.highest()? != Some(number) {
            let _ = fs::remove_file(&path);
            return Ok(false);
        }
        for old in self.numbers()?.into_iter().filter(|n| *n + KEPT < number) {
            let _ = fs::remove_file(self.path(old));
        }
        Ok(true)
    }

    /// Whether the claim of this number and mark is the one that counts.
    pub fn counts(&self, number: u64, mark: &str) -> Result<bool, StoreError> {
        Ok(matches!(self.top()?, Some((n, Claim::Held(held))) if n == number && held.mark == mark))
    }

    /// Gives back what is held; false if it is not any more.
    pub fn free(&self, number: u64, mark: &str) -> Result<bool, StoreError> {
        if !self.counts(number, mark)? {
            return Ok(false);
        }
        let path = self.path(number);
        let failed = |e| StoreError::io("write", &path, e);
        let mut text = serde_json::to_vec(&Claim::Free(mark.to_owned())).map_err(|e| failed(e.into()))?;
        // In place, in one write of the same length: a rename over it would wait for the disk on some file systems.
        let file = OpenOptions::new().write(true).open(&path).map_err(failed)?;
        let length = usize::try_from(file.metadata().map_err(failed)?.len()).unwrap_or(0);
        text.resize(text.len().max(length), b' ');
        file.write_all_at(&text, 0).map_err(failed)?;
        failpoint("claim-freed").map_err(failed)?;
        Ok(true)
    }

    fn highest(&self) -> Result<Option<u64>, StoreError> {
        Ok(self.numbers()?.into_iter().max())
    }

    fn numbers(&self) -> Result<Vec<u64>, StoreError> {
        let number = |path: PathBuf| path.file_name()?.to_str()?.parse().ok();
        Ok(list(&self.dir)?.into_iter().filter_map(number).collect())
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:010}"))
    }
}

/// Gives a file its name, whole; false if the name is taken.
fn once(temp: &Path, path: &Path, text: &[u8]) -> io::Result<bool> {
    let taken = |e: &io::Error| e.kind() == io::ErrorKind::AlreadyExists;
    match fs::hard_link(temp, path) {
        Ok(()) => return Ok(true),
        Err(e) if taken(&e) => return Ok(false),
        // A file system without second names: made empty, then written. Who reads it empty takes it for somebody's.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::ENOSYS | libc::EOPNOTSUPP | libc::EMLINK)) => {}
        Err(e) => return Err(e),
    }
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(text).map(|()| true).inspect_err(|_| drop(fs::remove_file(path))),
        Err(e) if taken(&e) => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hosts::Host;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn held(host: &str) -> Held {
        Held::by(&Host::made_of(host, &[]).process(), false)
    }

    fn fresh() -> (tempfile::TempDir, Claims) {
        let dir = tempfile::tempdir().unwrap();
        let claims = Claims::at(dir.path().to_owned());
        (dir, claims)
    }

    #[test]
    fn of_many_takers_one_wins() {
        let (_dir, claims) = fresh();
        for round in 0..200_u64 {
            let (ready, won) = (Barrier::new(4), AtomicUsize::new(0));
            std::thread::scope(|threads| {
                for n in 0..4 {
                    let (claims, ready, won) = (&claims, &ready, &won);
                    threads.spawn(move || {
                        let me = held(&format!("host{n}"));
                        ready.wait();
                        if claims.take(round + 1, &me).unwrap() {
                            won.fetch_add(1, Ordering::SeqCst);
                            assert!(claims.counts(round + 1, &me.mark).unwrap());
                        }
                    });
                }
            });
            assert_eq!(won.into_inner(), 1, "round {round}");
        }
        assert!(claims.numbers().unwrap().len() <= 1 + KEPT as usize);
        assert!(list(claims.dir()).unwrap().iter().all(|p| !p.file_name().unwrap().to_string_lossy().starts_with('.')));
    }

    #[test]
    fn who_comes_late_gets_nothing_and_takes_nothing() {
        let (_dir, claims) = fresh();
        let (first, slow, second) = (held("a"), held("b"), held("c"));
        assert_eq!(claims.top().unwrap(), None);
        assert!(claims.take(1, &first).unwrap());
        // The slow one has seen number 1 dead. Meanwhile the second takes it over, gives it back, and so on.
        for number in 2..10 {
            assert!(claims.take(number, &second).unwrap());
            assert!(claims.free(number, &second.mark).unwrap());
            assert_eq!(claims.top().unwrap(), Some((number, Claim::Free(second.mark.clone()))));
        }
        assert!(!claims.path(2).exists());
        assert!(!claims.take(2, &slow).unwrap(), "a number that was removed");
        assert!(!claims.take(9, &slow).unwrap(), "a number that is there");
        assert!(claims.take(10, &second).unwrap());
        // The first one comes back: it holds nothing, and gives nothing back that is not its own.
        assert!(!claims.counts(1, &first.mark).unwrap() && !claims.free(1, &first.mark).unwrap());
        assert!(!claims.free(10, &first.mark).unwrap());
        assert!(claims.counts(10, &second.mark).unwrap());
    }

    #[test]
    fn what_cannot_be_read_is_somebodys() {
        let (_dir, claims) = fresh();
        fs::write(claims.path(3), "").unwrap();
        assert_eq!(claims.top().unwrap(), Some((3, Claim::Unreadable)));
        fs::write(claims.path(3), "{\"from_the_future\":{}}").unwrap();
        assert_eq!(claims.top().unwrap(), Some((3, Claim::Unreadable)));
    }

    #[test]
    fn a_claim_asked_for_twice_is_one() {
        let (_dir, claims) = fresh();
        let me = held("a");
        assert!(claims.take(1, &me).unwrap());
        assert!(claims.take(1, &me).unwrap(), "the answer was lost on the way");
        // Another thread of the process is not the same one.
        assert!(!claims.take(1, &Held::by(&me.user, false)).unwrap());
    }
}
