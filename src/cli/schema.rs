//! `opdflow schema`: JSON Schema of recipes, for editors.

use super::{Exit, Session};
use crate::recipe::schema;

pub(super) fn run(session: &Session) -> Exit {
    session.print(&format!("{:#}", schema::schema(&session.registry)));
    Exit::Done
}
