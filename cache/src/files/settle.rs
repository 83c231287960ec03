//! Making a store of a folder: its version and its folders, or a refusal.

use std::fs;
use std::io;
use std::path::Path;

use crate::files::disk::{self, list};
use crate::files::failpoint::failpoint;
use crate::{Digest, STORE_FORMAT, Store, StoreError};

const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
# This folder is a cache made by opdflow. Backup programs may skip it.\n\
# For information about cache directory tags, see https://bford.info/cachedir/\n";

const FOLDERS: [&str; 9] = ["blobs", "actions", "leases", "checkpoints", "pins", "users", "work", "tmp", "damaged"];

impl Store {
    /// Checks or writes the version and creates the folders.
    pub(crate) fn settle(&self) -> Result<(), StoreError> {
        let root = self.root();
        let (version, tag) = (root.join("version"), root.join("CACHEDIR.TAG"));
        let settled = match fs::read_to_string(&version) {
            Ok(text) => match text.trim().parse::<u32>() {
                Ok(found) if found > STORE_FORMAT => {
                    return Err(StoreError::Newer { path: root.to_owned(), found, known: STORE_FORMAT });
                }
                Ok(_) => true,
                Err(_) => {
                    return Err(StoreError::NotAStore { path: root.to_owned(), found: "version".to_owned() });
                }
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.refuse_strangers()?;
                false
            }
            Err(e) => return Err(StoreError::io("read", &version, e)),
        };
        if settled && tag.exists() && FOLDERS.iter().all(|folder| root.join(folder).is_dir()) {
            return Ok(());
        }
        // What is written here goes through `tmp/`, which a sweep empties.
        let _in_use = self.lock_here()?;
        if !version.exists() {
            // The version goes first: a folder with one is ours, however far the first start came.
            disk::make_dir(&self.tmp())?;
            failpoint("open-before-version").map_err(|e| StoreError::io("write", &version, e))?;
            disk::replace(&self.tmp(), &version, format!("{STORE_FORMAT}\n").as_bytes(), "version")?;
        }
        for folder in FOLDERS {
            self.make_dir(&root.join(folder))?;
        }
        if !tag.exists() {
            disk::create(&self.tmp(), &tag, TAG.as_bytes(), "tag")?;
        }
        Ok(())
    }

    /// A folder without a version must be empty, but for what an interrupted first start may leave, or a store that was
    /// deleted in part or while something still wrote to it.
    fn refuse_strangers(&self) -> Result<(), StoreError> {
        let root = self.root();
        for path in list(root)? {
            // Unless another process has just settled it.
            if !ours(&path) && !root.join("version").exists() {
                let found = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                return Err(StoreError::NotAStore { path: root.to_owned(), found });
            }
        }
        Ok(())
    }
}

/// Whether something in a folder without a version can be a part of a store: by its name, and by what it holds.
fn ours(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|n| n.to_str()) else { return false };
    let all = |good: fn(&str) -> bool| {
        path.is_dir()
            && list(path)
                .is_ok_and(|inside| inside.iter().all(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(good)))
    };
    match name {
        // `lost+found` is in every fresh file system. `version` may have come meanwhile from another process.
        "tmp" | "version" | "lost+found" => true,
        "lock" => path.metadata().is_ok_and(|m| m.is_file() && m.len() == 0),
        "CACHEDIR.TAG" => fs::read(path).is_ok_and(|text| text == TAG.as_bytes()),
        "outside.json" => fs::read(path).is_ok_and(|text| crate::files::sealed::unseal(&text).is_ok()),
        "blobs" | "actions" => all(|n| n.len() == 2 && n.bytes().all(|b| b.is_ascii_hexdigit())),
        "checkpoints" | "work" => all(|n| n.parse::<Digest>().is_ok()),
        "leases" | "placed" => all(|n| {
            let stem = n.strip_suffix(".json").or_else(|| n.strip_suffix(".claims")).unwrap_or(n);
            stem.parse::<Digest>().is_ok()
        }),
        "users" => all(|n| {
            let n = n.strip_prefix("sweeps-").unwrap_or(n);
            let stem = n.strip_suffix(".json").or_else(|| n.strip_prefix('.'));
            stem.is_some_and(|s| s.len() == 16 && s.bytes().all(|b| b.is_ascii_hexdigit()))
        }),
        "pins" => list(path).is_ok_and(|pins| {
            pins.iter().all(|p| fs::read_to_string(p).is_ok_and(|t| t.trim().parse::<Digest>().is_ok()))
        }),
        "damaged" => path.is_dir(),
        _ => false,
    }
}
