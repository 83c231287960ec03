//! The curves of a page: of one run, or of two over each other.

use super::chart::{curve, short};
use super::content::{Curves, Page};
use super::write::put;
use opdflow_io::xml::escaped;

/// The curves of a run.
pub(super) fn of_one(page: &Page, out: &mut String) {
    begin(out);
    let shown: Vec<&Curves> = page.curves.iter().filter(|c| !c.series.is_empty()).collect();
    if shown.is_empty() {
        out.push_str("<p>No stage has reported a metric.</p>\n</section>\n");
        return;
    }
    out.push_str("<p>By step. A line upright is the step that a later stage chose.</p>\n");
    controls(out);
    for stage in shown {
        put!(out, "<h3>{}{}</h3>\n<div class=\"charts\">\n", escaped(&stage.stage), escaped(&chosen(stage)));
        for (name, values) in ordered(stage) {
            let marks: Vec<u64> = stage.chosen.iter().map(|(step, _)| *step).collect();
            let words = values_in_words(values);
            figure(&stage.stage, name, curve(values, &[], &marks), &[words], out);
        }
        out.push_str("</div>\n");
    }
    out.push_str("</section>\n");
}

/// Those of the same stage and metric in two runs, over each other.
pub(super) fn of_two(first: &Page, second: &Page, out: &mut String) {
    begin(out);
    let both = first.curves.iter().filter_map(|a| Some((a, second.curves.iter().find(|b| b.stage == a.stage)?)));
    let both: Vec<(&Curves, &Curves)> = both.filter(|(a, _)| !a.series.is_empty()).collect();
    if both.is_empty() {
        out.push_str("<p>No stage of both runs has reported a metric.</p>\n</section>\n");
        return;
    }
    out.push_str("<p>By step: <span class=\"first-line\">A</span> and <span class=\"second-line\">B</span>. A line upright is the step that a later stage of A chose.</p>\n");
    controls(out);
    for (a, b) in both {
        put!(out, "<h3>{}</h3>\n<div class=\"charts\">\n", escaped(&a.stage));
        for (name, values) in ordered(a) {
            let Some(other) = b.series.get(name) else { continue };
            let marks: Vec<u64> = a.chosen.iter().map(|(step, _)| *step).collect();
            let words = [("A", values), ("B", other)].map(|(run, v)| format!("{run}: {}", values_in_words(v)));
            figure(&a.stage, name, curve(values, other, &marks), &words, out);
        }
        out.push_str("</div>\n");
    }
    out.push_str("</section>\n");
}

fn begin(out: &mut String) {
    out.push_str("<section id=\"curves\">\n<h2>Curves</h2>\n");
}

fn controls(out: &mut String) {
    out.push_str("<div class=\"controls\"><label>Metrics with <input id=\"filter-curves\" type=\"search\" placeholder=\"reward\"></label></div>\n");
}

fn chosen(stage: &Curves) -> String {
    stage.chosen.iter().map(|(step, by)| format!(", step {step} chosen by {by}")).collect()
}

/// What a person looks at first comes first.
fn ordered(stage: &Curves) -> Vec<(&str, &[(u64, f64)])> {
    let rank = |name: &str| ["reward", "validation", "loss"].iter().position(|n| name == *n).unwrap_or(9);
    let mut all: Vec<(&str, &[(u64, f64)])> = stage.series.iter().map(|(n, v)| (n.as_str(), v.as_slice())).collect();
    all.sort_by(|a, b| rank(a.0).cmp(&rank(b.0)).then(a.0.cmp(b.0)));
    all
}

fn values_in_words(values: &[(u64, f64)]) -> String {
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return "no value".to_owned() };
    let most = values.iter().map(|v| v.1).fold(f64::NEG_INFINITY, f64::max);
    format!("{} at step {}, {} at step {}, at most {}", short(first.1), first.0, short(last.1), last.0, short(most))
}

fn figure(stage: &str, name: &str, drawn: Option<String>, words: &[String], out: &mut String) {
    let Some(svg) = drawn else { return };
    let full = escaped(&format!("{stage} {name}"));
    put!(
        out,
        "<figure role=\"group\" aria-label=\"{full}\" data-name=\"{full}\"><figcaption><strong>{}</strong></figcaption>{svg}",
        escaped(name)
    );
    for line in words {
        put!(out, "<figcaption>{}</figcaption>", escaped(line));
    }
    out.push_str("</figure>\n");
}
