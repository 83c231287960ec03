//! The page as HTML.

use super::content::{Content, Page, Shown};
use super::write::{anchor, begin, data, end, put, time};
use super::{curves, images, markdown, numbers};
use crate::render::{duration, operations, quoted};
use crate::report::sketch::{Sketch, StageBox};
use crate::report::{Standing, svg};
use opdflow_io::xml::escaped;
use std::collections::BTreeMap;

/// The page as HTML. One that is `served` follows its run: it asks its server for what is new.
#[must_use]
pub fn page(page: &Page, served: bool) -> String {
    let title = format!("{}, {}", page.summary.started.recipe, page.run);
    let mut out = begin(title.trim_end_matches(", "), served);
    head(page, &mut out);
    results(page, &mut out);
    curves::of_one(page, &mut out);
    images::images(&page.images, &page.folder, &mut out);
    images::on_the_way(page, &mut out);
    if !(page.images.is_empty() && page.samples.is_empty()) {
        images::dialog(&mut out);
    }
    stages(page, &mut out);
    rest(page, &mut out);
    end(&mut out);
    out
}

/// How a run ended, or how it stands.
pub(super) fn state(page: &Page) -> String {
    let summary = &page.summary;
    if page.run.is_empty() {
        let (there, all) = (summary.count(Standing::Hit), summary.stages.len());
        return format!("{there} of {all} results are in the store");
    }
    let word = match summary.ended {
        Some((true, _)) => "complete",
        Some((false, _)) if summary.count(Standing::Failed) > 0 => "failed",
        Some((false, _)) => "stopped",
        None if page.alive => "running",
        None => "died without a last word",
    };
    word.to_owned()
}

/// What should be known before a number is read.
pub(super) fn notes(page: &Page) -> Vec<String> {
    let failed = page.summary.stages.iter().filter(|s| s.state == Standing::Failed);
    let failed = failed.filter_map(|s| s.message.as_ref().map(|m| format!("`{}` failed: {m}", s.name)));
    let warned = page.warnings().map(|(stage, warning)| format!("`{}`: {warning}", stage.name));
    failed.chain(warned).chain(page.lacking.iter().cloned()).collect()
}

/// The same as a list, if there is anything.
pub(super) fn noted(notes: &[String], out: &mut String) {
    if notes.is_empty() {
        return;
    }
    out.push_str("<section class=\"notes\" aria-label=\"notes\">\n<ul>\n");
    for note in notes {
        put!(out, "<li>{}</li>\n", escaped(note));
    }
    out.push_str("</ul>\n</section>\n");
}

