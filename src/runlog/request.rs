//! Asking a run to stop by a file in its folder, for those who share the folder and not the machine.

use super::RunFolder;
use std::io;
use std::path::PathBuf;

/// Files for the first time, and for the second, which ends its stages at once.
fn files(folder: &RunFolder) -> [PathBuf; 2] {
    ["stop", "stop-now"].map(|name| folder.path().join(name))
}

/// Asks the run to stop at checkpoints; with `now` to end its stages at once.
///
/// # Errors
/// The folder cannot be written to.
pub fn ask_to_stop(folder: &RunFolder, now: bool) -> io::Result<()> {
    let [stop, at_once] = files(folder);
    std::fs::write(stop, "")?;
    if now { std::fs::write(at_once, "") } else { Ok(()) }
}

/// How often it was asked to: 0, 1, or 2 for at once.
#[must_use]
pub fn asked_to_stop(folder: &RunFolder) -> usize {
    let [stop, at_once] = files(folder).map(|file| file.exists());
    if at_once { 2 } else { usize::from(stop) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_request_is_more_than_the_first() {
        let home = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(home.path(), "r").unwrap();
        assert_eq!(asked_to_stop(&folder), 0);
        ask_to_stop(&folder, false).unwrap();
        ask_to_stop(&folder, false).unwrap();
        assert_eq!(asked_to_stop(&folder), 1);
        ask_to_stop(&folder, true).unwrap();
        assert_eq!(asked_to_stop(&folder), 2);
    }
}
