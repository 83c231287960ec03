//! Taking bytes in.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use tempfile::NamedTempFile;

use crate::digest::CHUNK;
use crate::files::failpoint::failpoint;
use crate::files::{disk, permission};
use crate::{Digest, Object, ObjectKind, Store, StoreError, TreeEntry, tree};

impl Store {
    /// Stores bytes. When this returns they survive a power cut.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Object, StoreError> {
        let object = Object { digest: Digest::of(bytes), kind: ObjectKind::Blob, size: bytes.len() as u64 };
        let shard = self.insert_bytes(&object, bytes, permission::ANYONE)?;
        disk::sync_dir(&shard)?;
        Ok(object)
    }

    /// Stores a file as a blob, or a folder as a tree. When this returns it survives a power cut.
    ///
    /// Symbolic links, pipes, sockets and devices are refused, as are file names that are not UTF-8. A file that is
    /// written to meanwhile is stored as it was read, under the digest of what was read.
    pub fn put_path(&self, path: &Path) -> Result<Object, StoreError> {
        self.put_each(path, |file| self.insert_file(file))
    }

    /// Like [`Store::put_path`], for what lies in a work folder of this store and is needed by nobody afterwards: big
    /// files are moved, not copied, which saves writing them a second time. Some may be gone from there even if this
    /// fails.
    ///
    /// A file that is written to meanwhile is an error: unlike a copy, it would go on changing.
    pub fn take_path(&self, path: &Path) -> Result<Object, StoreError> {
        self.put_each(path, |file| self.insert_own(file))
    }

    fn put_each(
        &self,
        path: &Path,
        insert: impl Fn(&Path) -> Result<(Object, PathBuf), StoreError> + Sync,
    ) -> Result<Object, StoreError> {
        let meta = fs::symlink_metadata(path).map_err(|e| StoreError::io("read", path, e))?;
        if !meta.is_dir() {
            let (object, shard) = insert(path)?;
            disk::sync_dir(&shard)?;
            return Ok(object);
        }
        let mut files = Vec::new();
        walk(path, "", &mut files)?;
        self.put_tree(files, path, insert)
    }

    /// Stores files as a tree, each under the name that is given with it: its path in the tree, with `/`. Unlike in a
    /// folder that is stored whole, a symbolic link stands for the file that it leads to, for each file was named by the
    /// caller. Where the file system can, the bytes are shared copy-on-write with the files, not copied.
    ///
    /// What is stored is what was read: compare the tree with what you expect if the files may have changed.
    pub fn put_files(&self, files: &[(String, PathBuf)]) -> Result<Object, StoreError> {
        let real = |(name, path): &(String, PathBuf)| match path.canonicalize() {
            Ok(real) => Ok((name.clone(), real)),
            Err(e) => Err(StoreError::io("read", path, e)),
        };
        self.put_tree(files.iter().map(real).collect::<Result<_, _>>()?, Path::new("a list of files"), |file| {
            self.insert_file(file)
        })
    }

    fn put_tree(
        &self,
        mut files: Vec<(String, PathBuf)>,
        what: &Path,
        insert: impl Fn(&Path) -> Result<(Object, PathBuf), StoreError> + Sync,
    ) -> Result<Object, StoreError> {
        files.sort_unstable();
        let stored: Vec<(TreeEntry, PathBuf)> = files
            .into_par_iter()
            .map(|(name, path)| {
                let (object, shard) = insert(&path)?;
                Ok((TreeEntry { path: name, digest: object.digest, size: object.size }, shard))
            })
            .collect::<Result<_, StoreError>>()?;
        // One sync a shard, not one a file. The listing comes after all it lists.
        let (entries, shards): (Vec<_>, BTreeSet<_>) = stored.into_iter().unzip();
        shards.par_iter().try_for_each(|shard| disk::sync_dir(shard))?;
        failpoint("tree-before-listing").map_err(|e| StoreError::io("write", what, e))?;
        let refuse = |why: String| StoreError::Invalid { what: what.display().to_string(), why };
        let size = tree::total(&entries).ok_or_else(|| refuse("it is too big".to_owned()))?;
        let listing = tree::encode(&entries);
        tree::decode(&listing).map_err(refuse)?;
        let listing = self.put_bytes(&listing)?;
        Ok(Object { digest: listing.digest, kind: ObjectKind::Tree, size })
    }

    /// The blob is in place, but its name is durable only once the returned folder is synced. `readers` as in
    /// [`permission::readers`].
    fn insert_bytes(&self, object: &Object, bytes: &[u8], readers: u32) -> Result<PathBuf, StoreError> {
        if let Some(shard) = self.reuse(object) {
            return Ok(shard);
        }
        let mut temp = disk::temp_file(&self.tmp(), permission::while_written(readers))?;
        temp.write_all(bytes).map_err(|e| StoreError::io("write", temp.path(), e))?;
        self.install(temp, &object.digest)
    }

    fn insert_file(&self, path: &Path) -> Result<(Object, PathBuf), StoreError> {
        let read = |e| StoreError::io("read", path, e);
        let mut file = open_plain(path)?;
        let meta = file.metadata().map_err(read)?;
        let (length, readers) = (meta.len(), permission::readers(&meta));
        if length <= CHUNK as u64 {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(read)?;
            let object = Object { digest: Digest::of(&bytes), kind: ObjectKind::Blob, size: bytes.len() as u64 };
            let shard = self.insert_bytes(&object, &bytes, readers)?;
            return Ok((object, shard));
        }
        // Hashing is far cheaper than writing: look first whether the store has these bytes.
        let object = Object { digest: Digest::of_file(path)?, kind: ObjectKind::Blob, size: length };
        if let Some(shard) = self.reuse(&object) {
            return Ok((object, shard));
        }
        let temp = disk::temp_file(&self.tmp(), permission::while_written(readers))?;
        let digest = if disk::reflink(&file, temp.as_file()) {
            // Our own copy now: nobody can change it between the hash and the rename.
            Digest::of_file(temp.path())?
        } else {
            copy(&mut file, temp.as_file(), path, temp.path())?
        };
        let size = temp.as_file().metadata().map_err(|e| StoreError::io("read", temp.path(), e))?.len();
        let shard = self.install(temp, &digest)?;
        Ok((Object { digest, kind: ObjectKind::Blob, size }, shard))
    }

    /// Moves a file in. What is small, has a second name, or lies on another file system is copied.
    fn insert_own(&self, path: &Path) -> Result<(Object, PathBuf), StoreError> {
        let read = |e| StoreError::io("read", path, e);
        let file = open_plain(path)?;
        let before = file.metadata().map_err(read)?;
        if before.len() <= CHUNK as u64 || before.nlink() != 1 {
            return self.insert_file(path);
        }
        let object = Object { digest: Digest::of_file(path)?, kind: ObjectKind::Blob, size: before.len() };
        if let Some(shard) = self.reuse(&object) {
            return Ok((object, shard));
        }
        let dest = self.blob_path(&object.digest);
        let shard = dest.parent().unwrap_or(self.root()).to_owned();
        self.make_dir(&shard)?;
        let ready = || -> io::Result<bool> {
            failpoint("move-hashed")?;
            file.set_permissions(permission::read_only(&before))?;
            file.sync_all()?;
            failpoint("move-synced")?;
            match fs::rename(path, &dest) {
                Ok(()) => Ok(true),
                Err(e) if e.kind() == io::ErrorKind::CrossesDevices => Ok(false),
                Err(e) => Err(e),
            }
        };
        if !ready().map_err(|e| StoreError::io("write", &dest, e))? {
            return self.insert_file(path);
        }
        failpoint("move-renamed").map_err(|e| StoreError::io("write", &dest, e))?;
        let after = file.metadata().map_err(read)?;
        let same = |m: &fs::Metadata| (m.len(), m.mtime(), m.mtime_nsec());
        if same(&before) != same(&after) {
            self.set_aside(&dest);
            let why =
                "it was written to while it was stored: a stage must be done with its outputs when it ends".to_owned();
            return Err(StoreError::Invalid { what: path.display().to_string(), why });
        }
        Ok((object, shard))
    }

    /// The shard of a blob that is here with its size. One of a wrong size is left to be replaced.
    pub(crate) fn reuse(&self, object: &Object) -> Option<PathBuf> {
        let path = self.blob_path(&object.digest);
        let meta = fs::symlink_metadata(&path).ok()?;
        if !meta.is_file() {
            return None;
        }
        if meta.len() != object.size {
            let what = format!("damaged: {} bytes instead of {}; it was written again", meta.len(), object.size);
            let aside = self.set_aside(&path);
            self.warn(&path, what, aside);
            return None;
        }
        // Young again, so that gc's grace protects it until its action is recorded. Best effort: it may be
        // another user's file.
        let _ = File::open(&path).and_then(|f| disk::touch(&f));
        path.parent().map(Path::to_owned)
    }

    /// Makes the bytes durable and read-only, then gives them their name. Returns the folder to sync.
    pub(crate) fn install(&self, temp: NamedTempFile, digest: &Digest) -> Result<PathBuf, StoreError> {
        let dest = self.blob_path(digest);
        let shard = dest.parent().unwrap_or(self.root()).to_owned();
        self.make_dir(&shard)?;
        let ready = || -> io::Result<()> {
            failpoint("blob-written")?;
            temp.as_file().set_permissions(permission::read_only(&temp.as_file().metadata()?))?;
            temp.as_file().sync_all()?;
            failpoint("blob-synced")
        };
        ready().map_err(|e| StoreError::io("write", temp.path(), e))?;
        // Over an existing blob, if another process was faster: the bytes are the same.
        temp.persist(&dest).map_err(|e| StoreError::io("write", &dest, e.error))?;
        failpoint("blob-renamed").map_err(|e| StoreError::io("write", &dest, e))?;
        Ok(shard)
    }
}

