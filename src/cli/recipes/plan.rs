//! `opdflow plan`: what would run, and what the store already has.

use super::calls;
use crate::cli::room::{slots, too_large};
use crate::cli::{Exit, Failure, Session, args};
use crate::plan::history::{History, Source};
use crate::plan::{Keys, Plan, Verdict, verdicts};
use crate::recipe::Diagnostics;
use crate::render::{bytes, duration, operations};
use crate::sched::Slots;
use serde_json::{Value, json};

/// A stage of the plan, for the table.
struct Row {
    verdict: Verdict,
    keys: Option<Keys>,
    /// Seconds still to be worked, and how they are known.
    seconds: Option<(f64, Source)>,
    /// Bytes that the store will take for it, and how they are known.
    bytes: Option<(u64, Source)>,
    /// Floating-point operations still to be done, where they can be counted.
    operations: Option<f64>,
    /// Whether it would run on a GPU.
    gpu: bool,
}

pub(crate) fn run(session: &Session, args: &args::Plan) -> Result<Exit, Failure> {
    let plan = session.survey_quietly(&args.recipe)?;
    let slots = slots(&plan, None);
    let large = too_large(&plan, &slots).into_iter().map(|(_, found)| found).collect();
    let warnings = session.warned(&plan, &plan.doubts(), large, args.strict)?;
    let store = session.open()?;
    let history = History::of(&store);
    let rows: Vec<Row> = verdicts(&plan, &store)
        .into_iter()
        .enumerate()
        .map(|(i, (verdict, keys))| {
            let (planned, gpu, rest) = (&plan.stages[i], plan.on_gpu(i), left(&verdict));
            let verdict = if verdict == Verdict::Maybe && !history.knows(planned) { Verdict::Later } else { verdict };
            let hit = matches!(verdict, Verdict::Hit { .. });
            let seconds = if hit { None } else { history.seconds(planned, gpu) };
            let bytes = if hit { None } else { history.bytes(planned) };
            let counted = planned.work.as_ref().map(|w| w.operations).filter(|n| *n > 0.0);
            let operations = counted.filter(|_| planned.spec.kind.describe().numeric).map(|n| n * rest);
            Row { seconds: seconds.map(|(s, from)| (s * rest, from)), bytes, operations, gpu, verdict, keys }
        })
        .collect();
    let missing = missing(&plan, &rows);
    let text = if session.json {
        as_json(&plan, &rows, store.free(), missing.as_ref(), &warnings).to_string()
    } else {
        let asked = plan.stages.iter().zip(&rows).map(|(stage, row)| (stage, left(&row.verdict)));
        table(&plan, &rows) + &calls::lines(asked) + &disk(&rows, store.free()) + &memory(&plan, &rows, &slots)
    };
    session.print(text.trim_end());
    if let Some(missing) = missing {
        if !session.json {
            session.tell(&missing);
        }
        return Ok(Exit::Missing);
    }
    let nothing_to_do = rows.iter().all(|r| matches!(r.verdict, Verdict::Hit { .. }));
    Ok(if args.exit_code && !nothing_to_do { Exit::WorkToDo } else { Exit::Done })
}

/// What the stages lack that cannot run, and what those would refuse that have no result yet.
fn missing(plan: &Plan, rows: &[Row]) -> Option<Diagnostics> {
    // Of a lock, what it is not for is not asked for.
    let meant = || plan.meant().into_iter().map(|i| (&plan.stages[i], &rows[i]));
    let lacking = meant().filter(|(_, row)| matches!(row.verdict, Verdict::Missing));
    let lacking = lacking.flat_map(|(stage, _)| stage.missing.iter().chain(&stage.lacking));
    let open = meant().filter(|(_, row)| !matches!(row.verdict, Verdict::Hit { .. }));
    let all: Vec<_> = lacking.chain(open.flat_map(|(stage, _)| &stage.unfit)).cloned().collect();
    (!all.is_empty()).then(|| plan.recipe.diagnostics(all))
}