/// What was run, on what, when and by which program; what should be known before a number is read.
fn head(page: &Page, out: &mut String) {
    let (summary, started) = (&page.summary, &page.summary.started);
    put!(out, "<header>\n<h1>{}</h1>\n", escaped(&started.recipe));
    if !page.run.is_empty() {
        put!(out, "<p>Run <code>{}</code></p>\n", escaped(&page.run));
    }
    let seconds = summary.ended.map_or(summary.last - summary.began, |(_, seconds)| seconds);
    let cpu: f64 = summary.stages.iter().filter_map(|s| s.cpu_seconds).sum();
    let total = |name: &str| summary.stages.iter().filter_map(|s| page.measured(&s.name, name)).sum::<f64>();
    let (all_cpu, all_gpu, counted) =
        (total("cpu_seconds"), total("gpu_seconds"), page.operations.values().sum::<f64>());
    let or_none = |there: bool, words: String| if there { words } else { String::new() };
    let saved: f64 = summary.stages.iter().map(|s| s.saved_seconds).sum();
    let facts = [
        ("state", state(page)),
        ("began", time(summary.began)),
        ("took", duration(seconds)),
        ("CPU time", duration(cpu)),
        ("found in the store", or_none(saved > 0.0, duration(saved))),
        ("all results took", format!("{:.2} CPU-hours", all_cpu / 3600.0)),
        ("", or_none(all_gpu > 0.0, format!("{:.2} GPU-hours", all_gpu / 3600.0))),
        ("trainings", or_none(counted > 0.0, operations(counted))),
        ("seed", started.seed.to_string()),
        ("program", started.version.clone()),
        ("machine", format!("{} threads, {} GPUs", started.slots, started.gpus)),
        ("stages", summary.stages.len().to_string()),
        ("command", started.argv.join(" ")),
    ];
    out.push_str("<dl class=\"facts\">\n");
    for (name, value) in facts.iter().filter(|(_, v)| !v.is_empty()) {
        let name = if name.is_empty() { "on GPUs" } else { name };
        let class = if name == "command" { " class=\"wide\"" } else { "" };
        put!(out, "<div{class}><dt>{name}</dt><dd>{}</dd></div>\n", escaped(value));
    }
    out.push_str("</dl>\n<nav aria-label=\"parts of the page\">");
    for (id, name) in [
        ("results", "Results"),
        ("curves", "Curves"),
        ("images", "Images"),
        ("samples", "On the way"),
        ("stages", "Stages"),
        ("recipe", "Recipe"),
    ] {
        put!(out, "<a href=\"#{id}\">{name}</a>");
    }
    out.push_str("</nav>\n</header>\n<main>\n");
    noted(&notes(page), out);
}

fn results(page: &Page, out: &mut String) {
    out.push_str("<section id=\"results\">\n<h2>Results</h2>\n");
    if page.results.is_empty() {
        out.push_str("<p>There is no table or figure yet.</p>\n");
    }
    numbers::tables(page, out);
    // A table that stands there as numbers says more in words: what its columns are, and what follows from it.
    let as_numbers = |shown: &Shown| page.numbers.iter().any(|n| n.stage == shown.stage);
    for shown in &page.results {
        if as_numbers(shown) && matches!(shown.content, Content::Markdown(_)) {
            out.push_str("<details>\n<summary>The same in words</summary>\n");
            one(shown, out);
            out.push_str("</details>\n");
        } else {
            one(shown, out);
        }
    }
    if !page.others.is_empty() {
        out.push_str("<details>\n<summary>On the way</summary>\n");
        page.others.iter().for_each(|shown| one(shown, out));
        out.push_str("</details>\n");
    }
    out.push_str("</section>\n");
}

fn one(shown: &Shown, out: &mut String) {
    let name = format!("{}.{}", shown.stage, shown.port);
    match &shown.content {
        Content::Markdown(text) => {
            put!(
                out,
                "<h3 id=\"{}\"><a href=\"#stage-{}\">{}</a></h3>\n<div class=\"scroll\">\n{}</div>\n",
                anchor(&name),
                anchor(&shown.stage),
                escaped(&name),
                markdown::html(text)
            );
        }
        Content::Image(media, bytes) => {
            let alt = escaped(&name);
            put!(
                out,
                "<figure><img alt=\"{alt}\" src=\"{}\"><figcaption>{alt}</figcaption></figure>\n",
                data(media, bytes)
            );
        }
    }
}