/// The digest and length of a plain file.
pub(crate) fn digest_of(path: &Path) -> Result<(Digest, u64), StoreError> {
    let file = open_plain(path)?;
    let length = file.metadata().map_err(|e| StoreError::io("read", path, e))?.len();
    Ok((Digest::of_file(path)?, length))
}

/// Opens a file that is a plain one. A link or a pipe put there since the walk is refused, and none blocks.
fn open_plain(path: &Path) -> Result<File, StoreError> {
    let meta = fs::symlink_metadata(path).map_err(|e| StoreError::io("read", path, e))?;
    refuse_special(path, meta.file_type())?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(|e| StoreError::io("read", path, e))?;
    let meta = file.metadata().map_err(|e| StoreError::io("read", path, e))?;
    refuse_special(path, meta.file_type())?;
    Ok(file)
}

fn refuse_special(path: &Path, kind: fs::FileType) -> Result<(), StoreError> {
    let what = match kind {
        k if k.is_file() => return Ok(()),
        k if k.is_symlink() => "symbolic link",
        k if k.is_dir() => "folder where a file was",
        k if k.is_fifo() => "named pipe",
        k if k.is_socket() => "socket",
        _ => "device",
    };
    Err(StoreError::Special { path: path.to_owned(), what })
}

/// The plain files below `dir`, each with its path relative to the root of the walk.
pub(crate) fn walk(dir: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> Result<(), StoreError> {
    for entry in fs::read_dir(dir).map_err(|e| StoreError::io("list", dir, e))? {
        let entry = entry.map_err(|e| StoreError::io("list", dir, e))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(|e| StoreError::io("read", &path, e))?;
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| StoreError::NotUtf8 { path: path.clone() })?;
        let name = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        if kind.is_dir() {
            walk(&path, &name, files)?;
        } else {
            refuse_special(&path, kind)?;
            files.push((name, path));
        }
    }
    Ok(())
}

/// Copies to the end and says the digest of what was copied.
pub(crate) fn copy(
    from: &mut (impl Read + ?Sized),
    mut to: &File,
    from_path: &Path,
    to_path: &Path,
) -> Result<Digest, StoreError> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(StoreError::io("read", from_path, e)),
        };
        hasher.update(&buffer[..n]);
        to.write_all(&buffer[..n]).map_err(|e| StoreError::io("write", to_path, e))?;
    }
    Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
}
