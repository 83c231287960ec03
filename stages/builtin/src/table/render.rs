//! A table as Markdown, CSV and LaTeX.

use super::form::{Form, Row};
use std::fmt::Write as _;

/// The best row of each column, to be set in bold.
fn best(form: &Form, column: usize) -> Option<usize> {
    let value = |r: &Row| r.cells[column].map(|c| c.mean);
    form.rows
        .iter()
        .enumerate()
        .filter_map(|(i, r)| Some((i, value(r)?)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(i, _)| i)
}

/// The last component of a column's name: `looks.contrast` is headed `contrast`.
fn head(column: &str) -> &str {
    column.rsplit('.').next().unwrap_or(column)
}

fn seconds(row: &Row) -> String {
    row.seconds.map_or_else(|| "–".to_owned(), |s| format!("{s:.0}"))
}

/// Whether any row says how many gradients it took.
fn counted(form: &Form) -> bool {
    form.rows.iter().any(|r| r.gradients.is_some())
}

/// Thousands of gradients.
fn thousands(row: &Row) -> String {
    row.gradients.map_or_else(|| "–".to_owned(), |g| format!("{:.0}", g as f64 / 1000.0))
}

/// GitHub Markdown; the best of each column in bold.
pub fn markdown(form: &Form) -> String {
    let mut text = String::new();
    if !form.title.is_empty() {
        let _ = writeln!(text, "### {}\n", form.title);
    }
    let mut lines: Vec<Vec<String>> = vec![
        ["model", "train s"]
            .into_iter()
            .chain(counted(form).then_some("grads k"))
            .chain(form.columns.iter().map(|c| head(c)))
            .chain(["avg"])
            .map(str::to_owned)
            .collect(),
    ];
    for (i, row) in form.rows.iter().enumerate() {
        let mut line = vec![row.title.clone(), seconds(row)];
        line.extend(counted(form).then(|| thousands(row)));
        for (c, cell) in row.cells.iter().enumerate() {
            let text = cell.map_or_else(String::new, |x| format!("{:.3}", x.mean));
            line.push(if best(form, c) == Some(i) && !text.is_empty() { format!("**{text}**") } else { text });
        }
        line.push(row.average.map_or_else(String::new, |a| format!("{a:.3}")));
        lines.push(line);
    }
    let widths: Vec<usize> =
        (0..lines[0].len()).map(|c| lines.iter().map(|l| l[c].chars().count()).max().unwrap_or(0).max(3)).collect();
    for (i, line) in lines.iter().enumerate() {
        text += "|";
        for (c, cell) in line.iter().enumerate() {
            let _ = if c == 0 {
                write!(text, " {cell:<w$} |", w = widths[c])
            } else {
                write!(text, " {cell:>w$} |", w = widths[c])
            };
        }
        text += "\n";
        if i == 0 {
            text += "|";
            for (c, w) in widths.iter().enumerate() {
                text += &if c == 0 { format!(":{}|", "-".repeat(w + 1)) } else { format!("{}:|", "-".repeat(w + 1)) };
            }
            text += "\n";
        }
    }
    text += &notes(form);
    text
}

/// What the columns mean, below the table.
fn notes(form: &Form) -> String {
    let mut text = format!(
        "\navg: mean of {}, each mapped to 0 at its lowest row and 1 at its highest.",
        form.averaged.iter().map(|c| head(c)).collect::<Vec<_>>().join(", ")
    );
    if let Some((largest, n)) = form
        .rows
        .iter()
        .flat_map(|r| r.cells.iter().flatten())
        .map(|c| (c.error, c.n))
        .max_by(|a, b| a.0.total_cmp(&b.0))
    {
        let _ = write!(text, " Standard errors are at most {largest:.3} ({n} prompts).");
    }
    if counted(form) {
        text += " grads k: thousands of gradients in training, each of one picture at one noise level.";
    }
    text += "\n";
    if !form.kept.is_empty() {
        let shares: Vec<String> = form
            .kept
            .iter()
            .map(|(c, s)| {
                if s.is_nan() {
                    format!("{} – (the teacher gained nothing)", head(c))
                } else {
                    format!("{} {:.0}%", head(c), s * 100.0)
                }
            })
            .collect();
        let _ = writeln!(text, "The student keeps of its teachers' gains over the base: {}.", shares.join(", "));
    }
    text
}

/// RFC 4180; the first column is `model`, then `seconds`, `gradients` if known, the columns under their full names, `avg`.
pub fn csv(form: &Form) -> String {
    let quoted =
        |s: &str| if s.contains([',', '"', '\n']) { format!("\"{}\"", s.replace('"', "\"\"")) } else { s.to_owned() };
    let mut text = String::from("model,seconds");
    if counted(form) {
        text += ",gradients";
    }
    for column in &form.columns {
        text += ",";
        text += &quoted(column);
    }
    text += ",avg\n";
    for row in &form.rows {
        text += &quoted(&row.title);
        let _ = write!(text, ",{}", row.seconds.map_or_else(String::new, |s| format!("{s:.1}")));
        if counted(form) {
            let _ = write!(text, ",{}", row.gradients.map_or_else(String::new, |g| g.to_string()));
        }
        for cell in &row.cells {
            let _ = write!(text, ",{}", cell.map_or_else(String::new, |c| format!("{:.6}", c.mean)));
        }
        let _ = writeln!(text, ",{}", row.average.map_or_else(String::new, |a| format!("{a:.6}")));
    }
    text
}

/// A `tabular` for booktabs; the best of each column in bold.
pub fn latex(form: &Form) -> String {
    let escaped = |s: &str| {
        let mut out = String::new();
        for c in s.chars() {
            match c {
                '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', c]),
                '~' => out += "\\textasciitilde{}",
                '^' => out += "\\textasciicircum{}",
                '\\' => out += "\\textbackslash{}",
                _ => out.push(c),
            }
        }
        out
    };
    let mut text =
        format!("% {}\n\\begin{{tabular}}{{l{}}}\n\\toprule\n", form.title, "r".repeat(form.columns.len() + 2));
    let heads: Vec<String> = form.columns.iter().map(|c| escaped(head(c))).collect();
    let _ = writeln!(text, "model & train s & {} & avg \\\\\n\\midrule", heads.join(" & "));
    for (i, row) in form.rows.iter().enumerate() {
        let mut cells = vec![escaped(&row.title), row.seconds.map_or_else(|| "--".to_owned(), |s| format!("{s:.0}"))];
        for (c, cell) in row.cells.iter().enumerate() {
            cells.push(cell.map_or_else(String::new, |x| {
                if best(form, c) == Some(i) { format!("\\textbf{{{:.3}}}", x.mean) } else { format!("{:.3}", x.mean) }
            }));
        }
        cells.push(row.average.map_or_else(String::new, |a| format!("{a:.3}")));
        let _ = writeln!(text, "{} \\\\", cells.join(" & "));
    }
    text += "\\bottomrule\n\\end{tabular}\n";
    text
}

