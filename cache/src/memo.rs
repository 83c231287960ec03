//! Digests of big files outside the store, remembered by the files' stamps, so that they are not hashed for every plan.
//!
//! What is remembered is a hint. A key that is made with it is held against the bytes once they are taken in
//! ([`crate::Store::put_files`] says what was read), so that a wrong hint ends in an error and not in a wrong result.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::files::{disk, sealed};
use crate::{Digest, Host, Store, StoreError};

/// The file in the store's folder.
const FILE: &str = "outside.json";

/// Smaller files are read each time: that is quick, and they are the ones that people edit.
const WORTH: u64 = 1 << 20;

/// Hashing this much takes a second or so.
const LONG: u64 = 1 << 30;

/// A file that changed so recently may change again within one tick of its file system's clock, unseen.
const SETTLED: Duration = Duration::from_secs(2);

/// What the file system says of a file. A write changes at least one of these: the time of change (ctime) is the
/// system's own and cannot be set back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let meta = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        Some(Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }

    fn settled(&self, now: SystemTime) -> bool {
        let at = |(s, n): (i64, i64)| {
            Some(UNIX_EPOCH + Duration::new(u64::try_from(s).ok()?, u32::try_from(n).unwrap_or(0)))
        };
        [self.modified, self.changed]
            .into_iter()
            .all(|t| at(t).is_none_or(|t| now.duration_since(t).is_ok_and(|age| age > SETTLED)))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    stamp: Stamp,
    digest: Digest,
    /// Since when the stamp has been seen, where the file's times come from another machine's clock; until the file was
    /// hashed a while after that, the digest is not believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<Moment>,
}

/// A moment by the clock of one boot of this host, which nobody sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Moment {
    boot: String,
    seconds: u64,
}

impl Moment {
    fn now() -> Moment {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the struct is ours; a clock that is not there leaves it as it is.
        unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
        Moment { boot: Host::this().id, seconds: u64::try_from(time.tv_sec).unwrap_or(0) }
    }

    /// Whether it surely was longer before the other one than a file system's clock takes to tick.
    fn well_before(&self, later: &Moment) -> bool {
        // Both are rounded down.
        self.boot == later.boot && later.seconds > self.seconds + SETTLED.as_secs()
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// What older programs remembered.
    #[serde(default)]
    files: BTreeMap<PathBuf, Known>,
    /// By the hosts' names: a path, and a device's number, may be something else on each.
    #[serde(default)]
    hosts: BTreeMap<String, BTreeMap<PathBuf, Known>>,
}

/// Of so many hosts at the most.
const HOSTS: usize = 64;

/// What changed since the memo was read: a digest, or that one is to be forgotten.
type News = BTreeMap<PathBuf, Option<Known>>;

/// Who hears of a file that takes a while to hash, and of its bytes.
type Tell = Box<dyn Fn(&Path, u64) + Send + Sync>;

/// The digests that are remembered in one store. Shared by the threads that hash.
#[derive(Default)]
pub struct Memo {
    root: Option<PathBuf>,
    tell: Option<Tell>,
    /// Files whose times are not this machine's, for tests.
    #[cfg(test)]
    afar: bool,
    known: Mutex<BTreeMap<PathBuf, Known>>,
    news: Mutex<News>,
    /// What was asked for, in the life of this one.
    asked: Mutex<BTreeMap<PathBuf, (u64, Digest)>>,
}

impl Memo {
    /// Remembers nothing when it is gone.
    pub fn none() -> Memo {
        Memo::default()
    }

    /// What the store at `root` remembers. One that is not there, or a damaged memo, remembers nothing.
    pub fn of(root: &Path) -> Memo {
        Memo { root: Some(root.to_owned()), known: Mutex::new(read(root).of_host()), ..Memo::default() }
    }

    /// The same, but `tell` is called with each file that takes seconds to hash, before it is hashed.
    #[must_use]
    pub fn telling(mut self, tell: impl Fn(&Path, u64) + Send + Sync + 'static) -> Memo {
        self.tell = Some(Box::new(tell));
        self
    }

    /// The digest of a file: remembered if the file is the one that was hashed, else by reading it.
    pub fn digest(&self, path: &Path) -> Result<Digest, StoreError> {
        let digest = self.look_up(path)?;
        let size = fs::metadata(path).map_or(0, |meta| meta.len());
        lock(&self.asked).insert(path.to_owned(), (size, digest));
        Ok(digest)
    }

