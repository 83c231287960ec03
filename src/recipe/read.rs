//! The recipe's own shape: which words stand where, and what they must be.

use super::cell::{Cell, plain_name};
use super::draft::{Draft, Drafts};
use super::include::{self, Document};
use super::resources;
use super::{Diagnostic, FORMAT, Numerics, Recipe, Span, Spans, StageSpans, StageSpec};
use crate::recipe::check::params;
use crate::recipe::check::ports::{self, Need};
use crate::recipe::text::bound::{Bound, Extent};
use crate::recipe::text::near::hint;
use crate::recipe::text::shape::{any_map, map, missing, text, whole};
use crate::recipe::text::source::Sources;
use crate::recipe::text::tree::{Data, Entry, Node, shown};
use crate::recipe::variables::matrix;
use crate::recipe::variables::outside::Outside;
use crate::recipe::variables::set;
use crate::recipe::variables::vars::Vars;
use opdflow_api::{Kind, Registry};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

/// Reads a recipe; everything that is wrong goes to `faults`. `None` if no recipe came of it.
pub(super) fn recipe(
    path: &Path,
    sources: &mut Sources,
    text: &str,
    registry: &Registry,
    outside: &Outside<'_>,
    mut bound: Bound,
    faults: &mut Vec<Diagnostic>,
) -> Option<Recipe> {
    let mut documents = include::documents(path, text, outside.texts.as_ref(), sources, &mut bound, faults)?;
    let (first, own) = (documents.last()?.first.clone(), 0..text.len());
    let entries = include::variables(&documents, faults);
    let place = documents.last().and_then(|d| d.root.get("vars")).map_or_else(|| first.clone(), |e| e.key_span.clone());
    let (mut vars, assignments) = Vars::read(entries, outside, bound, (&place, &own), faults);
    let mut written = written(&mut documents, &mut vars, faults);
    if let Some(found) = vars.bound.fault() {
        faults.push(found);
        return None;
    }
    set::apply(&assignments, &mut written, &place, faults);
    for document in &documents {
        format(&document.root, &document.first, faults);
    }
    let root = &documents.last()?.root;
    let name = match root.get("name") {
        Some(entry) => crate::recipe::text::shape::text(entry, faults),
        None => {
            let help = "add a line such as `name: multitask`; a file without a name is a part, which recipes `include`";
            faults.push(missing("the recipe", "name", first.clone(), help));
            None
        }
    };
    // What the recipe does not say itself, the first that it includes says.
    let said = |name: &str| documents.iter().rev().find_map(|d| d.root.get(name));
    let seed_at = said("seed");
    let seed = seed_at.and_then(|e| whole(e, 0, faults));
    let numerics_at = said("numerics");
    let numerics = numerics_at.map_or(Some(Numerics::default()), |e| super::numerics::read(e, faults));
    let defaults = all_defaults(&documents, registry, faults);
    let drafts = drafts(root, &written, registry, &first, faults);
    // What a part leaves unused is for those that include it.
    let part = root.get("name").is_none();
    if !part {
        faults.extend(vars.unused());
    }
    let seed = outside.overrides.seed.or(seed).unwrap_or(0);
    let files = Files { documents: &documents, defaults: &defaults, own: &own, part };
    let made = stages(&written, drafts, &files, seed, &mut vars.bound, faults);
    faults.extend(vars.bound.fault());
    let (stages, mut spans) = made?;
    spans.seed = seed_at.map(|e| e.value.span.clone());
    spans.numerics = numerics_at.map(|e| e.value.span.clone());
    let folder = documents.last()?.folder.clone();
    Some(Recipe {
        path: path.to_owned(),
        folder,
        sources: sources.clone(),
        name: name?,
        seed,
        numerics: numerics?,
        stages,
        spans,
        warnings: Vec::new(),
        locked: None,
    })
}

/// The files of a recipe, and what each has of its own.
struct Files<'a> {
    documents: &'a [Document],
    defaults: &'a [Defaults],
    /// The recipe's own text.
    own: &'a Span,
    /// Whether it is a part, for others to include.
    part: bool,
}

