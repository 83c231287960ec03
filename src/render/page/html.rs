//! The page as HTML.

use super::chart::{curve, short};
use super::content::{Content, Curves, ImageSet, Page, ScoredImage, Shown};
use super::markdown;
use crate::render::{duration, quoted};
use crate::report::sketch::{Sketch, StageBox};
use crate::report::{Standing, svg};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opdflow_io::xml::escaped;
use std::collections::BTreeMap;
use std::fmt::Write as _;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// Writing into a text does not fail.
macro_rules! put {
    ($out:expr, $($words:tt)*) => { let _ = write!($out, $($words)*); };
}

/// The page as HTML.
#[must_use]
pub fn page(page: &Page) -> String {
    let mut out = String::new();
    let title = format!("{}, {}", page.summary.started.recipe, page.run);
    put!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        escaped(&title)
    );
    head(page, &mut out);
    results(page, &mut out);
    curves(page, &mut out);
    images(page, &mut out);
    stages(page, &mut out);
    rest(page, &mut out);
    put!(out, "<script>\n{SCRIPT}</script>\n</body>\n</html>\n");
    out
}

/// What was run, on what, when and by which program; what should be known before a number is read.
fn head(page: &Page, out: &mut String) {
    let (summary, started) = (&page.summary, &page.summary.started);
    put!(out, "<header>\n<h1>{}</h1>\n<p>Run <code>{}</code></p>\n", escaped(&started.recipe), escaped(&page.run));
    let state = match summary.ended {
        Some((true, _)) => "complete",
        Some((false, _)) if summary.count(Standing::Failed) > 0 => "failed",
        Some((false, _)) => "stopped",
        None if page.alive => "running",
        None => "died without a last word",
    };
    let seconds = summary.ended.map_or(summary.last - summary.began, |(_, seconds)| seconds);
    let cpu: f64 = summary.stages.iter().filter_map(|s| s.cpu_seconds).sum();
    let saved: f64 = summary.stages.iter().map(|s| s.saved_seconds).sum();
    let facts = [
        ("state", state.to_owned()),
        ("began", time(summary.began)),
        ("took", duration(seconds)),
        ("CPU time", duration(cpu)),
        ("found in the store", duration(saved)),
        ("seed", started.seed.to_string()),
        ("program", started.version.clone()),
        ("machine", format!("{} threads, {} GPUs", started.slots, started.gpus)),
        ("stages", summary.stages.len().to_string()),
        ("command", started.argv.join(" ")),
    ];
    out.push_str("<dl class=\"facts\">\n");
    for (name, value) in facts.iter().filter(|(_, v)| !v.is_empty()) {
        let class = if *name == "command" { " class=\"wide\"" } else { "" };
        put!(out, "<div{class}><dt>{name}</dt><dd>{}</dd></div>\n", escaped(value));
    }
    out.push_str("</dl>\n<nav aria-label=\"parts of the page\">");
    for (id, name) in
        [("results", "Results"), ("curves", "Curves"), ("images", "Images"), ("stages", "Stages"), ("recipe", "Recipe")]
    {
        put!(out, "<a href=\"#{id}\">{name}</a>");
    }
    out.push_str("</nav>\n</header>\n<main>\n");
    let failed: Vec<String> = summary
        .stages
        .iter()
        .filter_map(|s| {
            s.message.as_ref().filter(|_| s.state == Standing::Failed).map(|m| format!("`{}` failed: {m}", s.name))
        })
        .collect();
    let warned = page.warnings().map(|(stage, warning)| format!("`{}`: {warning}", stage.name));
    let notes: Vec<String> = failed.into_iter().chain(warned).chain(page.lacking.iter().cloned()).collect();
    if !notes.is_empty() {
        out.push_str("<section class=\"notes\" aria-label=\"notes\">\n<ul>\n");
        for note in notes {
            put!(out, "<li>{}</li>\n", escaped(&note));
        }
        out.push_str("</ul>\n</section>\n");
    }
}