fn stages(page: &Page, out: &mut String) {
    let started = &page.summary.started;
    out.push_str("<section id=\"stages\">\n<h2>Stages</h2>\n");
    put!(
        out,
        "<figure><img alt=\"which stage reads from which\" src=\"{}\"></figure>\n",
        data("image/svg+xml", graph(page).as_bytes())
    );
    out.push_str("<div class=\"controls\"><label>Stages with <input id=\"filter-stages\" type=\"search\"></label></div>\n<div class=\"scroll\">\n<table>\n<thead><tr>");
    for name in [
        "stage",
        "kind",
        "verdict",
        "steps",
        "seconds",
        "CPU seconds",
        "GPU seconds",
        "operations",
        "on",
        "key",
        "why, and where from",
    ] {
        put!(out, "<th scope=\"col\">{name}</th>");
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for stage in &page.summary.stages {
        let kind = started.stages.iter().find(|s| s.name == stage.name).map_or("", |s| s.kind.as_str());
        let word = if stage.state == Standing::Running && !page.alive { "gone" } else { stage.state.word() };
        let seconds = if stage.state == Standing::Hit { stage.saved_seconds } else { stage.seconds };
        let steps = if stage.total > 0 { format!("{} of {}", stage.step, stage.total) } else { String::new() };
        let measured = |name: &str| page.measured(&stage.name, name);
        let tenths = |seconds: Option<f64>| seconds.map_or_else(String::new, |s| format!("{s:.1}"));
        let (cpu, gpu) = (tenths(measured("cpu_seconds").or(stage.cpu_seconds)), tenths(measured("gpu_seconds")));
        let counted = page.operations.get(&stage.name).map_or_else(String::new, |n| operations(*n));
        let device = escaped(page.fact(&stage.name, "device").unwrap_or_default());
        let key = stage.key.map_or_else(String::new, |key| key.short().to_string());
        let why = if started.path.is_empty() {
            String::new()
        } else {
            format!("opdflow explain {} {}", quoted(&started.path), quoted(&stage.name))
        };
        put!(
            out,
            "<tr id=\"stage-{}\"><th scope=\"row\">{}</th><td>{}</td><td class=\"state-{word}\">{word}</td><td>{steps}</td>\
             <td style=\"text-align: right\">{seconds:.1}</td><td style=\"text-align: right\">{cpu}</td>\
             <td style=\"text-align: right\">{gpu}</td><td style=\"text-align: right\">{counted}</td><td>{device}</td><td><code>{key}</code></td><td><code>{}</code></td></tr>\n",
            anchor(&stage.name),
            escaped(&stage.name),
            escaped(kind),
            escaped(&why)
        );
    }
    out.push_str("</tbody>\n</table>\n</div>\n</section>\n");
}

/// Which stage reads from which, cells of a matrix as one box.
fn graph(page: &Page) -> String {
    let mut sketch = Sketch { title: page.summary.started.recipe.clone(), ..Sketch::default() };
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut verdicts: Vec<BTreeMap<&str, usize>> = Vec::new();
    for stage in &page.summary.started.stages {
        let name = stage.name.split('[').next().unwrap_or_default();
        let at = *places.entry(name).or_insert_with(|| {
            sketch.boxes.push(StageBox { name: name.to_owned(), kind: stage.kind.clone(), cells: 0, depth: 0 });
            verdicts.push(BTreeMap::new());
            sketch.boxes.len() - 1
        });
        let word = page.summary.stage(&stage.name).map_or("waiting", |s| s.state.word());
        *verdicts[at].entry(word).or_insert(0_usize) += 1;
        sketch.boxes[at].cells += usize::from(name != stage.name);
        for need in &stage.needs {
            let Some(from) = places.get(need.split('[').next().unwrap_or_default()).copied() else { continue };
            let depth = sketch.boxes[from].depth + 1;
            sketch.boxes[at].depth = sketch.boxes[at].depth.max(depth);
            sketch.arrows.entry((from, at)).or_default();
        }
    }
    for (one, words) in sketch.boxes.iter_mut().zip(verdicts) {
        let words: Vec<String> = match words.len() {
            1 => words.into_keys().map(ToOwned::to_owned).collect(),
            _ => words.into_iter().map(|(word, count)| format!("{count} {word}")).collect(),
        };
        one.kind = format!("{}: {}", one.kind, words.join(", "));
    }
    svg::svg(&sketch)
}

fn rest(page: &Page, out: &mut String) {
    if let Some(recipe) = &page.recipe {
        put!(
            out,
            "<section id=\"recipe\">\n<h2>Recipe</h2>\n<pre><code>{}</code></pre>\n</section>\n",
            escaped(recipe)
        );
    }
    out.push_str("</main>\n");
}
