//! `opdflow check`: every mistake in a recipe, and what looks like one, without running anything.

use crate::cli::{Exit, Failure, Session, args};
use opdflow_io::terminal;
use serde_json::{Map, json};

pub(crate) fn run(session: &Session, args: &args::Check) -> Result<Exit, Failure> {
    if let Some(cluster) = &args.on {
        crate::cli::on::profile(session, &args.recipe, cluster)?;
    }
    let plan = session.plan_quietly(&args.recipe)?;
    let doubts = plan.doubts();
    let warnings = session.warned(&plan, &doubts, Vec::new(), args.strict)?;
    let recipe = &plan.recipe;
    // A plan was made of these parameters, so that they can be read.
    let said = |s: &crate::recipe::StageSpec| s.kind.remarks(&s.params, &s.folder).unwrap_or_default();
    let remarks: Vec<(&str, Vec<String>)> = recipe.stages.iter().map(|s| (s.name.as_str(), said(s))).collect();
    if session.json {
        let mut found = warnings.to_json();
        let some: Map<_, _> =
            remarks.into_iter().filter(|(_, all)| !all.is_empty()).map(|(s, all)| (s.to_owned(), json!(all))).collect();
        if !some.is_empty() {
            found["remarks"] = some.into();
        }
        session.print(&found.to_string());
    } else if !session.quiet {
        for (stage, remark) in remarks.iter().flat_map(|(stage, all)| all.iter().map(move |r| (stage, r))) {
            session.print(&format!("{stage}: {}", terminal::line(&terminal::cut(remark, 1000))));
        }
        let count = recipe.stages.len();
        let stages = if count == 1 { "stage" } else { "stages" };
        let warned = if warnings.list.is_empty() { "no mistakes" } else { "no errors" };
        session.print(&format!("{}: {count} {stages}, {warned}", recipe.path.display()));
    }
    Ok(Exit::Done)
}