#[cfg(test)]
mod tests {
    use super::super::form::tests::form;

    #[test]
    fn markdown() {
        let text = super::markdown(&form());
        assert!(text.contains("| model       | train s |   geneval |       ocr |   avg |"), "{text}");
        assert!(text.contains("| ocr_teacher |      61 |     0.400 | **0.900** | 0.500 |"), "{text}");
        assert!(text.contains("ocr 75%"), "{text}");
    }

    #[test]
    fn gradients_have_a_column_once_they_are_known() {
        let mut form = form();
        form.rows[1].gradients = Some(40_320);
        assert!(super::csv(&form).contains("model,seconds,gradients,geneval"), "{}", super::csv(&form));
        assert!(super::csv(&form).contains("base,,,0.400000") && super::csv(&form).contains("ocr_teacher,61.4,40320,"));
        assert!(super::markdown(&form).contains("| ocr_teacher |      61 |      40 |"), "{}", super::markdown(&form));
    }

    #[test]
    fn csv() {
        assert_eq!(
            super::csv(&form()),
            "model,seconds,geneval,ocr,avg\nbase,,0.400000,0.500000,0.000000\nocr_teacher,61.4,0.400000,0.900000,0.500000\nstudent,100.0,0.600000,0.800000,0.875000\n"
        );
    }

    #[test]
    fn latex() {
        let text = super::latex(&form());
        assert!(text.contains("ocr\\_teacher & 61 & 0.400 & \\textbf{0.900} & 0.500 \\\\"), "{text}");
    }
}
