//! The files that OCR needs, and ONNX Runtime itself.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use sha2::{Digest, Sha256};

use crate::RewardError;

/// SHA-256 of the text finder, `ch_PP-OCRv4_det_infer.onnx` (4.7 MB).
pub const DET_SHA256: &str = "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9";
/// SHA-256 of the text reader, `ch_PP-OCRv4_rec_infer.onnx` (10.9 MB).
pub const REC_SHA256: &str = "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b";

/// Where the files of OCR are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assets {
    /// The shared library of ONNX Runtime, 1.22 or later.
    pub onnxruntime: PathBuf,
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
            det: folder.join("ppocr/det.onnx"),
            rec: folder.join("ppocr/rec.onnx"),
        }
    }
}

/// A failure of the runtime, whatever it carries along.
pub(super) fn failed<T>(error: ort::Error<T>) -> RewardError {
    RewardError::Runtime(error.to_string())
}

/// The process's one environment; made by the first call that succeeds.
pub(super) fn open(library: &Path) -> Result<Environment, RewardError> {
    static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);
    let mut held = ENVIRONMENT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(environment) = held.as_ref() {
        return Ok(environment.clone());
    }
    // A relative path would be looked up beside the program first.
    let library = library.canonicalize().map_err(|source| RewardError::Asset { path: library.to_owned(), source })?;
    let environment = ort::init_from(&library)
        .map_err(|e| RewardError::Runtime(e.to_string()))?
        .with_telemetry(false)
        .build()
        .map_err(failed)?;
    Ok(held.insert(environment).clone())
}

/// Sessions over one model, each on one thread: as many as work at a time, made as they are needed and kept.
pub(super) struct Sessions {
    environment: Environment,
    model: Vec<u8>,
    idle: Mutex<Vec<Session>>,
}

impl Sessions {
    /// Sessions over a model of known contents, the first of them at once.
    pub fn open(environment: &Environment, path: &Path, wanted: &'static str) -> Result<Sessions, RewardError> {
        let model = std::fs::read(path).map_err(|source| RewardError::Asset { path: path.to_owned(), source })?;
        let found: String = Sha256::digest(&model).iter().map(|b| format!("{b:02x}")).collect();
        if found != wanted {
            return Err(RewardError::Digest { path: path.to_owned(), wanted, found });
        }
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