/// The share of a stage that is left to do.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn left(verdict: &Verdict) -> f64 {
    match verdict {
        Verdict::Hit { .. } => 0.0,
        Verdict::Resume { step, total } if *total > 0 => 1.0 - *step as f64 / *total as f64,
        _ => 1.0,
    }
}

/// Columns are padded to no more than this: names of cells can be long.
const WIDEST: usize = 120;
/// A number with the sign that says that it was not measured on this model and these sizes.
fn marked(text: &str, from: Source) -> String {
    let sign = if from == Source::Measured { "" } else { "~" };
    format!("{sign}{text}")
}

fn table(plan: &Plan, rows: &[Row]) -> String {
    let head = ["stage", "kind", "verdict", "key", "time"].map(ToOwned::to_owned);
    let lines: Vec<[String; 5]> = std::iter::once(head)
        .chain(plan.stages.iter().zip(rows).enumerate().map(|(i, (stage, row))| {
            let key = row.keys.as_ref().map_or_else(|| "-".into(), |k| k.key.short());
            let seconds = match (&row.verdict, row.seconds) {
                (Verdict::Hit { .. }, _) => "-".into(),
                (_, Some((s, from))) => marked(&duration(s), from),
                (_, None) => "?".into(),
            };
            let verdict = row.verdict.words() + &condition(&row.verdict, &deciding(plan, rows, i));
            [stage.spec.name.clone(), stage.spec.kind.describe().kind.to_owned(), verdict, key, seconds]
        }))
        .collect();
    let width = |c: usize| lines.iter().map(|l| l[c].chars().count()).max().unwrap_or(0).min(WIDEST);
    let widths = [width(0), width(1), width(2), width(3)];
    let mut out = String::new();
    for line in &lines {
        for (cell, width) in line.iter().zip(widths) {
            out.push_str(&format!("{cell:width$}  "));
        }
        out.push_str(&line[4]);
        out.push('\n');
    }
    out.push_str(&format!("\n{}\n", summary(plan, rows)));
    out.push_str(&legend(rows));
    out.push_str(&ends(plan, rows));
    out
}

/// By what the stages end of which the plan cannot know how long they run, a line for those that end alike.
fn ends(plan: &Plan, rows: &[Row]) -> String {
    let mut lines: Vec<(&str, Vec<&str>)> = Vec::new();
    for (stage, _) in plan.stages.iter().zip(rows).filter(|(_, row)| row.open()) {
        let Some(ends) = stage.horizon.as_ref().and_then(|h| h.ends.as_deref()) else { continue };
        match lines.iter_mut().find(|(other, _)| *other == ends) {
            Some((_, names)) => names.push(&stage.spec.name),
            None => lines.push((ends, vec![&stage.spec.name])),
        }
    }
    lines.into_iter().map(|(ends, names)| format!("{ends}: {}\n", names.join(", "))).collect()
}

/// The stages that stage `i` waits for, on whose results it hangs whether a maybe must run: those it reads that have none yet.
fn deciding<'p>(plan: &'p Plan, rows: &[Row], i: usize) -> Vec<&'p str> {
    if !matches!(rows[i].verdict, Verdict::Maybe | Verdict::Later) {
        return Vec::new();
    }
    let open = plan.upstream(i).into_iter().filter(|up| !matches!(rows[*up].verdict, Verdict::Hit { .. }));
    open.map(|up| plan.stages[up].spec.name.as_str()).collect()
}

fn condition(verdict: &Verdict, deciding: &[&str]) -> String {
    let later = matches!(verdict, Verdict::Later);
    match (later, deciding) {
        (_, []) => String::new(),
        (true, [one]) => format!(" (after {one})"),
        (true, [one, other]) => format!(" (after {one} and {other})"),
        (true, [one, rest @ ..]) => format!(" (after {one} and {} more)", rest.len()),
        (false, [one]) => format!(" (if {one} changes)"),
        (false, [one, other]) => format!(" (if {one} or {other} changes)"),
        (false, [one, rest @ ..]) => format!(" (if {one} or one of {} more changes)", rest.len()),
    }
}