impl Files<'_> {
    /// The defaults of the document that a place is in.
    fn defaults(&self, place: &Span) -> Option<&Defaults> {
        self.defaults.get(self.of(place))
    }

    /// The document that a place is in.
    fn of(&self, place: &Span) -> usize {
        // Its root holds whatever it holds; an empty place is of the recipe itself.
        let at = self.documents.iter().position(|d| d.root.span.contains(&place.start));
        at.unwrap_or(self.documents.len().saturating_sub(1))
    }
}

/// The stages of all documents as they are written, with the variables put in and cells in the place of matrices: those that are
/// included first, as far as they are taken.
fn written(documents: &mut [Document], vars: &mut Vars, faults: &mut Vec<Diagnostic>) -> Vec<Entry> {
    let mut axes = matrix::Axes::new();
    // By document its own stages and those that it includes.
    let mut all: Vec<Vec<Entry>> = Vec::with_capacity(documents.len());
    for document in documents.iter_mut() {
        if let Data::Map(entries) = &mut document.root.data {
            for entry in entries.iter_mut().filter(|e| e.key != "vars" && e.key != "include") {
                if entry.key == "stages" {
                    matrix::unfold(&mut entry.value, &mut axes, vars, faults);
                } else {
                    vars.expand(&mut entry.value, faults);
                }
            }
        }
        let mut stages: Vec<Entry> = Vec::new();
        let mut known: HashMap<String, Span> = HashMap::new();
        for include in &document.includes {
            let Some(there) = all.get(include.document) else { continue };
            let taken = include.stages.as_ref().map(|names| select(names, there, faults));
            for stage in there.iter().filter(|s| taken.as_ref().is_none_or(|t| t.contains(s.key.as_str()))) {
                match known.get(&stage.key) {
                    // Two ways to one file bring the same stage.
                    Some(before) if *before == stage.key_span => {}
                    Some(before) => faults.push(include::twice(stage, before)),
                    None => {
                        known.insert(stage.key.clone(), stage.key_span.clone());
                        stages.push(stage.clone());
                    }
                }
            }
        }
        let own = document.root.get("stages").filter(|e| !e.value.is_null());
        for stage in own.map(|e| e.value.entries()).unwrap_or_default() {
            if let Some(before) = known.get(&stage.key) {
                faults.push(include::twice(stage, before));
                continue;
            }
            stages.push(stage.clone());
        }
        all.push(stages);
    }
    all.pop().unwrap_or_default()
}

/// The names of the stages that an include takes, with all that they need.
fn select<'s>(names: &[(String, Span)], stages: &'s [Entry], faults: &mut Vec<Diagnostic>) -> BTreeSet<&'s str> {
    let cells: Vec<(&Entry, Cell<'_>)> = stages.iter().filter_map(|s| Some((s, Cell::parse(&s.key)?))).collect();
    let mut open: Vec<&'s Entry> = Vec::new();
    for (name, span) in names {
        let wanted = Cell::parse(name);
        let meant: Vec<&Entry> =
            cells.iter().filter(|(_, c)| wanted.as_ref().is_some_and(|w| w.means(c))).map(|(s, _)| *s).collect();
        if meant.is_empty() {
            faults.push(include::unknown(name, span, stages));
        }
        open.extend(meant);
    }
    let mut taken = BTreeSet::new();
    while let Some(stage) = open.pop() {
        if !taken.insert(stage.key.as_str()) {
            continue;
        }
        let mut read = Vec::new();
        stage.value.get("needs").into_iter().for_each(|needs| texts(&needs.value, &mut read));
        for (wanted, reader) in read
            .iter()
            .filter_map(|text| Cell::parse(super::cell::reference(text).0))
            .zip(std::iter::repeat(&stage.key))
        {
            let Some(reader) = Cell::parse(reader) else { continue };
            let others: Vec<&Cell<'_>> = cells.iter().map(|(_, c)| c).filter(|c| wanted.means(c)).collect();
            let wanted = wanted.read_by(&reader, others.iter().copied());
            open.extend(cells.iter().filter(|(_, c)| wanted.means(c)).map(|(s, _)| *s));
        }
    }
    taken
}

/// The texts below a node.
fn texts<'n>(node: &'n Node, found: &mut Vec<&'n str>) {
    match &node.data {
        Data::Scalar(Value::String(text)) => found.push(text),
        Data::List(items) => items.iter().for_each(|n| texts(n, found)),
        Data::Map(entries) => entries.iter().for_each(|e| texts(&e.value, found)),
        _ => {}
    }
}

