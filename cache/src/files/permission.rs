//! Who may read what is written.
//!
//! A new store's folder is its owner's alone. Inside it, and outside, a file is never readable by more people than
//! the one its bytes came from, nor by more than the user's mask lets see.

use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Bits that say that group and others may read.
const OTHERS: u32 = 0o044;

/// The bits by which group and others may read a file.
pub(crate) fn readers(meta: &fs::Metadata) -> u32 {
    meta.permissions().mode() & OTHERS
}

/// As [`readers`], for bytes that no file was read for: the user's mask alone decides.
pub(crate) const ANYONE: u32 = OTHERS;

/// The mode to create a file with that is read by these, and written by its owner. The mask is taken off by the
/// system.
pub(crate) fn while_written(readers: u32) -> u32 {
    0o600 | readers & OTHERS
}

/// The mode of a whole blob: as it was created, and not to be written to.
pub(crate) fn read_only(meta: &fs::Metadata) -> fs::Permissions {
    fs::Permissions::from_mode(0o400 | meta.permissions().mode() & 0o444)
}

/// The mode to create a copy with that is given out: those who may read it may write it, as far as the mask allows.
pub(crate) fn given_out(readers: u32) -> u32 {
    0o600 | readers & OTHERS | (readers & OTHERS) >> 1
}
