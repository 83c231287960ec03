//! `opdflow verify`: whether the store is whole.

use crate::cli::{Exit, Failure, Session, args};
use crate::render::bytes;

pub(crate) fn run(session: &Session, args: &args::Verify) -> Result<Exit, Failure> {
    let store = session.open()?;
    // Nobody sweeps meanwhile: what a sweep takes would look missing.
    let _in_use = store.shared()?;
    let report = store.verify(args.deep)?;
    if session.json {
        session.print(&serde_json::json!(report).to_string());
    } else {
        for damage in &report.damage {
            let aside = damage
                .aside
                .as_ref()
                .map_or_else(|| "left where it is".to_owned(), |p| format!("moved to {}", p.display()));
            session.print(&format!("damaged: {}: {}; {aside}", damage.path.display(), damage.what));
        }
        let read = if args.deep {
            format!(", {} read", bytes(report.bytes))
        } else {
            " (sizes only; `--deep` reads every byte)".to_owned()
        };
        let looked =
            format!("{} results, {} checkpoints, {} blobs{read}", report.actions, report.checkpoints, report.blobs);
        let found = match report.damage.len() {
            0 => "the store is whole".to_owned(),
            n => format!("{n} damaged; the next run computes again what it needs of them"),
        };
        session.print(&format!("{looked}: {found}"));
    }
    Ok(if report.damage.is_empty() { Exit::Done } else { Exit::Damaged })
}
