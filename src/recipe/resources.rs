//! `resources` of a stage: what it takes of the machine. Nothing of it is in the key.

use super::draft::Draft;
use super::text::shape::{bytes, map, whole, wrong};
use super::text::source::Span;
use super::text::tree::{Entry, Node};
use super::{Diagnostic, MOST_RANKS, MOST_THREADS};
use opdflow_api::Kind;

/// What may stand there.
const KNOWN: [&str; 5] = ["cpus", "gpu_memory", "gpus", "ranks", "deadline"];

/// Seconds in a month: who waits longer does not wait for a process.
const LONGEST: u64 = 31 * 24 * 3600;

/// Reads them into the draft of their stage.
pub(super) fn read(node: &Node, draft: &mut Draft, faults: &mut Vec<Diagnostic>) {
    let Some(found) = map(node, "`resources`", &KNOWN, faults) else { return };
    let mut number = |name: &str, most: usize| -> Option<(usize, Span)> {
        let entry = found.get(name)?;
        Some((up_to(entry, name, most, faults)?, entry.key_span.clone()))
    };
    draft.cpus = number("cpus", MOST_THREADS).map(|(n, _)| n);
    draft.ranks = number("ranks", MOST_RANKS);
    draft.gpus = number("gpus", MOST_RANKS);
    draft.deadline = number("deadline", LONGEST as usize).map(|(n, _)| n as u64);
    draft.gpu_memory = found.get("gpu_memory").and_then(|e| bytes(e, faults));
    if let (Some((gpus, span)), Some(_)) = (&draft.gpus, draft.gpu_memory)
        && *gpus > 1
    {
        let title = format!("`gpus: {gpus}` beside `gpu_memory`");
        let help = "a stage on several GPUs has each of them to itself: take one of the two out";
        faults.push(Diagnostic::error("E047", title, span.clone(), "several GPUs are not shared").help(help));
    }
}

fn up_to(entry: &Entry, name: &str, most: usize, faults: &mut Vec<Diagnostic>) -> Option<usize> {
    let found = usize::try_from(whole(entry, 1, faults)?).ok().filter(|n| *n <= most);
    if found.is_none() {
        faults.push(wrong(&entry.value, &format!("`{name}`"), &format!("a whole number from 1 to {most}")));
    }
    found
}

/// The fault of a stage that is to have several processes, by its `ranks` or `gpus`, and whose kind runs in one.
pub(super) fn too_many(
    kind: &dyn Kind,
    params: &serde_json::Value,
    stage: &str,
    asked: [&Option<(usize, Span)>; 2],
) -> Option<Diagnostic> {
    let (count, span) = asked.into_iter().flatten().find(|(n, _)| *n > 1)?;
    if kind.resources(params).is_ok_and(|own| own.several) {
        return None;
    }
    let name = kind.describe().kind;
    let title = format!("`{stage}` is to run in {count} processes, and `{name}` runs in one");
    let help =
        "take `ranks` and `gpus` out; kinds that sample or train with a model on the port `base` can share their work";
    Some(Diagnostic::error("E047", title, span.clone(), "its work cannot be shared").help(help))
}
