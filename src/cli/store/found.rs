//! An output that the command line names, in the store.

use crate::cli::{Failure, Session};
use crate::plan::history::{before_code, kind_of};
use crate::plan::{Plan, Verdict, verdicts};
use crate::recipe::near;
use opdflow_api::cache::{ActionRecord, Digest, Output, Store};
use std::path::Path;

/// The key and the port of `stage.port`, if its result is in the store.
pub(crate) fn locate(session: &Session, recipe: &Path, text: &str, store: &Store) -> Result<(Digest, String), Failure> {
    found(session, recipe, text, store).map(|(key, port, _)| (key, port))
}

/// The output that a recipe and `stage.port` name, or a key and a port, with its key.
pub(super) fn found(
    session: &Session,
    from: &Path,
    text: &str,
    store: &Store,
) -> Result<(Digest, String, Output), Failure> {
    if let Some(key) = from.to_str().filter(|key| is_key(key) && !from.exists()) {
        return of_key(key, text, store);
    }
    let plan = session.plan(from)?;
    let (stage, port) = parse(session, &plan, text)?;
    let (key, output) = find(&plan, store, stage, &port)?;
    Ok((key, port, output))
}

/// Whether a word may be the beginning of a key, as `explain` and `lineage` show them.
fn is_key(word: &str) -> bool {
    (8..=64).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The output `port` of the one result whose key begins so, whatever program made it.
fn of_key(key: &str, port: &str, store: &Store) -> Result<(Digest, String, Output), Failure> {
    let all: Vec<ActionRecord> = store.actions().filter(|r| r.key.to_string().starts_with(key)).collect();
    let [record] = all.as_slice() else {
        let help = "`opdflow explain RECIPE STAGE` shows the key of the nearest earlier result";
        return Err(Failure::Usage(format!("{} results have a key that begins with {key}\nhelp: {help}", all.len())));
    };
    let output = record.outputs.get(port).ok_or_else(|| {
        let ports: Vec<_> = record.outputs.keys().map(|p| format!("`{p}`")).collect();
        Failure::Usage(format!("the result {key} has no output `{port}`\nhelp: it has {}", ports.join(", ")))
    })?;
    Ok((record.key, port.to_owned(), output.clone()))
}

/// `stage.port`, as a stage of the plan and a port that it has.
pub(super) fn parse(session: &Session, plan: &Plan, text: &str) -> Result<(usize, String), Failure> {
    let Some((stage, port)) = text.rsplit_once('.') else {
        let stage = session.stage(plan, text)?;
        return Err(Failure::Usage(format!(
            "`{text}` names a stage and no output of it\nhelp: {}",
            ports(plan, stage)
        )));
    };
    let stage = session.stage(plan, stage)?;
    if plan.stages[stage].spec.kind.output(port).is_some() {
        return Ok((stage, port.to_owned()));
    }
    if let Some(now) = plan.stages[stage].spec.kind.former_output(port) {
        let name = &plan.stages[stage].spec.name;
        let (said, help) = (format!("the output `{port}` of `{name}` is called `{}` now", now.name), now.name);
        return Err(Failure::Usage(format!("{said}\nhelp: write `{name}.{help}`")));
    }
    let kind = plan.stages[stage].spec.kind.describe();
    let help = near(port, kind.outputs.iter().map(|o| o.name))
        .map_or_else(|| ports(plan, stage), |n| format!("did you mean `{n}`?"));
    Err(Failure::Usage(format!("`{}` has no output `{port}`\nhelp: {help}", plan.stages[stage].spec.name)))
}

fn ports(plan: &Plan, stage: usize) -> String {
    let spec = &plan.stages[stage].spec;
    let names = spec.kind.describe().outputs.iter().map(|o| format!("`{}.{}`", spec.name, o.name));
    format!("its outputs are {}", names.collect::<Vec<_>>().join(", "))
}

/// The output with its stage's key, if the stage and all that it stands on have their results.
pub(super) fn find(plan: &Plan, store: &Store, stage: usize, port: &str) -> Result<(Digest, Output), Failure> {
    let verdicts = verdicts(plan, store);
    let name = &plan.stages[stage].spec.name;
    if let Verdict::Hit { record } = &verdicts[stage].0 {
        return record.outputs.get(port).map(|output| (record.key, output.clone())).ok_or_else(|| {
            let there: Vec<_> = record.outputs.keys().map(|p| format!("`{name}.{p}`")).collect();
            Failure::Usage(format!("`{name}` left no output `{port}` when it ran\nhelp: it left {}", there.join(", ")))
        });
    }
    let missing = plan.needed(&[stage]).into_iter().find(|i| !matches!(verdicts[*i].0, Verdict::Hit { .. }));
    let missing = missing.map_or(name, |i| &plan.stages[i].spec.name);
    let why = if missing == name { String::new() } else { format!(", because `{missing}` has none") };
    let recipe = plan.recipe.path.display();
    let kind = plan.stages[stage].spec.kind.describe().kind;
    let of_then = |r: &ActionRecord| before_code(r) && kind_of(r) == Some(kind) && r.note.get("stage") == Some(name);
    let earlier = store.actions().filter(of_then).max_by(|a, b| a.finished.cmp(&b.finished));
    let earlier = earlier.map_or_else(String::new, |r| {
        let key = r.key.short();
        format!(
            "; or take the result of an earlier program, whose keys had no versions of code: `opdflow get {key} {port} -o PATH`"
        )
    });
    Err(Failure::Usage(format!(
        "`{name}` has no result in the store{why}\nhelp: run `opdflow run {recipe} --until {name}` first{earlier}"
    )))
}