/// The defaults of each document, above those of what it includes.
fn all_defaults(documents: &[Document], registry: &Registry, faults: &mut Vec<Diagnostic>) -> Vec<Defaults> {
    let mut all: Vec<Defaults> = Vec::with_capacity(documents.len());
    for document in documents {
        let mut found = Defaults::new();
        let below = document.includes.iter().filter_map(|i| all.get(i.document)).flatten();
        let below: Vec<(&String, &Entry)> = below.map(|(kind, (entry, _))| (kind, entry)).collect();
        let own = defaults(&document.root, registry, faults);
        let own = own.iter().map(|(kind, (entry, _))| (kind, entry));
        for (kind, entry) in below.into_iter().chain(own) {
            let mut entry = entry.clone();
            if let Some((before, _)) = found.get(kind) {
                entry.value = params::merge(&before.value, &entry.value);
            }
            let extent = Extent::of(&entry.value);
            found.insert(kind.clone(), (entry, extent));
        }
        all.push(found);
    }
    all
}

fn format(root: &Node, first: &Span, faults: &mut Vec<Diagnostic>) {
    let Some(entry) = root.get("opdflow") else {
        faults.push(missing(
            "the recipe",
            "opdflow",
            first.clone(),
            format!("begin the recipe with `opdflow: {FORMAT}`, its format"),
        ));
        return;
    };
    if let Some(found) = whole(entry, 0, faults).filter(|n| *n != FORMAT) {
        let title = format!("recipe format {found} is not known");
        let label = format!("this program reads format {FORMAT}");
        let help = if found > FORMAT { "update the program" } else { "write `opdflow: 1`" };
        faults.push(Diagnostic::error("E013", title, entry.value.span.clone(), label).help(help));
    }
}

/// `defaults`, by kind, and what each comes to.
type Defaults = BTreeMap<String, (Entry, Extent)>;

fn defaults(root: &Node, registry: &Registry, faults: &mut Vec<Diagnostic>) -> Defaults {
    let mut found = Defaults::new();
    let Some(entry) = root.get("defaults").filter(|e| !e.value.is_null()) else { return found };
    for entry in any_map(&entry.value, "`defaults`", faults).map(Node::entries).unwrap_or_default() {
        let Some(kind) = known_kind(&entry.key, &entry.key_span, registry, faults) else { continue };
        if any_map(&entry.value, &format!("the defaults of `{}`", entry.key), faults).is_some() {
            found.insert(kind.describe().kind.to_owned(), (entry.clone(), Extent::of(&entry.value)));
        }
    }
    found
}

/// The kind of this name. One of an earlier version is a fault, and read as the kind that it is now.
fn known_kind(name: &str, span: &Span, registry: &Registry, faults: &mut Vec<Diagnostic>) -> Option<Arc<dyn Kind>> {
    if let Some(kind) = registry.get(name) {
        return Some(Arc::clone(kind));
    }
    let Some(kind) = registry.former(name) else {
        unknown_kind(name, span.clone(), registry, faults);
        return None;
    };
    let now = kind.describe().kind;
    let title = format!("the stage kind {} is called `{now}` now", shown(name));
    faults.push(Diagnostic::error("E046", title, span.clone(), "a former name").help(format!("write `{now}`")));
    Some(Arc::clone(kind))
}

fn unknown_kind(kind: &str, span: Span, registry: &Registry, faults: &mut Vec<Diagnostic>) {
    let title = format!("there is no stage kind {}", shown(kind));
    let none = "this build has no stage kinds; build it with its default features".to_owned();
    let help = hint(kind, registry.names().collect::<Vec<_>>()).unwrap_or(none);
    faults.push(Diagnostic::error("E031", title, span, "not known").help(help));
}

