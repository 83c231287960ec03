//! `opdflow check`: every mistake in a recipe, and what looks like one, without running anything.

use super::{Exit, Failure, Session, args};

pub(super) fn run(session: &Session, args: &args::Check) -> Result<Exit, Failure> {
    let plan = session.plan_quietly(&args.recipe)?;
    let doubts = plan.doubts();
    let warnings = session.warned(&plan, &doubts, args.strict)?;
    let recipe = &plan.recipe;
    if session.json {
        session.print(&warnings.to_json().to_string());
    } else if !session.quiet {
        let count = recipe.stages.len();
        let stages = if count == 1 { "stage" } else { "stages" };
        let warned = if warnings.list.is_empty() { "no mistakes" } else { "no errors" };
        session.print(&format!("{}: {count} {stages}, {warned}", recipe.path.display()));
    }
    Ok(Exit::Done)
}
