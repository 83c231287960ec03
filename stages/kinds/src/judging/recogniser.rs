//! The files that `ocr` reads with, which are fetched and pinned, or of the user's own choice.

use opdflow_api::Asset;
use opdflow_api::cache::{Digest, StoreError};
use opdflow_rewards::ocr::{self, Assets};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Names a `libonnxruntime.so` to be used in place of the fetched one.
const OWN: &str = "OPDFLOW_ONNXRUNTIME";

/// BLAKE3 of the same files whose SHA-256 the rewards know: several times quicker where every plan asks.
const ONNXRUNTIME: &str = "b9ca235169118134f48a14c831d0cb389470e1d98b78942aea77c99d90cf8d98";
const DET: &str = "2b44a5100814b982d5f33c920d573dba91150069cf1525bc60f2e4b3f220ba3f";

const REC: &str = "6e47235f66df743e113807a035a1d3e5118d03d344226f5f15e4af3cda512424";

/// Where the recogniser's files lie: `$OPDFLOW_DEPS`; `.deps` beside the build folder of this program; or `lib/opdflow` beside the
/// folder that it was unpacked or installed into.
#[must_use]
pub fn deps() -> PathBuf {
    if let Some(folder) = std::env::var_os("OPDFLOW_DEPS") {
        return folder.into();
    }
    let exe = std::env::current_exe().unwrap_or_default();
    let installed = exe.ancestors().nth(2).map(|prefix| prefix.join("lib/opdflow"));
    let beside = exe.ancestors().skip(1).map(|a| a.join(".deps")).chain(installed).find(|d| d.is_dir());
    beside.unwrap_or_else(|| PathBuf::from(".deps"))
}

/// Where the files are on this machine.
#[must_use]
pub fn assets() -> Assets {
    let fetched = Assets::in_folder(&deps());
    match own() {
        Some(onnxruntime) => Assets { onnxruntime, onnxruntime_sha256: None, ..fetched },
        None => fetched,
    }
}

fn own() -> Option<PathBuf> {
    std::env::var_os(OWN).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// One of the two fetched models as a part of a reward model: the name of its file, where it lies, and the digest of its content,
/// which is known without it.
#[must_use]
pub fn fetched(part: &str) -> Option<(&'static str, PathBuf, Digest)> {
    let fetched = Assets::in_folder(&deps());
    let (name, path, digest) = match part {
        "det" => ("det.onnx", fetched.det, DET),
        "rec" => ("rec.onnx", fetched.rec, REC),
        _ => return None,
    };
    Some((name, path, digest.parse().ok()?))
}

/// The user's own ONNX Runtime by its content, which then belongs into keys.
#[must_use]
fn own_runtime() -> Option<Asset> {
    let digest = digest_of(&own()?).ok()?;
    Some(Asset { name: "onnxruntime".to_owned(), digest })
}

/// The files by their pinned content: part of the keys of whatever reads with them.
#[must_use]
pub fn pinned() -> Vec<Asset> {
    let pin = |name: &str, sha256: &str| Asset { name: name.to_owned(), digest: Digest::of(sha256.as_bytes()) };
    let mut assets = vec![pin("ppocr.det", ocr::DET_SHA256), pin("ppocr.rec", ocr::REC_SHA256)];
    // The runtime that is fetched is as good as part of the program. Another one may give other scores.
    assets.extend(own_runtime());
    assets
}

/// What is wrong with the files, and the way out: one is not there, or is another than the scores are known for.
#[must_use]
pub fn fault(assets: &Assets) -> Option<(String, String)> {
    let setup = "run scripts/setup.sh, or set OPDFLOW_DEPS to the folder that it filled";
    let runtime = assets.onnxruntime_sha256.map(|_| ONNXRUNTIME);
    for (path, wanted) in [(&assets.onnxruntime, runtime), (&assets.det, Some(DET)), (&assets.rec, Some(REC))] {
        let shown = path.display();
        if !path.exists() {
            let help = if runtime.is_none() && path == &assets.onnxruntime {
                format!("{OWN} names it: correct it, or unset it to use the fetched one")
            } else {
                setup.to_owned()
            };
            return Some((format!("`ocr` reads with {shown}, which is not there"), help));
        }
        match digest_of(path) {
            Err(e) => return Some((format!("`ocr` reads with {shown}, which cannot be read: {e}"), setup.to_owned())),
            Ok(found) if wanted.is_none_or(|wanted| found.to_string() == wanted) => {}
            Ok(_) => {
                let help = format!(
                    "delete it and run scripts/setup.sh; a build of ONNX Runtime of your own is named by {OWN}"
                );
                return Some((format!("`ocr` reads with {shown}, which is not the file that is pinned"), help));
            }
        }
    }
    None
}

/// The digest of a file, read once by this process unless it changes.
fn digest_of(path: &Path) -> Result<Digest, StoreError> {
    type Stamp = (u64, u64, u64, i64, i64);
    static KNOWN: Mutex<BTreeMap<(PathBuf, Stamp), Digest>> = Mutex::new(BTreeMap::new());
    let stamp = path.metadata().map(|m| (m.dev(), m.ino(), m.size(), m.ctime(), m.ctime_nsec())).ok();
    let Some(stamp) = stamp else { return Digest::of_file(path) };
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(digest) = known.get(&(path.to_owned(), stamp)) {
        return Ok(*digest);
    }
    let digest = Digest::of_file(path)?;
    known.insert((path.to_owned(), stamp), digest);
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The two pins of a file are of the same bytes. Without the files there is nothing to hold them against.
    #[test]
    fn the_fetched_files_are_those_that_are_pinned() {
        let fetched = Assets::in_folder(&deps());
        assert_eq!(fault(&fetched), None);
        assert_eq!(fetched.onnxruntime_sha256, Some(opdflow_rewards::ocr::ONNXRUNTIME_SHA256));
    }

    #[test]
    fn a_changed_file_is_named_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let fetched = Assets::in_folder(&deps());
        let library = folder.path().join("libonnxruntime.so");
        let missing = Assets { onnxruntime: library.clone(), ..fetched.clone() };
        assert!(fault(&missing).unwrap().0.contains("is not there"));
        std::fs::write(&library, b"something else").unwrap();
        let (message, help) = fault(&missing).unwrap();
        assert!(message.contains("not the file that is pinned") && help.contains(OWN), "{message}; {help}");
        // The user's own is taken as it is.
        assert_eq!(fault(&Assets { onnxruntime_sha256: None, ..missing }), None);
        let det = folder.path().join("det.onnx");
        std::fs::write(&det, b"x").unwrap();
        assert!(fault(&Assets { det, ..fetched }).unwrap().0.contains("det.onnx"));
    }
}
