//! `opdflow status`.

use super::{Exit, Failure, Session, args};

pub(super) fn run(_session: &Session, _args: &args::Status) -> Result<Exit, Failure> {
    Err(Failure::Bug("not written yet".into()))
}
