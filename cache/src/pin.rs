//! Names that keep actions from being swept.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use crate::files::disk::{self, list};
use crate::{Digest, Store, StoreError};

impl Store {
    /// Keeps the action `key`, and all it made, from [`Store::gc`], under a name of letters, digits, `.`, `_`, `-`.
    /// An older pin of that name is replaced.
    pub fn pin(&self, name: &str, key: &Digest) -> Result<(), StoreError> {
        let path = self.pin_path(name)?;
        disk::replace(&self.tmp(), &path, format!("{key}\n").as_bytes(), "pin")
    }

    /// Removes a pin; false if there was none of that name.
    pub fn unpin(&self, name: &str) -> Result<bool, StoreError> {
        let path = self.pin_path(name)?;
        match fs::remove_file(&path) {
            Ok(()) => disk::sync_dir(&self.folder("pins")).map(|()| true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(StoreError::io("remove", &path, e)),
        }
    }

    /// All pins by name. An unreadable one is an error: a sweep that overlooks a pin would be a loss.
    pub fn pins(&self) -> Result<BTreeMap<String, Digest>, StoreError> {
        let mut pins = BTreeMap::new();
        for path in list(&self.folder("pins"))? {
            let unreadable = |why: String| StoreError::Invalid {
                what: format!("or read the pin {}", path.display()),
                why: format!("{why}: remove it, and pin again"),
            };
            let text = fs::read_to_string(&path).map_err(|e| unreadable(e.to_string()))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let key = text.trim().parse().map_err(|_| unreadable("it holds no digest".to_owned()))?;
            pins.insert(name, key);
        }
        Ok(pins)
    }

    fn pin_path(&self, name: &str) -> Result<PathBuf, StoreError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.chars().all(plain) {
            return Err(StoreError::Invalid {
                what: format!("a pin named `{name}`"),
                why: "a name has 1 to 200 letters, digits, `.`, `_` or `-`, and no `.` in front".to_owned(),
            });
        }
        Ok(self.folder("pins").join(name))
    }
}