/// What the store will grow by and what it has room for, if there is something to run of which that is known.
fn disk(rows: &[Row], free: Option<u64>) -> String {
    let needed = rows.iter().filter_map(|r| r.bytes).map(|(n, _)| n).fold(0, u64::saturating_add);
    if needed == 0 {
        return String::new();
    }
    let unknown = rows.iter().filter(|r| r.open() && r.bytes.is_none()).count();
    let rest = if unknown > 0 { format!("; nothing is known of {unknown}") } else { String::new() };
    let room = free.map_or_else(String::new, |f| format!(", {} free", bytes(f)));
    let short = if free.is_some_and(|f| f < needed) { ": too little, see `opdflow gc`" } else { "" };
    let guessed: u64 =
        rows.iter().filter_map(|r| r.bytes).filter(|(_, from)| *from != Source::Measured).map(|(n, _)| n).sum();
    let guessed =
        if guessed == 0 { String::new() } else { format!(" (~{} of it not measured on these sizes)", bytes(guessed)) };
    format!("disk for their results: about {}{guessed}{rest}{room}{short}\n", bytes(needed))
}

/// What the sign `~` says, where it stands.
fn legend(rows: &[Row]) -> String {
    let has = |wanted: Source| rows.iter().any(|r| r.seconds.is_some_and(|(_, from)| from == wanted));
    let mut out = String::new();
    if has(Source::Scaled) {
        out.push_str("~ measured on another model, other sizes or another version, and scaled by counted operations\n");
    }
    if has(Source::Alike) {
        out.push_str("~ of a kind that does not compute: measured with other parameters\n");
    }
    out
}

/// What takes memory, for the stages of which that is known. Those that take the same share a line.
fn memory(plan: &Plan, rows: &[Row], slots: &Slots) -> String {
    let mut lines: Vec<(String, Vec<&str>)> = Vec::new();
    for (stage, row) in plan.stages.iter().zip(rows).filter(|(s, _)| !s.memory.is_empty()) {
        let total = stage.memory.iter().map(|m| m.bytes).fold(0, u64::saturating_add);
        let parts: Vec<String> = stage.memory.iter().map(|m| format!("{} {}", m.of, bytes(m.bytes))).collect();
        let ranks = stage.ranks(row.gpu);
        let each = if ranks > 1 { format!(", in each of {ranks} processes") } else { String::new() };
        let text = format!("{:>9}  {}{each}", bytes(total), parts.join(" + "));
        match lines.iter_mut().find(|(other, _)| *other == text) {
            Some((_, names)) => names.push(&stage.spec.name),
            None => lines.push((text, vec![&stage.spec.name])),
        }
    }
    if lines.is_empty() {
        return String::new();
    }
    let mut out = "\nmemory at the peak of one stage, about:\n".to_owned();
    for (text, names) in lines {
        out.push_str(&format!("{text}\n           {}\n", names.join(", ")));
    }
    if let Some(has) = slots.memory() {
        out.push_str(&format!("of {} here; a stage that does not fit beside the others waits\n", bytes(has)));
    }
    out
}