/// The stages, each as far as it can be read alone.
fn drafts(
    root: &Node,
    written: &[Entry],
    registry: &Registry,
    first: &Span,
    faults: &mut Vec<Diagnostic>,
) -> Vec<Draft> {
    let example = "add stages, such as `stages: {base: {uses: base_model}}`";
    let empty = |node: &Node| node.is_null() || matches!(&node.data, Data::Map(m) if m.is_empty());
    match root.get("stages") {
        None if written.is_empty() => faults.push(missing("the recipe", "stages", first.clone(), example)),
        Some(entry) if written.is_empty() && empty(&entry.value) => faults.push(
            Diagnostic::error("E030", "the recipe has no stages", entry.key_span.clone(), "nothing under it")
                .help(example),
        ),
        Some(entry) if !entry.value.is_null() => drop(any_map(&entry.value, "`stages`", faults)),
        _ => {}
    }
    written.iter().filter(|e| e.key != "<<").filter_map(|e| draft(e, registry, faults)).collect()
}

fn draft(stage: &Entry, registry: &Registry, faults: &mut Vec<Diagnostic>) -> Option<Draft> {
    if !Cell::parse(&stage.key).is_some_and(|cell| plain_name(cell.stage)) {
        let title = format!("{} is no name for a stage", shown(&stage.key));
        let help = "use lower-case letters, digits and `_`, at most 64";
        faults.push(Diagnostic::error("E014", title, stage.key_span.clone(), "not a name").help(help));
    }
    let mut draft = Draft {
        name: stage.key.clone(),
        name_span: stage.key_span.clone(),
        kind: None,
        uses_span: stage.key_span.clone(),
        needs_span: stage.value.get("needs").map(|e| e.key_span.clone()),
        with: stage.value.get("with").filter(|e| !e.value.is_null()).cloned(),
        seed: None,
        cpus: None,
        gpu_memory: None,
        ranks: None,
        gpus: None,
        deadline: None,
    };
    let what = format!("stage `{}`", stage.key);
    if map(&stage.value, &what, &["uses", "needs", "with", "seed", "resources", "matrix"], faults).is_none() {
        return Some(draft);
    }
    match stage.value.get("uses") {
        Some(uses) => {
            draft.uses_span = uses.value.span.clone();
            if let Some(kind) = text(uses, faults) {
                draft.kind = known_kind(&kind, &uses.value.span, registry, faults);
            }
        }
        None => faults.push(missing(
            &what,
            "uses",
            stage.key_span.clone(),
            "say what the stage does: `uses: KIND`; `opdflow stages` lists the kinds",
        )),
    }
    if let Some(with) = &draft.with {
        any_map(&with.value, "`with`", faults);
    }
    if let Some(seed) = stage.value.get("seed") {
        draft.seed = whole(seed, 0, faults).map(|n| (n, seed.value.span.clone()));
    }
    if let Some(resources) = stage.value.get("resources") {
        resources::read(&resources.value, &mut draft, faults);
    }
    Some(draft)
}