fn results(page: &Page, out: &mut String) {
    out.push_str("<section id=\"results\">\n<h2>Results</h2>\n");
    if page.results.is_empty() {
        out.push_str("<p>There is no table or figure yet.</p>\n");
    }
    page.results.iter().for_each(|shown| one(shown, out));
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

fn curves(page: &Page, out: &mut String) {
    out.push_str("<section id=\"curves\">\n<h2>Curves</h2>\n");
    if page.curves.iter().all(|c| c.series.is_empty()) {
        out.push_str("<p>No stage has reported a metric.</p>\n</section>\n");
        return;
    }
    out.push_str("<p>By step. A line upright is the step that a later stage chose.</p>\n");
    out.push_str("<div class=\"controls\"><label>Metrics with <input id=\"filter-curves\" type=\"search\" placeholder=\"reward\"></label></div>\n");
    for stage in page.curves.iter().filter(|c| !c.series.is_empty()) {
        let chosen: String = stage.chosen.iter().map(|(step, by)| format!(", step {step} chosen by {by}")).collect();
        put!(out, "<h3>{}{}</h3>\n<div class=\"charts\">\n", escaped(&stage.stage), escaped(&chosen));
        for (name, values) in ordered(stage) {
            chart(stage, name, values, out);
        }
        out.push_str("</div>\n");
    }
    out.push_str("</section>\n");
}

/// What a person looks at first comes first.
fn ordered(stage: &Curves) -> Vec<(&str, &[(u64, f64)])> {
    let rank = |name: &str| ["reward", "validation", "loss"].iter().position(|n| name == *n).unwrap_or(9);
    let mut all: Vec<(&str, &[(u64, f64)])> = stage.series.iter().map(|(n, v)| (n.as_str(), v.as_slice())).collect();
    all.sort_by(|a, b| rank(a.0).cmp(&rank(b.0)).then(a.0.cmp(b.0)));
    all
}

fn chart(stage: &Curves, name: &str, values: &[(u64, f64)], out: &mut String) {
    let marks: Vec<u64> = stage.chosen.iter().map(|(step, _)| *step).collect();
    let Some(svg) = curve(values, &[], &marks) else { return };
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return };
    let most = values.iter().map(|v| v.1).fold(f64::NEG_INFINITY, f64::max);
    let words = format!(
        "{} at step {}, {} at step {}, at most {}",
        short(first.1),
        first.0,
        short(last.1),
        last.0,
        short(most)
    );
    let full = escaped(&format!("{} {name}", stage.stage));
    put!(
        out,
        "<figure role=\"group\" aria-label=\"{full}\" data-name=\"{full}\"><figcaption><strong>{}</strong></figcaption>{svg}\
         <figcaption>{}</figcaption></figure>\n",
        escaped(name),
        escaped(&words)
    );
}

fn images(page: &Page, out: &mut String) {
    out.push_str("<section id=\"images\">\n<h2>Images</h2>\n");
    if page.images.is_empty() {
        out.push_str("<p>No stage has left images.</p>\n</section>\n");
        return;
    }
    out.push_str("<p>Each row has the same prompt and the same noise. An image opens in large, beside that of another model.</p>\n");
    page.images.iter().for_each(|set| image_set(set, out));
    out.push_str(
        "<dialog id=\"compare\" aria-labelledby=\"prompt\">\n<p id=\"prompt\"></p>\n\
         <div class=\"pair\"><img id=\"first\" alt=\"\"><img id=\"second\" alt=\"\"></div>\n\
         <label>From left to right <input id=\"slider\" type=\"range\" min=\"0\" max=\"100\" value=\"50\"></label>\n\
         <div class=\"controls\"><label>Left <select id=\"left\"></select></label><label>Right <select id=\"right\"></select></label>\
         <button id=\"close\" type=\"button\">Close</button></div>\n</dialog>\n</section>\n",
    );
}

