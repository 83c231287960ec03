//! `opdflow plan`.

use super::{Exit, Failure, Session, args};

pub(super) fn run(_session: &Session, _args: &args::Plan) -> Result<Exit, Failure> {
    Err(Failure::Bug("not written yet".into()))
}
