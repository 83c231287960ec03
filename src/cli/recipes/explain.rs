//! `opdflow explain`: why a stage would run, field by field against the nearest earlier result.

use crate::cli::{Exit, Failure, Session, args};
use crate::plan::history::{Change, before_code, fields, nearest};
use crate::plan::manifest::{BEFORE_CODE, Leaf};
use crate::plan::{Plan, Verdict, verdicts};
use crate::recipe::{SetAt, Span};
use crate::render::name;
use opdflow_cache::{ActionRecord, Digest};
use opdflow_io::terminal::cut;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A change, and where in the recipe it comes from.
struct Reason {
    change: Change,
    place: Option<String>,
    /// What the manifest alone does not say.
    note: Option<String>,
}

pub(crate) fn run(session: &Session, args: &args::Explain) -> Result<Exit, Failure> {
    let plan = session.plan(&args.recipe)?;
    let i = session.stage(&plan, &args.stage)?;
    let store = session.open()?;
    let all = verdicts(&plan, &store);
    let (verdict, _) = &all[i];
    // Of a stage whose inputs are not all there, what is known can still be compared.
    let mut inputs: BTreeMap<String, Digest> = BTreeMap::new();
    let mut open: Vec<(String, String)> = Vec::new();
    for (port, (up, out)) in &plan.stages[i].needs {
        match &all[*up].0 {
            Verdict::Hit { record } if record.outputs.contains_key(out) => {
                inputs.insert(port.clone(), record.outputs[out].object.digest);
            }
            _ => open.push((port.clone(), plan.stages[*up].spec.name.clone())),
        }
    }
    let keys = plan.keys(i, &inputs);
    let kind = plan.stages[i].spec.kind.describe().kind;
    let now = fields(&keys.manifest);
    let found = if let Verdict::Hit { .. } = verdict { None } else { nearest(&store, kind, &now) };
    let (earlier, changes) = found.map_or((None, Vec::new()), |(record, changes)| (Some(record), changes));
    // Against a record of before, all versions of the code are new: one reason, not one for each part.
    let old = earlier.as_ref().is_some_and(before_code);
    let changes: Vec<Change> = changes.into_iter().filter(|c| !(old && c.path[0] == "code")).collect();
    let unknown = |c: &Change| c.path[0] == "inputs" && open.iter().any(|(port, _)| *port == c.path[1]);
    let reasons: Vec<Reason> = changes.into_iter().filter(|c| !unknown(c)).map(|c| reason(&plan, i, c)).collect();
    let key = open.is_empty().then_some(keys.key);
    if session.json {
        let reasons: Vec<Value> = reasons.iter().map(Reason::to_json).collect();
        let open: BTreeMap<_, _> = open.into_iter().collect();
        let earlier = earlier.as_ref().map(about);
        session.print(
            &json!({"stage": args.stage, "kind": kind, "verdict": verdict.words(), "key": key, "manifest": keys.manifest,
                "nearest": earlier, "changes": reasons, "waits_for": open})
            .to_string(),
        );
    } else {
        let name = &args.stage;
        let mut text = format!("stage `{name}` ({kind}): {}", verdict.words());
        text.push_str(&key.map_or_else(|| ", its key is not known yet".into(), |k| format!(", key {}", k.short())));
        text.push('\n');
        text.push_str(&story(verdict, earlier.as_ref(), &reasons, &open, kind));
        session.print(text.trim_end());
    }
    Ok(Exit::Done)
}

