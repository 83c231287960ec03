//! Files outside the store: whether what was read is what the key stands for.

use anyhow::Result;
use opdflow_api::cache::{Digest, Memo};
use opdflow_api::{Fault, StageContext};
use std::path::Path;

/// Whether `found`, the digest of what was read from `path`, is that of the asset in the stage's key.
///
/// # Errors
/// It is not: the file changed since the plan was made, or the memo of digests was wrong. The memo forgets it, so that
/// the next run begins with what is there.
pub fn expect(context: &StageContext, asset: &str, found: Digest, path: &Path) -> Result<()> {
    let planned = || context.job().manifest.get("assets")?.get(asset)?.as_str()?.parse::<Digest>().ok();
    if planned().is_none_or(|planned| planned == found) {
        return Ok(());
    }
    let memo = Memo::of(&context.job().store);
    memo.forget(path);
    memo.save();
    Err(Fault::user(format!("{} changed while the recipe ran", path.display())).help("run it again").into())
}