/// Holds the drafts against their kinds and each other. `None` if one of them is not whole.
fn stages(
    written: &[Entry],
    drafts: Vec<Draft>,
    files: &Files<'_>,
    seed: u64,
    bound: &mut Bound,
    faults: &mut Vec<Diagnostic>,
) -> Option<(Vec<StageSpec>, Spans)> {
    let written: HashMap<&str, &Node> = written.iter().map(|e| (e.key.as_str(), &e.value)).collect();
    let drafts = Drafts::new(drafts);
    let needs: Vec<BTreeMap<String, Need>> = drafts
        .iter()
        .map(|draft| {
            let node = written.get(draft.name.as_str()).and_then(|s| s.get("needs"));
            ports::needs(draft, node.map(|e| &e.value).filter(|n| !n.is_null()), &drafts, bound, faults)
        })
        .collect();
    let drafts = drafts.list;
    // Each stage of a kind gets its defaults anew.
    for draft in &drafts {
        let base = draft.kind.as_ref().and_then(|k| files.defaults(&draft.name_span)?.get(k.describe().kind));
        if !base.is_none_or(|base| bound.take(base.1, &base.0.key_span)) {
            return None;
        }
    }
    ports::cycles(&drafts, &needs, faults);
    unread(&drafts, &needs, files.own, faults);
    if !files.part {
        idle_defaults(&drafts, files, faults);
    }
    let (mut specs, mut spans) = (Vec::new(), Spans::default());
    let count = drafts.len();
    // A connection that was refused is missing through its own fault.
    let connected = !faults.iter().any(|d| d.code.starts_with("E03"));
    for (draft, needs) in drafts.into_iter().zip(needs) {
        let Some(kind) = draft.kind.clone() else { continue };
        let own = draft.with.as_ref().map(|e| &e.value);
        let below = files.defaults(&draft.name_span).and_then(|d| d.get(kind.describe().kind));
        let folder = files.documents.get(files.of(&draft.name_span)).map(|d| d.folder.clone()).unwrap_or_default();
        let params = match (below.map(|(e, _)| &e.value), own) {
            (Some(base), Some(own)) => Some(params::merge(base, own)),
            (base, own) => own.or(base).cloned(),
        };
        let places = StageSpans {
            name: draft.name_span,
            uses: draft.uses_span,
            with: draft.with.map(|e| e.key_span),
            seed: draft.seed.as_ref().map(|(_, span)| span.clone()),
            needs: needs.iter().map(|(port, need)| (port.clone(), need.span.clone())).collect(),
            params: params.filter(|n| matches!(n.data, Data::Map(_))),
        };
        if let Some(params) = params::normalise(kind.as_ref(), &draft.name, &places, faults) {
            if connected {
                let ports = needs.iter().map(|(port, need)| (port.clone(), need.connection())).collect();
                faults.extend(params::wired(kind.as_ref(), &draft.name, &places, &params, &ports));
            }
            faults.extend(resources::too_many(kind.as_ref(), &params, &draft.name, [&draft.ranks, &draft.gpus]));
            specs.push(StageSpec {
                name: draft.name.clone(),
                kind,
                params,
                of_seed: needs.iter().filter_map(|(port, need)| Some((port.clone(), need.of_seed.clone()?))).collect(),
                needs: needs.into_iter().map(|(port, need)| (port, need.from)).collect(),
                seed: draft.seed.map_or(seed, |(own, _)| own),
                cpus: draft.cpus,
                gpu_memory: draft.gpu_memory,
                ranks: draft.ranks.map(|(ranks, _)| ranks),
                gpus: draft.gpus.map(|(gpus, _)| gpus),
                deadline: draft.deadline,
                folder,
            });
        }
        spans.stages.insert(draft.name, places);
    }
    (specs.len() == count && count > 0).then_some((specs, spans))
}

/// Warns of stages that lead to nothing, in a recipe that has results. Of an included recipe not everything need be read here.
fn unread(drafts: &[Draft], needs: &[BTreeMap<String, Need>], own: &Span, faults: &mut Vec<Diagnostic>) {
    let read: BTreeSet<&str> = needs.iter().flat_map(|n| n.values()).map(|n| n.from.stage.as_str()).collect();
    let (results, idle): (Vec<&Draft>, Vec<&Draft>) = drafts
        .iter()
        .filter(|d| d.kind.is_some() && !read.contains(d.name.as_str()))
        .partition(|d| d.kind.as_ref().is_some_and(|k| k.describe().outputs.iter().any(|o| o.result)));
    // A connection that does not fit may be the very one that is missing here.
    if results.is_empty() || faults.iter().any(|d| d.code.starts_with("E03")) {
        return;
    }
    for draft in idle.into_iter().filter(|d| own.contains(&d.name_span.start)) {
        let title = format!("nothing reads what `{}` leaves", draft.name);
        let help = "connect one of its outputs, or take the stage out";
        faults.push(
            Diagnostic::warning("W001", title, draft.name_span.clone(), "it leads to no table, report or model")
                .help(help),
        );
    }
}

/// Warns of defaults for a kind that no stage uses.
fn idle_defaults(drafts: &[Draft], files: &Files<'_>, faults: &mut Vec<Diagnostic>) {
    let used: BTreeSet<&str> = drafts.iter().filter_map(|d| Some(d.kind.as_ref()?.describe().kind)).collect();
    let own = files.defaults.last().into_iter().flatten().filter(|(_, (e, _))| files.own.contains(&e.key_span.start));
    for (kind, (entry, _)) in own {
        if !used.contains(kind.as_str()) {
            let title = format!("no stage uses the defaults of `{kind}`");
            faults.push(
                Diagnostic::warning("W002", title, entry.key_span.clone(), "used by no stage").help("take them out"),
            );
        }
    }
}