fn image_set(set: &ImageSet, out: &mut String) {
    put!(
        out,
        "<h3>{}</h3>\n<div class=\"scroll\">\n<table class=\"images\">\n<thead><tr><th scope=\"col\">prompt</th>",
        escaped(&set.name)
    );
    for stage in &set.stages {
        put!(out, "<th scope=\"col\">{}</th>", escaped(stage));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for (number, row) in set.rows.iter().enumerate() {
        let prompt = row.prompt.clone().unwrap_or_else(|| format!("prompt {number}"));
        let words = escaped(&prompt);
        put!(out, "<tr data-prompt=\"{words}\"><th scope=\"row\">{words}</th>");
        for (at, stage) in set.stages.iter().enumerate() {
            let model = escaped(stage);
            put!(out, "<td data-model=\"{model}\">");
            if let Some(ScoredImage { png, scores }) = row.images.get(at).and_then(Option::as_ref) {
                put!(
                    out,
                    "<button type=\"button\" aria-label=\"compare {model}, {words}\"><img loading=\"lazy\" alt=\"{words}, by {model}\" src=\"{}\"></button>",
                    data("image/png", png)
                );
                put!(out, "<div class=\"scores\">{}</div>", escaped(&listed(scores)));
            }
            out.push_str("</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
}

fn listed(scores: &BTreeMap<String, f64>) -> String {
    scores.iter().map(|(name, value)| format!("{name} {}", short(*value))).collect::<Vec<_>>().join(", ")
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
    for name in ["stage", "kind", "verdict", "steps", "seconds", "CPU seconds", "key", "why, and where from"] {
        put!(out, "<th scope=\"col\">{name}</th>");
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for stage in &page.summary.stages {
        let kind = started.stages.iter().find(|s| s.name == stage.name).map_or("", |s| s.kind.as_str());
        let word = if stage.state == Standing::Running && !page.alive { "gone" } else { stage.state.word() };
        let seconds = if stage.state == Standing::Hit { stage.saved_seconds } else { stage.seconds };
        let steps = if stage.total > 0 { format!("{} of {}", stage.step, stage.total) } else { String::new() };
        let cpu = stage.cpu_seconds.map_or_else(String::new, |s| format!("{s:.1}"));
        let key = stage.key.map_or_else(String::new, |key| key.short().to_string());
        let why = if started.path.is_empty() {
            String::new()
        } else {
            format!("opdflow explain {} {}", quoted(&started.path), quoted(&stage.name))
        };
        put!(
            out,
            "<tr id=\"stage-{}\"><th scope=\"row\">{}</th><td>{}</td><td class=\"state-{word}\">{word}</td><td>{steps}</td>\
             <td style=\"text-align: right\">{seconds:.1}</td><td style=\"text-align: right\">{cpu}</td><td><code>{key}</code></td><td><code>{}</code></td></tr>\n",
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
    for stage in &page.summary.started.stages {
        let name = stage.name.split('[').next().unwrap_or_default();
        let at = *places.entry(name).or_insert_with(|| {
            sketch.boxes.push(StageBox { name: name.to_owned(), kind: stage.kind.clone(), cells: 0, depth: 0 });
            sketch.boxes.len() - 1
        });
        sketch.boxes[at].cells += usize::from(name != stage.name);
        for need in &stage.needs {
            let Some(from) = places.get(need.split('[').next().unwrap_or_default()).copied() else { continue };
            let depth = sketch.boxes[from].depth + 1;
            sketch.boxes[at].depth = sketch.boxes[at].depth.max(depth);
            sketch.arrows.entry((from, at)).or_default();
        }
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

/// What a browser shows without asking anybody.
fn data(media: &str, bytes: &[u8]) -> String {
    format!("data:{media};base64,{}", STANDARD.encode(bytes))
}

/// A name of a place on the page.
fn anchor(name: &str) -> String {
    name.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("-{b:02x}") })
        .collect()
}

/// Seconds since 1970 as date and time, UTC.
fn time(at: f64) -> String {
    let at = std::time::Duration::try_from_secs_f64(at).unwrap_or_default();
    opdflow_cache::rfc3339(std::time::SystemTime::UNIX_EPOCH + at)
}