    /// The files whose digests were asked for, with their sizes.
    pub fn asked(&self) -> BTreeMap<PathBuf, (u64, Digest)> {
        lock(&self.asked).clone()
    }

    fn look_up(&self, path: &Path) -> Result<Digest, StoreError> {
        opdflow_io::file::regular(path).map_err(|e| StoreError::io("read", path, e))?;
        let real = path.canonicalize().map_err(|e| StoreError::io("read", path, e))?;
        let Some(stamp) = Stamp::of(&real).filter(|s| s.size >= WORTH) else { return Digest::of_file(path) };
        let known = lock(&self.known).get(&real).filter(|k| k.stamp == stamp).cloned();
        if let Some(Known { digest, seen: None, .. }) = known {
            return Ok(digest);
        }
        if let Some(tell) = self.tell.as_ref().filter(|_| stamp.size >= LONG) {
            tell(path, stamp.size);
        }
        let (began, moment) = (SystemTime::now(), Moment::now());
        let digest = Digest::of_file(path)?;
        if Stamp::of(&real) != Some(stamp) {
            return Ok(digest);
        }
        let seen = if self.own_clock(&real) {
            if !stamp.settled(began) {
                return Ok(digest);
            }
            None
        } else {
            // The clock that gave the file its times may be an hour off ours, so that they say nothing of its age here.
            let since = known.and_then(|k| k.seen).filter(|seen| seen.boot == moment.boot).unwrap_or(moment.clone());
            (!since.well_before(&moment)).then_some(since)
        };
        let known = Known { stamp, digest, seen };
        lock(&self.known).insert(real.clone(), known.clone());
        lock(&self.news).insert(real, Some(known));
        Ok(digest)
    }

    /// Whether the times of a file come from this machine's clock.
    fn own_clock(&self, path: &Path) -> bool {
        #[cfg(test)]
        if self.afar {
            return false;
        }
        disk::is_local(path)
    }

    /// Forgets all files below `folder` (or the file itself), because what was remembered of them proved wrong.
    pub fn forget(&self, folder: &Path) {
        let real = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let mut known = lock(&self.known);
        let wrong: Vec<PathBuf> = known.keys().filter(|p| p.starts_with(&real)).cloned().collect();
        for path in wrong {
            known.remove(&path);
            lock(&self.news).insert(path, None);
        }
    }

    /// Writes down what is new. Best effort: what is not written costs only the time to hash it again.
    pub fn save(&self) {
        let news = std::mem::take(&mut *lock(&self.news));
        let Some(root) = self.root.as_ref().filter(|_| !news.is_empty()) else { return };
        // Opened first, so that a file of ours never makes a strange folder look like a store, or an empty one taken.
        let Ok(store) = Store::open(root) else { return };
        // A sweep would take the temp file away.
        let Ok(Some(_in_use)) = store.try_shared() else { return };
        let Kept { files, mut hosts } = read(root);
        let mut files = hosts.remove(&store.setting().host.name).unwrap_or(files);
        for (path, what) in news {
            match what {
                Some(known) => drop(files.insert(path, known)),
                None => drop(files.remove(&path)),
            }
        }
        files.retain(|path, known| Stamp::of(path) == Some(known.stamp));
        while hosts.len() >= HOSTS {
            hosts.pop_first();
        }
        hosts.insert(store.setting().host.name.clone(), files);
        if let Ok(text) = sealed::seal(&Kept { files: BTreeMap::new(), hosts }) {
            let _ = disk::replace(&store.root().join("tmp"), &root.join(FILE), text.as_bytes(), "memo");
        }
    }
}

impl Kept {
    fn of_host(mut self) -> BTreeMap<PathBuf, Known> {
        self.hosts.remove(&Host::this().name).unwrap_or(self.files)
    }
}

fn read(root: &Path) -> Kept {
    let kept = fs::read(root.join(FILE)).ok().and_then(|bytes| sealed::unseal(&bytes).ok());
    kept.and_then(|value| serde_json::from_value::<Kept>(value).ok()).unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that looks as if it had lain there for a while: its stamps are set back as far as a user can.
    fn old_file(path: &Path, byte: u8) {
        fs::write(path, vec![byte; WORTH as usize]).unwrap();
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    }

    fn remembered(root: &Path) -> usize {
        read(root).of_host().len()
    }

    #[test]
    fn a_digest_is_remembered_until_the_file_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (root, path) = (dir.path().join("store"), dir.path().join("weights"));
        old_file(&path, 1);
        let first = Memo::of(&root);
        let digest = first.digest(&path).unwrap();
        assert_eq!(digest, Digest::of_file(&path).unwrap());
        first.save();
        assert!(!root.exists(), "a file that has just changed is not remembered");

        std::thread::sleep(SETTLED + Duration::from_millis(100));
        let second = Memo::of(&root);
        second.digest(&path).unwrap();
        second.save();
        assert_eq!(remembered(&root), 1);
        // What the next one says comes out of the memo: it says so even of a lie.
        let lie = Digest::of(b"lie");
        let third = Memo::of(&root);
        lock(&third.known).values_mut().for_each(|k| k.digest = lie);
        assert_eq!(third.digest(&path).unwrap(), lie);
        // Same size, same time of modification, other bytes.
        old_file(&path, 2);
        assert_eq!(third.digest(&path).unwrap(), Digest::of_file(&path).unwrap());
    }

