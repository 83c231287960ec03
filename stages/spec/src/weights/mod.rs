//! Files of weights by their headers: which files there are, what is in them, and whether their numbers are numbers.

mod foreign;
mod layout;
pub mod scan;
mod sets;
mod shard;

pub use foreign::pickled;
pub use layout::{Cut, Layout, LayoutOf, Place};
pub use sets::{index_of, shard_paths};
pub use shard::{READ, Shard};

use anyhow::Result;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// What can be wrong with a file of weights.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The header is not that of a safetensors file.
    #[error("{file}: not a readable safetensors file: {reason}")]
    Header {
        /// The file.
        file: String,
        /// What the header lacks.
        reason: String,
    },
    /// A file of another kind.
    #[error("{file}: {what}")]
    Foreign {
        /// The file.
        file: String,
        /// What it is, and the way out.
        what: String,
    },
    /// The file is shorter or longer than its header says.
    #[error("{file}: expected {expected} bytes by its header, found {found}: the file is cut off or damaged")]
    Length {
        /// The file.
        file: String,
        /// Bytes by the header.
        expected: u64,
        /// Bytes on disk.
        found: u64,
    },
    /// The model needs a tensor that is not there.
    #[error("{file}: tensor `{tensor}` is missing (expected with shape {expected:?}){hint}")]
    Missing {
        /// The file or folder.
        file: String,
        /// The tensor's full name.
        tensor: String,
        /// The shape by the configuration.
        expected: Vec<i64>,
        /// The nearest thing that is there, if any.
        hint: String,
    },
    /// The tensor has another shape than the configuration says.
    #[error("{file}: tensor `{tensor}` has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The file.
        file: String,
        /// The tensor's full name.
        tensor: String,
        /// The shape in the file.
        found: Vec<i64>,
        /// The shape by the configuration.
        expected: Vec<i64>,
    },
    /// A number format that is not read here.
    #[error("{file}: tensor `{tensor}` has dtype {found}, supported: F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL{}", if found.starts_with("F8") || found.starts_with("F4") || found.starts_with("F6") { "; weights of 8 bits and less are not read: take the file of the same model in f16 or bf16" } else { "" })]
    Dtype {
        /// The file.
        file: String,
        /// The tensor's full name.
        tensor: String,
        /// The dtype in the file.
        found: String,
    },
    /// A number that is infinite or NaN.
    #[error("{file}: tensor `{tensor}` holds {found} at {place:?}: weights that are not finite are not read")]
    NotFinite {
        /// The file.
        file: String,
        /// The tensor's full name.
        tensor: String,
        /// `NaN`, `inf` or `-inf`.
        found: f64,
        /// Where in the tensor the first one stands.
        place: Vec<i64>,
    },
    /// A number that would become infinite in the kind that is asked for.
    #[error("{file}: tensor `{tensor}` holds a number of size {largest:e}, for which {kind} has no room")]
    NoRoom {
        /// The file.
        file: String,
        /// The tensor's full name.
        tensor: String,
        /// The largest size in it.
        largest: f64,
        /// The kind that was asked for, as libtorch calls it: `Half`.
        kind: String,
    },
    /// Tensors that no module asked for.
    #[error("{file}: {} tensors belong to no module of this model, the first: {}", names.len(), names.iter().take(5).cloned().collect::<Vec<_>>().join(", "))]
    Unexpected {
        /// The file or folder.
        file: String,
        /// Their names, sorted.
        names: Vec<String>,
    },
}

/// Reads all numbers of one safetensors file, and fails at the first that is not finite. It takes no memory to speak of,
/// and tells of tensors that no model asks for, too.
///
/// # Errors
/// [`WeightsError::NotFinite`]; the file cannot be read.
pub fn check_numbers(path: impl AsRef<Path>) -> Result<()> {
    Shard::open(path.as_ref().to_path_buf())?.check_numbers()
}

/// The names of a safetensors file's tensors, sorted, and its text metadata.
///
/// # Errors
/// It is no whole safetensors file, or holds a number format that is not read here.
pub fn header(path: impl AsRef<Path>) -> Result<(Vec<String>, HashMap<String, String>)> {
    let shard = Shard::open(path.as_ref().to_path_buf())?;
    shard.check_dtypes(|_| true)?;
    let mut names: Vec<String> = shard.header().tensors().into_keys().collect();
    names.sort();
    Ok((names, shard.header().metadata().clone().unwrap_or_default()))
}

/// The shapes of a safetensors file's tensors, by name.
///
/// # Errors
/// It is no whole safetensors file.
pub fn shapes(path: impl AsRef<Path>) -> Result<BTreeMap<String, Vec<i64>>> {
    let shard = Shard::open(path.as_ref().to_path_buf())?;
    let sizes = |s: &[usize]| s.iter().map(|&d| d as i64).collect();
    Ok(shard.header().tensors().into_iter().map(|(n, info)| (n, sizes(&info.shape))).collect())
}

/// Whether a safetensors file is whole by its header, and holds number formats that are read here in the tensors that
/// `needed` accepts. No tensor is read.
///
/// # Errors
/// What the file is instead; what is cut off; the first tensor in another number format.
pub fn check(path: impl AsRef<Path>, needed: impl Fn(&str) -> bool) -> Result<()> {
    Shard::open(path.as_ref().to_path_buf())?.check_dtypes(needed)
}
