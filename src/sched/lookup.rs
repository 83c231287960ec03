//! Whether the store has what a stage would make.

use opdflow_api::cache::{ActionRecord, Digest, Store, StoreError};

/// What of a result is read before it counts as a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// Sizes only. Whoever reads the bytes later verifies them.
    Sizes,
    /// Every byte, if there are not too many: nobody downstream would notice damage before the user does.
    Bytes,
}

/// Results up to this size are read whole under [`Care::Bytes`].
const SMALL: u64 = 32 << 20;

/// What the store knows of a key.
#[derive(Clone, Debug)]
pub enum LookUp {
    /// The whole result.
    Hit(ActionRecord),
    /// A record, but not all that it promises.
    Damaged(String),
    /// Nothing.
    Nothing,
}

/// Looks `key` up in the store.
///
/// # Errors
/// The store cannot be read.
pub fn look_up(store: &Store, key: &Digest, care: Care) -> Result<LookUp, StoreError> {
    let Some(record) = store.action(key)? else { return Ok(LookUp::Nothing) };
    if let Some(damage) = damage(store, &record, care) {
        return Ok(LookUp::Damaged(damage));
    }
    Ok(LookUp::Hit(record))
}

/// What is wrong with a result, if anything is.
#[must_use]
pub fn damage(store: &Store, record: &ActionRecord, care: Care) -> Option<String> {
    for (port, output) in &record.outputs {
        if !store.present(&output.object) {
            return Some(format!("output `{port}` is missing or cut short in the store"));
        }
    }
    if care == Care::Bytes && record.size() <= SMALL {
        for (port, output) in &record.outputs {
            if let Err(error) = store.check(&output.object) {
                return Some(format!("output `{port}`: {error}"));
            }
        }
    }
    None
}
