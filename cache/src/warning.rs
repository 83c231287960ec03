//! Things that the store survived and that somebody should hear of.

use std::fmt;
use std::path::PathBuf;

/// The store met something wrong and went on without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The file or folder concerned, where it was found.
    pub path: PathBuf,
    /// What was wrong, and what was done about it.
    pub what: String,
    /// Where the thing lies now, if it was moved aside.
    pub aside: Option<PathBuf>,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)?;
        match &self.aside {
            Some(aside) => write!(f, " (moved to {})", aside.display()),
            None => Ok(()),
        }
    }
}
