//! The digest of a file.

use std::io::Read as _;
use std::path::Path;

use crate::{Digest, StoreError};

/// What [`Digest::of_file`] reads at once of a big file, to hash it on all cores.
pub(crate) const PIECE: usize = 8 << 20;

impl Digest {
    /// The digest of a file's bytes. A big file is hashed on all cores, piece by piece: read and not mapped, so that
    /// one that is cut short meanwhile gives another digest and no signal. What is no regular file is refused.
    pub fn of_file(path: &Path) -> Result<Digest, StoreError> {
        let fail = |e| StoreError::io("hash", path, e);
        let mut file = opdflow_io::file::open(path).map_err(fail)?;
        if file.metadata().map_err(fail)?.len() < PIECE as u64 {
            return Digest::of_reader(&mut file).map(|(digest, _)| digest).map_err(fail);
        }
        let (mut hasher, mut buffer) = (blake3::Hasher::new(), vec![0; PIECE]);
        loop {
            let mut full = 0;
            while full < PIECE {
                match file.read(&mut buffer[full..]) {
                    Ok(0) => break,
                    Ok(n) => full += n,
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(fail(e)),
                }
            }
            hasher.update_rayon(&buffer[..full]);
            if full < PIECE {
                return Ok(Digest::from_bytes(*hasher.finalize().as_bytes()));
            }
        }
    }
}
