//! `opdflow schema`: JSON Schema of recipes, for editors.

use crate::cli::{Exit, Session};
use crate::recipe::schema;

pub(crate) fn run(session: &Session) -> Exit {
    session.print(&format!("{:#}", schema::schema(&session.registry)));
    Exit::Done
}