fn summary(plan: &Plan, rows: &[Row]) -> String {
    let hits = rows.iter().filter(|r| matches!(r.verdict, Verdict::Hit { .. })).count();
    let work = rows.len() - hits;
    let lacking = rows.iter().filter(|r| matches!(r.verdict, Verdict::Missing | Verdict::Blocked)).count();
    if lacking > 0 {
        return format!("{hits} of {} stages are in the store; {lacking} cannot run: files are missing", rows.len());
    }
    if work == 0 {
        return format!("{hits} of {} stages are in the store: nothing to do", rows.len());
    }
    let seconds = |wanted: &dyn Fn(&Row, Source) -> bool| -> f64 {
        rows.iter().filter_map(|r| r.seconds.filter(|(_, from)| wanted(r, *from))).map(|(s, _)| s).sum()
    };
    let unknown = rows.iter().filter(|r| r.open() && r.seconds.is_none()).count();
    let each = |i: usize| rows[i].seconds.map_or(0.0, |(s, _)| s);
    let longest = plan.critical(each).into_iter().fold(0.0, f64::max);
    let mut text = format!("{hits} of {} stages are in the store, {work} to run", rows.len());
    if unknown < work {
        let known = seconds(&|_, _| true);
        let guessed = seconds(&|_, from| from != Source::Measured);
        let guessed = if guessed > 0.0 {
            format!(" (~{} of it not measured on these sizes)", duration(guessed))
        } else {
            String::new()
        };
        text.push_str(&format!(
            "; about {} of work{guessed}, {} on the longest path",
            duration(known),
            duration(longest)
        ));
        let gpu = seconds(&|row, _| row.gpu);
        if gpu > 0.0 {
            text.push_str(&format!(", {:.2} GPU-hours", gpu / 3600.0));
        }
    }
    if unknown > 0 {
        text.push_str(&format!("; nothing is known of the time of {unknown}"));
    }
    let counted: f64 = rows.iter().filter_map(|r| r.operations).sum();
    if counted > 0.0 {
        text.push_str(&format!("\ncounted: {} by the models' networks, rewards left out", operations(counted)));
    }
    text
}

impl Row {
    /// Whether there is something to do.
    fn open(&self) -> bool {
        !matches!(self.verdict, Verdict::Hit { .. })
    }
}

fn as_json(
    plan: &Plan,
    rows: &[Row],
    free: Option<u64>,
    missing: Option<&Diagnostics>,
    warnings: &Diagnostics,
) -> Value {
    let stages: Vec<Value> = plan
        .stages
        .iter()
        .zip(rows)
        .enumerate()
        .map(|(i, (stage, row))| {
            let (word, step) = match &row.verdict {
                Verdict::Hit { .. } => ("hit", None),
                Verdict::Run => ("run", None),
                Verdict::Resume { step, .. } => ("resume", Some(*step)),
                Verdict::Maybe => ("maybe", None),
                Verdict::Later => ("run", None),
                Verdict::Missing => ("missing", None),
                Verdict::Blocked => ("blocked", None),
            };
            let needs: serde_json::Map<String, Value> =
                stage.spec.needs.iter().map(|(port, from)| (port.clone(), from.to_string().into())).collect();
            json!({
                "stage": stage.spec.name,
                "kind": stage.spec.kind.describe().kind,
                "verdict": word,
                "if_changes": if row.verdict == Verdict::Later { Vec::new() } else { deciding(plan, rows, i) },
                "after": if row.verdict == Verdict::Later { deciding(plan, rows, i) } else { Vec::new() },
                "step": step,
                "steps": stage.horizon.as_ref().and_then(|h| h.steps),
                "ends": stage.horizon.as_ref().and_then(|h| h.ends.as_ref()),
                "key": row.keys.as_ref().map(|k| k.key),
                "lineage": row.keys.as_ref().map(|k| k.lineage),
                "seconds": row.seconds.map(|(s, _)| s).or((!row.open()).then_some(0.0)),
                "seconds_from": row.seconds.map(|(_, from)| from.word()),
                "bytes": row.bytes.map(|(n, _)| n).or((!row.open()).then_some(0)),
                "bytes_from": row.bytes.map(|(_, from)| from.word()),
                "operations": row.operations,
                "gpu": row.gpu,
                "cpus": stage.resources.cpus,
                "ranks": stage.ranks(row.gpu),
                "memory": stage.memory,
                "calls": calls::left(&stage.calls, left(&row.verdict)),
                "needs": needs,
            })
        })
        .collect();
    let path = plan.recipe.path.display().to_string();
    let mut all = json!({"recipe": plan.recipe.name, "path": path, "stages": stages, "free": free});
    if !warnings.list.is_empty() {
        all["warnings"] = warnings.to_json()["diagnostics"].clone();
    }
    if let Some(missing) = missing {
        all["missing"] = missing.to_json()["diagnostics"].clone();
    }
    all
}
