//! Two runs on one page: in what they differ, their tables, their curves over each other, and their images side by side.

use super::content::Page;
use super::numbers::difference;
use super::write::{begin, end, put, time};
use super::{curves, html, images};
use crate::render::duration;
use crate::report::against::{Found, Pair, pairs};
use crate::report::numbers::Numbers;
use opdflow_io::xml::escaped;
use similar::{ChangeTag, TextDiff};

/// The page of two runs, A and B.
#[must_use]
pub fn page(mut first: Page, mut second: Page, served: bool) -> String {
    let title = format!("{} and {}", named(&first), named(&second));
    let mut out = begin(&title, served);
    head([&first, &second], &mut out);
    tables(&first, &second, &mut out);
    curves::of_two(&first, &second, &mut out);
    let sets = images::of_two(std::mem::take(&mut first.images), std::mem::take(&mut second.images));
    images::images(&sets, &first.folder, &mut out);
    if !sets.is_empty() {
        images::dialog(&mut out);
    }
    stages(&first, &second, &mut out);
    recipes(&first, &second, &mut out);
    out.push_str("</main>\n");
    end(&mut out);
    out
}

fn named(page: &Page) -> String {
    if page.run.is_empty() { page.summary.started.recipe.clone() } else { page.run.clone() }
}

/// What is said of a run, in words.
type Fact = fn(&Page) -> String;

fn head(both: [&Page; 2], out: &mut String) {
    put!(
        out,
        "<header>\n<h1>Two runs</h1>\n<div class=\"scroll\">\n<table>\n<thead><tr><th scope=\"col\"></th><th scope=\"col\" class=\"first-line\">A</th><th scope=\"col\" class=\"second-line\">B</th></tr></thead>\n<tbody>\n"
    );
    let facts: [(&str, Fact); 9] = [
        ("recipe", |p| p.summary.started.recipe.clone()),
        ("run", |p| p.run.clone()),
        ("state", html::state),
        ("began", |p| time(p.summary.began)),
        ("took", |p| duration(p.summary.ended.map_or(p.summary.last - p.summary.began, |(_, seconds)| seconds))),
        ("CPU time of all results", |p| {
            duration(p.summary.stages.iter().filter_map(|s| p.measured(&s.name, "cpu_seconds")).sum())
        }),
        ("seed", |p| p.summary.started.seed.to_string()),
        ("program", |p| p.summary.started.version.clone()),
        ("command", |p| p.summary.started.argv.join(" ")),
    ];
    for (name, of) in facts {
        let [a, b] = both.map(of);
        if !(a.is_empty() && b.is_empty()) {
            put!(out, "<tr><th scope=\"row\">{name}</th><td>{}</td><td>{}</td></tr>\n", escaped(&a), escaped(&b));
        }
    }
    out.push_str("</tbody>\n</table>\n</div>\n<nav aria-label=\"parts of the page\">");
    for (id, name) in
        [("results", "Results"), ("curves", "Curves"), ("images", "Images"), ("stages", "Stages"), ("recipe", "Recipe")]
    {
        put!(out, "<a href=\"#{id}\">{name}</a>");
    }
    out.push_str("</nav>\n</header>\n<main>\n");
    let notes: Vec<String> = ["A", "B"]
        .iter()
        .zip(both)
        .flat_map(|(run, page)| html::notes(page).into_iter().map(move |note| format!("{run}: {note}")))
        .collect();
    html::noted(&notes, out);
}

fn tables(first: &Page, second: &Page, out: &mut String) {
    out.push_str("<section id=\"results\">\n<h2>Results</h2>\n");
    let both = first.numbers.iter().filter_map(|a| Some((a, second.numbers.iter().find(|b| b.stage == a.stage)?)));
    let both: Vec<(&Numbers, &Numbers)> = both.collect();
    if both.is_empty() {
        out.push_str("<p>There is no table that both runs have.</p>\n");
    }
    for (a, b) in both {
        table(a, b, out);
    }
    out.push_str("</section>\n");
}

