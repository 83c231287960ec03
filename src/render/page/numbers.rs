//! A table as numbers: each with its interval and the published one, what a model gained and forgot, and what each row was made of.

use super::chart::{rough, short};
use super::content::Page;
use super::write::{anchor, put};
use crate::render::quoted;
use crate::report::numbers::{Cell, Numbers, Row};
use opdflow_io::xml::escaped;

/// All tables of a run.
pub(super) fn tables(page: &Page, out: &mut String) {
    for table in &page.numbers {
        one(table, out);
        changed(table, out);
        made_of(page, table, out);
    }
}

fn title(table: &Numbers) -> &str {
    if table.title.is_empty() { &table.stage } else { &table.title }
}

/// Where a row's stages are listed.
fn place(table: &Numbers, row: usize) -> String {
    format!("from-{}-{row}", anchor(&table.stage))
}

fn head(table: &Numbers, first: &str, out: &mut String) {
    put!(out, "<thead><tr><th scope=\"col\">{first}</th>");
    for column in &table.columns {
        put!(out, "<th scope=\"col\">{}</th>", escaped(column));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
}

fn one(table: &Numbers, out: &mut String) {
    let stage = anchor(&table.stage);
    put!(out, "<h3 id=\"numbers-{stage}\"><a href=\"#stage-{stage}\">{}</a></h3>\n", escaped(title(table)));
    let of = match table.seeds() {
        1 => "over prompts, of one seed".to_owned(),
        seeds => format!("over {seeds} seeds (Student's t)"),
    };
    put!(out, "<p>Means with half of their 95 % interval, {of}. A number leads to what it was made of.");
    if !table.source.is_empty() {
        put!(out, " Below ours the published number, of {}.", escaped(&table.source));
    }
    out.push_str("</p>\n<div class=\"scroll\">\n<table class=\"numbers\">\n");
    head(table, "model", out);
    for (number, row) in table.rows.iter().enumerate() {
        let place = place(table, number);
        put!(out, "<tr><th scope=\"row\"><a href=\"#{place}\">{}</a></th>", escaped(&row.title));
        for (c, cell) in row.cells.iter().enumerate() {
            out.push_str("<td>");
            if let Some(cell) = cell {
                let best = table.best(c).is_some_and(|best| cell.mean >= best);
                let (open, close) = if best { ("<strong>", "</strong>") } else { ("", "") };
                put!(
                    out,
                    "{open}<a href=\"#{place}\" data-column=\"{}\" data-value=\"{}\">{}</a>{close} <small>±{}</small>",
                    escaped(&table.columns[c]),
                    cell.mean,
                    digits(cell.mean),
                    within(cell.half())
                );
            }
            if let Some(published) = row.published.get(c).copied().flatten() {
                put!(out, "<br><small class=\"published\"><span class=\"word\">published </span>{published}</small>");
            }
            out.push_str("</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
}

/// Three digits after the point, or as many as say something.
fn digits(mean: f64) -> String {
    if (0.01..1000.0).contains(&mean.abs()) || mean == 0.0 { format!("{mean:.3}") } else { short(mean) }
}

/// Half of an interval, if there is one.
fn within(half: Option<f64>) -> String {
    half.map_or_else(|| "n/a".to_owned(), rough)
}

/// A difference with a sign, and whether it can be told from none.
pub(super) fn difference(new: &Cell, old: &Cell, out: &mut String) {
    let (difference, half) = new.less(old);
    let (class, sign, word) = if half.is_none_or(|half| difference.abs() <= half) {
        ("same", "", "not told apart")
    } else if difference > 0.0 {
        ("better", "▲ ", "higher")
    } else {
        ("worse", "▼ ", "lower")
    };
    put!(
        out,
        "<td class=\"{class}\" title=\"{word}\"><span aria-hidden=\"true\">{sign}</span><span class=\"word\">{word} </span>{difference:+.3} <small>±{}</small></td>",
        within(half)
    );
}

/// What each model gained and forgot.
fn changed(table: &Numbers, out: &mut String) {
    let Some((base, from)) = table.base.and_then(|at| Some((at, table.rows.get(at)?))) else { return };
    put!(
        out,
        "<h4>Gained and forgotten, against {}</h4>\n<p>Differences, with half of their 95 % interval as if both were independent; ▲ higher and ▼ lower than can be told from chance.</p>\n\
         <div class=\"scroll\">\n<table class=\"numbers\">\n",
        escaped(&from.title)
    );
    head(table, "model", out);
    for (_, row) in table.rows.iter().enumerate().filter(|(i, _)| *i != base) {
        put!(out, "<tr><th scope=\"row\">{}</th>", escaped(&row.title));
        for (new, old) in row.cells.iter().zip(&from.cells) {
            match (new, old) {
                (Some(new), Some(old)) => difference(new, old, out),
                _ => out.push_str("<td></td>"),
            }
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
}

fn made_of(page: &Page, table: &Numbers, out: &mut String) {
    out.push_str("<h4>Where the numbers come from</h4>\n");
    for (number, row) in table.rows.iter().enumerate() {
        let id = place(table, number);
        put!(out, "<details id=\"{id}\" class=\"from\"><summary>{}</summary>\n", escaped(&row.title));
        if let Some(outputs) = &page.outputs {
            let csv = quoted(&format!("{outputs}/{}.csv", table.stage));
            put!(
                out,
                "<pre><code>opdflow lineage {} --row {}</code></pre>\n",
                escaped(&csv),
                escaped(&quoted(&row.title))
            );
        }
        stages(page, row, out);
        out.push_str("</details>\n");
    }
}

fn stages(page: &Page, row: &Row, out: &mut String) {
    let above = page.above(&row.stages);
    if above.is_empty() {
        out.push_str("<p>The run's log does not say from which stages.</p>\n");
        return;
    }
    out.push_str("<div class=\"scroll\">\n<table>\n<thead><tr>");
    for name in ["stage", "seed", "key", "verdict", "command"] {
        put!(out, "<th scope=\"col\">{name}</th>");
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for stage in above {
        let seed = page.records.get(&stage.name).and_then(|r| r.manifest.get("seed")?.as_u64());
        let key = stage.key.map_or_else(String::new, |key| key.short());
        let path = &page.summary.started.path;
        let command = if path.is_empty() {
            String::new()
        } else {
            format!("opdflow explain {} {}", quoted(path), quoted(&stage.name))
        };
        put!(
            out,
            "<tr><th scope=\"row\"><a href=\"#stage-{}\">{}</a></th><td>{}</td><td><code>{key}</code></td><td>{}</td><td><code>{}</code></td></tr>\n",
            anchor(&stage.name),
            escaped(&stage.name),
            seed.map_or_else(String::new, |s| s.to_string()),
            stage.state.word(),
            escaped(&command)
        );
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
}