fn story(
    verdict: &Verdict,
    earlier: Option<&ActionRecord>,
    reasons: &[Reason],
    open: &[(String, String)],
    kind: &str,
) -> String {
    let mut out = String::new();
    for (port, stage) in open {
        out.push_str(&format!("  input `{port}` waits for `{stage}`, which has no result yet\n"));
    }
    if let Verdict::Hit { record } = verdict {
        out.push_str(&format!(
            "  its result is in the store: finished {} in {:.1} s\n",
            name(&record.finished),
            record.seconds
        ));
        return out;
    }
    let Some(earlier) = earlier else {
        out.push_str(&format!("  the store has no result of any stage of kind `{kind}`\n"));
        return out;
    };
    let stage = earlier.note.get("stage").map_or(String::new(), |s| format!(", as stage `{}`", name(s)));
    out.push_str(&format!(
        "  nearest earlier result: key {}, finished {}{stage}\n",
        earlier.key.short(),
        name(&earlier.finished)
    ));
    if reasons.is_empty() {
        let why = if open.is_empty() {
            "nothing differs: outputs of that result are damaged or gone"
        } else {
            "nothing that is known differs"
        };
        out.push_str(&format!("  {why}\n"));
    }
    let field = |r: &Reason| name(&r.change.path.join(".")).into_owned();
    let width = reasons.iter().map(|r| field(r).chars().count()).max().unwrap_or(0);
    for reason in reasons {
        let side = |leaf: &Option<Leaf>| {
            leaf.as_ref().map_or_else(|| "(not there)".into(), |leaf| cut(&leaf.to_string(), 500).into_owned())
        };
        out.push_str(&format!(
            "    {:width$}  {} -> {}",
            field(reason),
            side(&reason.change.old),
            side(&reason.change.new)
        ));
        let more: Vec<&str> = reason.place.iter().chain(&reason.note).map(String::as_str).collect();
        if !more.is_empty() {
            out.push_str(&format!("  ({})", more.join(", ")));
        }
        out.push('\n');
    }
    out
}

impl Reason {
    fn to_json(&self) -> Value {
        let side = |leaf: &Option<Leaf>| match leaf {
            Some(Leaf::Plain(value)) => value.clone(),
            Some(Leaf::Content(digest)) => json!(digest),
            None => Value::Null,
        };
        json!({"field": self.change.path.join("."), "old": side(&self.change.old), "new": side(&self.change.new),
            "place": self.place, "note": self.note})
    }
}

/// Finds where in the recipe a changed field comes from.
fn reason(plan: &Plan, i: usize, change: Change) -> Reason {
    let (recipe, stage) = (&plan.recipe, &plan.stages[i].spec);
    let spans = recipe.spans.stage(&stage.name);
    let rest = change.path[1..].join(".");
    let mut note = None;
    let span: Option<Span> = match change.path[0].as_str() {
        "params" => {
            let span = recipe.spans.param(&stage.name, &rest);
            note = match recipe.spans.variable(&stage.name, &rest) {
                Some((name, SetAt::Outside(from))) => Some(format!("`{name}` is set by `{from}`")),
                Some((name, SetAt::Recipe(span))) => Some(format!("`{name}` is set at {}", place(plan, span.start))),
                None => (span.is_none() && change.new.is_some()).then(|| "a default of the kind".to_owned()),
            };
            span
        }
        "inputs" => {
            note = stage.needs.get(&rest).map(|from| format!("the content of `{from}`"));
            spans.and_then(|s| s.needs.get(&rest).cloned())
        }
        "assets" => {
            note = Some("the content of a file".into());
            None
        }
        "seed" => {
            let own = spans.and_then(|s| s.seed.clone());
            note = own.is_none().then(|| "the recipe's seed, or `--seed`".to_owned());
            own.or_else(|| recipe.spans.seed.clone())
        }
        "format" => {
            let old = matches!(&change.old, Some(Leaf::Plain(format)) if *format == BEFORE_CODE);
            note = old.then(|| {
                "it was made by a program before versions of code were in keys: none of then is a hit any more; \
                 `opdflow get KEY PORT`, `lineage` and `export` still read them"
                    .to_owned()
            });
            None
        }
        "code" => {
            let edited = matches!(&change.new, Some(Leaf::Plain(Value::String(_))));
            note = Some(if edited {
                "this program was built from sources that differ from the committed ones".to_owned()
            } else {
                "another version of this part of the code".to_owned()
            });
            None
        }
        "semantics" => {
            note = Some("the kind computes in another way since".into());
            None
        }
        _ => None,
    };
    Reason { change, place: span.map(|span| place(plan, span.start)), note }
}

fn place(plan: &Plan, byte: usize) -> String {
    let (line, column) = plan.recipe.sources.place(byte);
    format!("{}:{line}:{column}", plan.recipe.sources.path(byte).display())
}

fn about(record: &ActionRecord) -> Value {
    json!({"key": record.key, "finished": record.finished, "seconds": record.seconds, "stage": record.note.get("stage")})
}
