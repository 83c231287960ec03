//! The images of a page: the same prompt and the same noise in a row, a model in a column.

use super::chart::short;
use super::content::{ImageRow, ImageSet, Page, ScoredImage};
use super::write::{data, put};
use opdflow_io::xml::escaped;
use std::collections::BTreeMap;

/// The images of these sets.
pub(super) fn images(sets: &[ImageSet], folder: &str, out: &mut String) {
    out.push_str("<section id=\"images\">\n<h2>Images</h2>\n");
    if sets.is_empty() {
        out.push_str("<p>No stage has left images.</p>\n");
    }
    grid(sets, folder, out);
    out.push_str("</section>\n");
}

/// In which an image is seen in large, where there are images.
pub(super) fn dialog(out: &mut String) {
    out.push_str(
        "<dialog id=\"compare\" aria-labelledby=\"prompt\">\n<p id=\"prompt\"></p>\n\
         <div class=\"pair\"><img id=\"first\" alt=\"\"><img id=\"second\" alt=\"\"></div>\n\
         <label>From left to right <input id=\"slider\" type=\"range\" min=\"0\" max=\"100\" value=\"50\"></label>\n\
         <div class=\"controls\"><label>Left <select id=\"left\"></select></label><label>Right <select id=\"right\"></select></label>\
         <button id=\"close\" type=\"button\">Close</button></div>\n</dialog>\n",
    );
}

/// The images that trainings left on their way, a step in a column.
pub(super) fn on_the_way(page: &Page, out: &mut String) {
    out.push_str("<section id=\"samples\">\n<h2>On the way of trainings</h2>\n");
    if !page.samples.is_empty() {
        out.push_str("<p>The same prompts and the same noise, by the adapter of each step.</p>\n");
    }
    page.samples.iter().for_each(|set| image_set(set, &page.folder, out));
    if !page.without_samples.is_empty() {
        let names: Vec<String> =
            page.without_samples.iter().map(|name| format!("<code>{}</code>", escaped(name))).collect();
        put!(
            out,
            "<p>There are none of {}: the folder of the run that computed it is not here, or it left none.</p>\n",
            names.join(", ")
        );
    }
    if page.samples.is_empty() && page.without_samples.is_empty() {
        out.push_str("<p>There is no training that leaves any.</p>\n");
    }
    out.push_str("</section>\n");
}

fn grid(sets: &[ImageSet], folder: &str, out: &mut String) {
    if sets.is_empty() {
        return;
    }
    out.push_str("<p>Each row has the same prompt and the same noise. An image opens in large, beside that of another model.</p>\n");
    sets.iter().for_each(|set| image_set(set, folder, out));
}

fn image_set(set: &ImageSet, folder: &str, out: &mut String) {
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
            if let Some(ScoredImage { png, beside, scores }) = row.images.get(at).and_then(Option::as_ref) {
                if let Some(name) = beside {
                    put!(out, "<a href=\"{}/{name}\">image</a>", escaped(&in_address(folder)));
                } else {
                    put!(
                        out,
                        "<button type=\"button\" aria-label=\"compare {model}, {words}\"><img loading=\"lazy\" alt=\"{words}, by {model}\" src=\"{}\"></button>",
                        data("image/png", png)
                    );
                }
                put!(out, "<div class=\"scores\">{}</div>", escaped(&listed(scores)));
            }
            out.push_str("</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
}

/// A folder's name as a link has it.
fn in_address(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn listed(scores: &BTreeMap<String, f64>) -> String {
    scores.iter().map(|(name, value)| format!("{name} {}", short(*value))).collect::<Vec<_>>().join(", ")
}

/// The sets of two runs as one: of each stage the column of the first run beside that of the second. Rows of other prompts are not
/// put together.
pub(super) fn of_two(first: Vec<ImageSet>, second: Vec<ImageSet>) -> Vec<ImageSet> {
    let mut others: BTreeMap<String, ImageSet> = second.into_iter().map(|set| (set.name.clone(), set)).collect();
    let mut all = Vec::new();
    for a in first {
        let Some(b) = others.remove(&a.name) else { continue };
        let same = |i: usize| a.rows.get(i).map(|r| &r.prompt) == b.rows.get(i).map(|r| &r.prompt);
        let rows = a.rows.len().min(b.rows.len());
        if !(0..rows).all(same) {
            continue;
        }
        // By the order of A, then what only B has.
        let mut columns: Vec<(String, usize, bool)> = Vec::new();
        for (i, stage) in a.stages.iter().enumerate() {
            columns.push((format!("A: {stage}"), i, true));
            let other = b.stages.iter().position(|s| s == stage);
            columns.extend(other.map(|j| (format!("B: {stage}"), j, false)));
        }
        let more = b.stages.iter().enumerate().filter(|(_, s)| !a.stages.contains(s));
        columns.extend(more.map(|(j, stage)| (format!("B: {stage}"), j, false)));
        let (mut a_rows, mut b_rows) = (a.rows, b.rows);
        let joined = |row: usize| {
            let mut take = |i: usize, of_first: bool| {
                let from = if of_first { &mut a_rows[row] } else { &mut b_rows[row] };
                from.images.get_mut(i).and_then(Option::take)
            };
            let images = columns.iter().map(|(_, i, of_first)| take(*i, *of_first)).collect();
            ImageRow { prompt: a_rows[row].prompt.clone(), images }
        };
        let rows = (0..rows).map(joined).collect();
        all.push(ImageSet { name: a.name, stages: columns.into_iter().map(|c| c.0).collect(), rows });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(stages: &[&str], prompts: &[&str]) -> ImageSet {
        let row = |prompt: &&str| ImageRow {
            prompt: Some((*prompt).to_owned()),
            images: stages
                .iter()
                .map(|s| Some(ScoredImage { png: s.as_bytes().to_vec(), ..Default::default() }))
                .collect(),
        };
        let stages_of = stages.iter().map(ToString::to_string).collect();
        ImageSet { name: "ocr".into(), stages: stages_of, rows: prompts.iter().map(row).collect() }
    }

    #[test]
    fn a_folder_is_a_link_whatever_its_name() {
        assert_eq!(in_address("report_images"), "report_images");
        assert_eq!(in_address("a b#?%/\u{e9}"), "a%20b%23%3F%25%2F%C3%A9");
    }

    #[test]
    fn two_runs_stand_stage_beside_stage() {
        let found = of_two(vec![set(&["base", "old"], &["x", "y"])], vec![set(&["new", "base"], &["x"])]);
        assert_eq!(found[0].stages, ["A: base", "B: base", "A: old", "B: new"]);
        assert_eq!(found[0].rows.len(), 1);
        let png: Vec<&[u8]> = found[0].rows[0].images.iter().flatten().map(|i| i.png.as_slice()).collect();
        assert_eq!(png, [b"base".as_slice(), b"base", b"old", b"new"]);
        assert!(of_two(vec![set(&["base"], &["x"])], vec![set(&["base"], &["z"])]).is_empty(), "other prompts");
    }
}