/// Rows of the same title and columns of the same name, with B less A.
fn table(a: &Numbers, b: &Numbers, out: &mut String) {
    put!(out, "<h3>{}</h3>\n", escaped(if a.title.is_empty() { &a.stage } else { &a.title }));
    out.push_str("<p>A, B, and B less A with half of its 95 % interval as if both were independent; ▲ higher and ▼ lower than can be told from chance.</p>\n");
    let columns: Vec<(usize, usize)> = a
        .columns
        .iter()
        .enumerate()
        .filter_map(|(i, name)| Some((i, b.columns.iter().position(|other| other == name)?)))
        .collect();
    out.push_str("<div class=\"scroll\">\n<table class=\"numbers\">\n<thead><tr><th scope=\"col\">model</th><th scope=\"col\"></th>");
    for (i, _) in &columns {
        put!(out, "<th scope=\"col\">{}</th>", escaped(&a.columns[*i]));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in &a.rows {
        let Some(other) = b.rows.iter().find(|r| r.title == row.title) else {
            put!(out, "<tr><th scope=\"row\">{}</th><td>only in A</td></tr>\n", escaped(&row.title));
            continue;
        };
        for (name, of, at) in [("A", row, 0), ("B", other, 1)] {
            let title = if at == 0 { escaped(&row.title) } else { String::new() };
            put!(out, "<tr><th scope=\"row\">{title}</th><td>{name}</td>");
            for (i, j) in &columns {
                let cell = of.cells.get(if at == 0 { *i } else { *j }).copied().flatten();
                let words = cell.map_or_else(String::new, |c| format!("{:.3}", c.mean));
                put!(out, "<td data-value=\"{}\">{words}</td>", cell.map_or_else(String::new, |c| c.mean.to_string()));
            }
            out.push_str("</tr>\n");
        }
        out.push_str("<tr class=\"difference\"><th scope=\"row\"></th><td>B − A</td>");
        for (i, j) in &columns {
            match (row.cells.get(*i).copied().flatten(), other.cells.get(*j).copied().flatten()) {
                (Some(old), Some(new)) => difference(&new, &old, out),
                _ => out.push_str("<td></td>"),
            }
        }
        out.push_str("</tr>\n");
    }
    for row in b.rows.iter().filter(|r| !a.rows.iter().any(|other| other.title == r.title)) {
        put!(out, "<tr><th scope=\"row\">{}</th><td>only in B</td></tr>\n", escaped(&row.title));
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
}

/// Longest value of a field that is shown whole.
const LONGEST: usize = 200;

fn stages(first: &Page, second: &Page, out: &mut String) {
    let order = [first, second].map(|p| p.summary.stages.iter().map(|s| s.name.clone()).collect::<Vec<_>>());
    let all = pairs([&order[0], &order[1]], [&first.known(), &second.known()]);
    let same = all.iter().filter(|p| p.found == Found::Same).count();
    put!(
        out,
        "<section id=\"stages\">\n<h2>Stages</h2>\n<p>{same} of {} are the same result in both runs. Of the others:</p>\n\
         <div class=\"scroll\">\n<table>\n<thead><tr><th scope=\"col\">stage</th><th scope=\"col\">what differs</th><th scope=\"col\">A</th><th scope=\"col\">B</th></tr></thead>\n<tbody>\n",
        all.len()
    );
    for Pair { stage, found } in all.iter().filter(|p| p.found != Found::Same) {
        let name = escaped(stage);
        let row = |what: &str, a: &str, b: &str, first: bool, out: &mut String| {
            let head = if first { name.as_str() } else { "" };
            let cut = |text: &str| opdflow_io::terminal::cut(text, LONGEST).into_owned();
            put!(
                out,
                "<tr><th scope=\"row\">{head}</th><td>{}</td><td><code>{}</code></td><td><code>{}</code></td></tr>\n",
                escaped(what),
                escaped(&cut(a)),
                escaped(&cut(b))
            );
        };
        match found {
            Found::Same => {}
            Found::First => row("only A has it", "", "", true, out),
            Found::Second => row("only B has it", "", "", true, out),
            Found::Unknown => row("not known: one of them has no result", "", "", true, out),
            Found::Other(fields) if fields.is_empty() => row("nothing that their records have", "", "", true, out),
            Found::Other(fields) => {
                fields.iter().enumerate().for_each(|(i, [field, a, b])| row(field, a, b, i == 0, out));
            }
        }
    }
    out.push_str("</tbody>\n</table>\n</div>\n</section>\n");
}

fn recipes(first: &Page, second: &Page, out: &mut String) {
    let (Some(a), Some(b)) = (&first.recipe, &second.recipe) else { return };
    out.push_str("<section id=\"recipe\">\n<h2>Recipe</h2>\n");
    if a == b {
        out.push_str("<p>Both runs have the same text; what was set on the command line is above.</p>\n</section>\n");
        return;
    }
    out.push_str("<pre class=\"diff\"><code>");
    let diff = TextDiff::from_lines(a.as_str(), b.as_str());
    for (number, operations) in diff.grouped_ops(3).iter().enumerate() {
        if number > 0 {
            out.push_str("⋯\n");
        }
        for change in operations.iter().flat_map(|op| diff.iter_changes(op).collect::<Vec<_>>()) {
            let (sign, class) = match change.tag() {
                ChangeTag::Delete => ("-", "worse"),
                ChangeTag::Insert => ("+", "better"),
                ChangeTag::Equal => (" ", "same"),
            };
            let line = change.value().trim_end_matches('\n');
            put!(out, "<span class=\"{class}\">{sign} {}</span>\n", escaped(line));
        }
    }
    out.push_str("</code></pre>\n</section>\n");
}
