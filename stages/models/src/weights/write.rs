//! Writing a safetensors file with texts in its header. The crate's writer leaves their order to chance; here the same
//! tensors and texts give the same bytes.

use super::{Raw, dtype_of};
use anyhow::{Context as _, Result};
use safetensors::View as _;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use tch::{Kind, Tensor};

/// Writes named tensors, each as its kind, those of 32 bits and more first so that all lie aligned. Goes through a
/// temporary file beside it.
///
/// # Errors
/// A number that is too large for its kind; the disk is full.
pub fn save_tensors_with(
    path: &Path,
    tensors: &[(String, Tensor, Kind)],
    texts: &BTreeMap<String, String>,
) -> Result<()> {
    let mut raw =
        tensors.iter().map(|(n, t, k)| Ok((n.as_str(), *k, Raw::of(n, t, *k)?))).collect::<Result<Vec<_>>>()?;
    let size = |k: Kind| dtype_of(k).map_or(0, |d| d.bitsize());
    raw.sort_by(|(n, k, _), (m, l, _)| size(*l).cmp(&size(*k)).then_with(|| n.cmp(m)));
    let (mut header, mut at) = (serde_json::Map::new(), 0);
    header.insert("__metadata__".to_owned(), json!(texts));
    for (name, _, r) in &raw {
        let end = at + r.data_len();
        let value = json!({"dtype": serde_json::to_value(r.dtype())?, "shape": r.shape(), "data_offsets": [at, end]});
        header.insert((*name).to_owned(), value);
        at = end;
    }
    let mut text = serde_json::to_vec(&Value::Object(header))?;
    text.resize(text.len().next_multiple_of(8), b' ');
    let part = path.with_extension("safetensors.part");
    let write = || -> std::io::Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(&part)?);
        file.write_all(&(text.len() as u64).to_le_bytes())?;
        file.write_all(&text)?;
        for (_, _, r) in &raw {
            file.write_all(&r.data())?;
        }
        file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&part, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
