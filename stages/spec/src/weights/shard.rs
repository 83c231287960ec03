//! One safetensors file by its header.

use super::scan::{self, PIECE};
use super::{WeightsError, foreign};
use anyhow::{Context as _, Result};
use safetensors::tensor::{Dtype, Metadata};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// An open file whose header was read.
pub struct Shard {
    path: PathBuf,
    file: File,
    data_start: u64,
    header: Metadata,
}

/// The number formats that are read here.
pub const READ: [Dtype; 10] = [
    Dtype::F64,
    Dtype::F32,
    Dtype::F16,
    Dtype::BF16,
    Dtype::I64,
    Dtype::I32,
    Dtype::I16,
    Dtype::I8,
    Dtype::U8,
    Dtype::BOOL,
];

impl Shard {
    /// Reads the header and holds it against the file's length.
    ///
    /// # Errors
    /// The file cannot be read, is of another kind, or is not whole.
    pub fn open(path: PathBuf) -> Result<Shard> {
        let name = path.display().to_string();
        let bad = |reason: String| WeightsError::Header { file: name.clone(), reason };
        let mut file = opdflow_io::file::open(&path).with_context(|| format!("cannot open {name}"))?;
        let found = file.metadata()?.len();
        let mut head = Vec::new();
        file.by_ref().take(64).read_to_end(&mut head).with_context(|| format!("cannot read {name}"))?;
        if let Some(what) = foreign::kind(&head) {
            return Err(WeightsError::Foreign { file: name, what: what.to_owned() }.into());
        }
        file.rewind().with_context(|| format!("cannot read {name}"))?;
        let mut word = [0u8; 8];
        file.read_exact(&mut word).map_err(|_| bad(format!("only {found} bytes long")))?;
        let len = u64::from_le_bytes(word);
        if len > 100_000_000 {
            return Err(bad("it does not begin with the length of a header".to_owned()).into());
        }
        if len > found - 8 {
            return Err(WeightsError::Length { file: name, expected: len + 8, found }.into());
        }
        let mut json = vec![0u8; len as usize];
        file.read_exact(&mut json).with_context(|| format!("cannot read {name}"))?;
        let header: Metadata = serde_json::from_slice(&json).map_err(|e| bad(e.to_string()))?;
        // Reading the header has checked that the tensors lie without gaps and have the bytes of their shapes.
        let expected = (8 + len).saturating_add(header.data_len() as u64);
        if expected != found {
            return Err(WeightsError::Length { file: name, expected, found }.into());
        }
        Ok(Shard { path, file, data_start: 8 + len, header })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file, to read from.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// What the header says.
    #[must_use]
    pub fn header(&self) -> &Metadata {
        &self.header
    }

    /// Where the tensors begin, in bytes; the header counts from there.
    #[must_use]
    pub fn data_start(&self) -> u64 {
        self.data_start
    }

    /// Fails at the first tensor, by name, that `needed` accepts and whose number format is not read here.
    ///
    /// # Errors
    /// That tensor.
    pub fn check_dtypes(&self, needed: impl Fn(&str) -> bool) -> Result<()> {
        let tensors: BTreeMap<_, _> = self.header.tensors().into_iter().collect();
        match tensors.into_iter().find(|(n, info)| !READ.contains(&info.dtype) && needed(n)) {
            Some((tensor, info)) => {
                let file = self.path.display().to_string();
                Err(WeightsError::Dtype { file, tensor, found: format!("{:?}", info.dtype) }.into())
            }
            None => Ok(()),
        }
    }

    /// Looks at every number of the file, a piece at a time.
    ///
    /// # Errors
    /// The first tensor that holds something not finite; the file cannot be read.
    pub fn check_numbers(&self) -> Result<()> {
        let mut piece = Vec::new();
        for (name, info) in self.header.tensors() {
            let (start, end) = info.data_offsets;
            for from in (start..end).step_by(PIECE) {
                piece.resize(PIECE.min(end - from), 0);
                self.file
                    .read_exact_at(&mut piece, self.data_start + from as u64)
                    .with_context(|| format!("cannot read tensor `{name}` of {}", self.path.display()))?;
                if !scan::scan(info.dtype, &piece).is_finite(info.dtype) {
                    return Err(self.broken(&name));
                }
            }
        }
        Ok(())
    }

    /// The error of a tensor that holds something not finite: what, and where the first one stands.
    #[must_use]
    pub fn broken(&self, name: &str) -> anyhow::Error {
        let file = self.path.display().to_string();
        let (mut found, mut place) = (f64::NAN, Vec::new());
        if let Some(info) = self.header.info(name) {
            let (start, end) = info.data_offsets;
            let mut bytes = vec![0; end - start];
            let read = self.file.read_exact_at(&mut bytes, self.data_start + start as u64);
            if let Some((mut at, value)) = read.ok().and_then(|()| scan::broken(info.dtype, &bytes)) {
                found = value;
                for &side in info.shape.iter().rev() {
                    place.push((at % side.max(1)) as i64);
                    at /= side.max(1);
                }
                place.reverse();
            }
        }
        WeightsError::NotFinite { file, tensor: name.to_owned(), found, place }.into()
    }
}