    #[test]
    fn what_is_forgotten_or_damaged_is_hashed_again() {
        let dir = tempfile::tempdir().unwrap();
        let (root, path) = (dir.path().join("store"), dir.path().join("weights"));
        old_file(&path, 1);
        std::thread::sleep(SETTLED + Duration::from_millis(100));
        let memo = Memo::of(&root);
        memo.digest(&path).unwrap();
        memo.save();
        let memo = Memo::of(&root);
        memo.forget(dir.path());
        memo.save();
        assert_eq!(remembered(&root), 0);
        memo.digest(&path).unwrap();
        memo.save();
        assert_eq!(remembered(&root), 1);
        let file = root.join(FILE);
        let mut bytes = fs::read(&file).unwrap();
        let last = bytes.len() - 5;
        bytes[last] ^= 1;
        fs::write(&file, bytes).unwrap();
        assert_eq!(remembered(&root), 0);
        assert_eq!(Memo::of(&root).digest(&path).unwrap(), Digest::of_file(&path).unwrap());
    }

    #[test]
    fn where_another_clock_keeps_the_times_a_digest_is_believed_when_it_was_seen_twice() {
        let dir = tempfile::tempdir().unwrap();
        let (root, path) = (dir.path().join("store"), dir.path().join("weights"));
        // By its times it is years old, as a fresh file is to a host whose clock runs ahead.
        old_file(&path, 1);
        let afar = || Memo { afar: true, ..Memo::of(&root) };
        let believed = |memo: &Memo| lock(&memo.known).values().filter(|k| k.seen.is_none()).count();
        for _ in 0..2 {
            let memo = afar();
            memo.digest(&path).unwrap();
            memo.save();
            assert_eq!((remembered(&root), believed(&afar())), (1, 0), "too soon to tell");
        }
        std::thread::sleep(SETTLED + Duration::from_millis(1100));
        let memo = afar();
        // Not out of the memo: it says nothing of a lie.
        lock(&memo.known).values_mut().for_each(|k| k.digest = Digest::of(b"lie"));
        assert_eq!(memo.digest(&path).unwrap(), Digest::of_file(&path).unwrap());
        memo.save();
        assert_eq!(believed(&afar()), 1);
        // Another host's memory is its own, and is left alone.
        let mut kept = read(&root);
        let files = kept.hosts.remove(&Host::this().name).unwrap();
        kept.hosts.insert("elsewhere".to_owned(), files);
        fs::write(root.join(FILE), sealed::seal(&kept).unwrap()).unwrap();
        assert_eq!(remembered(&root), 0);
        let memo = afar();
        memo.digest(&path).unwrap();
        memo.save();
        assert_eq!(read(&root).hosts["elsewhere"].len(), 1);
        assert_eq!(believed(&afar()), 0);
    }

    #[test]
    fn small_files_are_always_read_and_a_strange_folder_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (root, path) = (dir.path().join("strange"), dir.path().join("prompts.txt"));
        fs::create_dir(&root).unwrap();
        fs::write(root.join("thesis.tex"), "").unwrap();
        fs::write(&path, "a dog").unwrap();
        let memo = Memo::of(&root);
        assert_eq!(memo.digest(&path).unwrap(), Digest::of(b"a dog"));
        fs::write(&path, "a cat").unwrap();
        assert_eq!(memo.digest(&path).unwrap(), Digest::of(b"a cat"));
        old_file(&path, 3);
        std::thread::sleep(SETTLED + Duration::from_millis(100));
        memo.digest(&path).unwrap();
        memo.save();
        assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
        assert!(memo.digest(&dir.path().join("none")).is_err());
    }
}
