//! The files that OCR needs, and ONNX Runtime itself.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use sha2::{Digest, Sha256};

use crate::RewardError;

/// SHA-256 of the ONNX Runtime that `scripts/setup.sh` fetches, `libonnxruntime.so` 1.32.0 (28 MB).
pub const ONNXRUNTIME_SHA256: &str = "6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f";
/// SHA-256 of the text finder, `ch_PP-OCRv4_det_infer.onnx` (4.7 MB).
pub const DET_SHA256: &str = "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9";
/// SHA-256 of the text reader, `ch_PP-OCRv4_rec_infer.onnx` (10.9 MB).
pub const REC_SHA256: &str = "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b";

/// The most bytes of a model of the user's.
const LARGEST: u64 = 1 << 30;

/// Where the files of OCR are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assets {
    /// The shared library of ONNX Runtime, 1.22 or later.
    pub onnxruntime: PathBuf,
    /// The SHA-256 that the library must have; nothing for a build of the user's own.
    pub onnxruntime_sha256: Option<&'static str>,
    /// The text finder, known by [`DET_SHA256`].
    pub det: PathBuf,
    /// The text reader, known by [`REC_SHA256`].
    pub rec: PathBuf,
}

impl Assets {
    /// The layout that `scripts/setup.sh` makes in its folder.
    pub fn in_folder(folder: &Path) -> Assets {
        Assets {
            onnxruntime: folder.join("onnxruntime/libonnxruntime.so"),
            onnxruntime_sha256: Some(ONNXRUNTIME_SHA256),
            det: folder.join("ppocr/det.onnx"),
            rec: folder.join("ppocr/rec.onnx"),
        }
    }
}

/// A failure of the runtime, whatever it carries along.
pub(super) fn failed<T>(error: ort::Error<T>) -> RewardError {
    RewardError::Runtime(error.to_string())
}

/// Fails where a network's output is not finite: such a number is larger than no threshold, and would pass for nothing found.
pub(super) fn finite(output: &[f32], network: &str) -> Result<(), RewardError> {
    match output.iter().find(|value| !value.is_finite()) {
        None => Ok(()),
        Some(found) => Err(RewardError::Model(format!("the text {network}'s output is not finite: {found}"))),
    }
}

/// The process's one environment; made by the first call that succeeds. The library is held against `wanted` before any
/// of it runs in this process.
pub(super) fn open(library: &Path, wanted: Option<&'static str>) -> Result<Environment, RewardError> {
    static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);
    let mut held = ENVIRONMENT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(environment) = held.as_ref() {
        return Ok(environment.clone());
    }
    // A relative path would be looked up beside the program first.
    let library = library.canonicalize().map_err(|source| RewardError::Asset { path: library.to_owned(), source })?;
    if let Some(wanted) = wanted {
        read_known(&library, wanted)?;
    }
    let environment = ort::init_from(&library)
        .map_err(|e| RewardError::Runtime(e.to_string()))?
        .with_telemetry(false)
        .build()
        .map_err(failed)?;
    Ok(held.insert(environment).clone())
}

/// The bytes of a file whose SHA-256 is `wanted`.
fn read_known(path: &Path, wanted: &'static str) -> Result<Vec<u8>, RewardError> {
    let bytes = opdflow_io::file::read(path, opdflow_io::file::DESCRIPTION)
        .map_err(|source| RewardError::Asset { path: path.to_owned(), source })?;
    let found: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    if found == wanted { Ok(bytes) } else { Err(RewardError::Digest { path: path.to_owned(), wanted, found }) }
}

/// Sessions over one model, each on one thread: as many as work at a time, made as they are needed and kept.
pub(super) struct Sessions {
    environment: Environment,
    model: Vec<u8>,
    idle: Mutex<Vec<Session>>,
}

impl Sessions {
    /// Sessions over a model, the first of them at once; of known contents where `wanted` says which.
    pub fn open(environment: &Environment, path: &Path, wanted: Option<&'static str>) -> Result<Sessions, RewardError> {
        let model = match wanted {
            Some(wanted) => read_known(path, wanted)?,
            None => opdflow_io::file::read(path, LARGEST)
                .map_err(|source| RewardError::Asset { path: path.to_owned(), source })?,
        };
        let sessions = Sessions { environment: environment.clone(), model, idle: Mutex::default() };
        let first = sessions.one_more()?;
        sessions.idle().push(first);
        Ok(sessions)
    }

    /// Does something with a session that nobody else uses meanwhile: a run needs a session of its own.
    pub fn with<T>(&self, work: impl FnOnce(&mut Session) -> Result<T, RewardError>) -> Result<T, RewardError> {
        let idle = self.idle().pop();
        let mut session = idle.map_or_else(|| self.one_more(), Ok)?;
        let result = work(&mut session);
        self.idle().push(session);
        result
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn one_more(&self) -> Result<Session, RewardError> {
        Session::builder(&self.environment)
            .map_err(failed)?
            .with_optimization_level(GraphOptimizationLevel::Level3)
            .map_err(failed)?
            .with_intra_threads(1)
            .map_err(failed)?
            .with_inter_threads(1)
            .map_err(failed)?
            .commit_from_memory(&self.model)
            .map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_no_blank_page() {
        assert!(finite(&[0.0, 1.0], "finder").is_ok());
        for broken in [f32::NAN, f32::INFINITY] {
            let error = finite(&[0.1, broken], "reader").unwrap_err().to_string();
            assert!(error.contains("text reader's output is not finite"), "{error}");
        }
    }
}
