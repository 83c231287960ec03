//! A table as Markdown, CSV and LaTeX.

use super::form::Form;
use super::multiples::{in_units, unit};
use super::published::{Column, Comparison};
use super::row::Row;
use crate::report::seeds::Cell;
use opdflow_io::markdown::Side;
use opdflow_io::{csv, latex, markdown};
use opdflow_kinds::judging::held_out;
use opdflow_kinds::stages::table::published::SECONDS;
use std::fmt::Write as _;

/// Whether no row is better in this column than row `i`, which is then set in bold; of equal ones all are.
fn best(form: &Form, column: usize, i: usize) -> bool {
    let value = |r: &Row| r.cells[column].map(|c| c.mean);
    value(&form.rows[i]).is_some_and(|own| form.rows.iter().filter_map(value).all(|other| own >= other))
}

/// The last component of a column's name: `looks.contrast` is headed `contrast`. What is held out keeps its whole name: a
/// reward of the same name may stand beside it.
fn head(column: &str) -> &str {
    match column.rsplit_once('.') {
        Some((held_out::PORT, _)) | None => column,
        Some((_, last)) => last,
    }
}

/// The heads of all columns.
fn heads_of(form: &Form) -> Vec<&str> {
    form.columns.iter().map(|column| head(column)).collect()
}

/// The largest standard error of a column over prompts, such as `geneval 0.031`. Of one prompt there is none.
fn largest_error(form: &Form, column: usize) -> Option<String> {
    let cells = form.rows.iter().filter_map(|row| row.cells[column]).filter(|c| c.seeds.is_none() && c.n > 1);
    let largest = cells.map(|c| c.error).max_by(f64::total_cmp)?;
    Some(format!("{} {largest:.3}", markdown::escaped(head(&form.columns[column]))))
}

/// A column of what the machine spent: its head, its name in CSV, its number.
type Spent = (&'static str, &'static str, fn(&Row) -> Option<f64>);

/// Those that the rows fill: CPU seconds where something was trained without a GPU, GPU seconds where with one. A busy
/// machine stretches wall seconds, not these.
fn spent(form: &Form) -> Vec<Spent> {
    let on_cpu: Spent = ("cpu s", "cpu_seconds", |r| r.cpu_seconds.filter(|_| r.gpu_seconds.is_none()));
    let on_gpu: Spent = ("gpu s", "gpu_seconds", |r| r.gpu_seconds);
    [on_cpu, on_gpu].into_iter().filter(|(.., of)| form.rows.iter().any(|r| of(r).is_some())).collect()
}

fn whole(seconds: Option<f64>, none: &str) -> String {
    seconds.map_or_else(|| none.to_owned(), |s| format!("{s:.0}"))
}

/// Whether any row says how many gradients it took.
fn counted(form: &Form) -> bool {
    form.rows.iter().any(|r| r.gradients.is_some())
}

/// Thousands of gradients.
fn thousands(row: &Row) -> String {
    row.gradients.map_or_else(|| "–".to_owned(), |g| format!("{:.0}", g as f64 / 1000.0))
}

/// The unit of the column of operations, if a row has them: such that the smallest is one or more.
fn unit_of(form: &Form) -> Option<(&'static str, f64)> {
    form.rows.iter().filter_map(|r| r.operations).filter(|n| *n > 0.0).min_by(f64::total_cmp).map(unit)
}

/// Operations in such a unit.
fn operations(row: &Row, one: f64) -> String {
    row.operations.map_or_else(|| "–".to_owned(), |n| in_units(n, one))
}

/// A cell's mean, and half of its interval over seeds if there is one.
fn value(cell: &Cell) -> (String, Option<String>) {
    (format!("{:.3}", cell.mean), cell.interval.map(|half| format!("{half:.3}")))
}

/// GitHub Markdown; the best of each column in bold. Published numbers follow in a table of their own.
pub fn markdown(form: &Form) -> String {
    use markdown::Cell;
    let mut text = String::new();
    if !form.title.is_empty() {
        let _ = writeln!(text, "### {}\n", markdown::escaped(&form.title));
    }
    let heads = std::iter::once("train s")
        .chain(spent(form).iter().map(|(head, ..)| *head).collect::<Vec<_>>())
        .chain(counted(form).then_some("grads k"))
        .chain(unit_of(form).map(|(name, _)| name))
        .chain(form.columns.iter().map(|c| head(c)))
        .chain(["avg"]);
    let mut table = markdown::Table::new(
        std::iter::once((Cell::text("model"), Side::Left)).chain(heads.map(|h| (Cell::text(h), Side::Right))),
    );
    for (i, row) in form.rows.iter().enumerate() {
        let mut line = vec![Cell::text(&row.title), Cell::markup(whole(row.seconds, "–"))];
        line.extend(spent(form).iter().map(|(.., of)| Cell::markup(whole(of(row), "–"))));
        line.extend(counted(form).then(|| Cell::markup(thousands(row))));
        line.extend(unit_of(form).map(|(_, one)| Cell::markup(operations(row, one))));
        for (c, cell) in row.cells.iter().enumerate() {
            let (mean, half) = cell.as_ref().map_or_else(Default::default, value);
            let mean = if best(form, c, i) && !mean.is_empty() { format!("**{mean}**") } else { mean };
            line.push(Cell::markup(half.map_or_else(|| mean.clone(), |half| format!("{mean} ± {half}"))));
        }
        line.push(Cell::markup(row.average.map_or_else(String::new, |a| format!("{a:.3}"))));
        table.row(line);
    }
    text += &table.finish();
    text += &notes(form);
    text += &form.differences.as_ref().map_or_else(String::new, |d| d.markdown(&heads_of(form)));
    text += &form.published.as_ref().map_or_else(String::new, beside);
    text
}

/// Published numbers, ours beside each.
fn beside(comparison: &Comparison) -> String {
    use markdown::Cell;
    let source = markdown::escaped(&comparison.source);
    let mut text = format!("\nBeside the published numbers ({source}):\n\n");
    let heads = comparison.columns.iter().flat_map(|c| [c.published.clone(), format!("our {}", head(&c.column))]);
    let heads = heads.map(|h| (Cell::text(&h), Side::Right));
    let mut table = markdown::Table::new(std::iter::once((Cell::text("model"), Side::Left)).chain(heads));
    for row in &comparison.rows {
        let mut line = vec![Cell::text(&row.title)];
        for (column, (published, ours)) in comparison.columns.iter().zip(&row.cells) {
            line.push(Cell::markup(published.map_or_else(|| "–".to_owned(), |v| v.to_string())));
            let places = if column.column == SECONDS { 0 } else { 3 };
            line.push(Cell::markup(ours.map_or_else(|| "–".to_owned(), |v| format!("{v:.places$}"))));
        }
        table.row(line);
    }
    text += &table.finish();
    text += "\nOrder of the rows, by pairs whose published numbers differ. Two rows are not told apart where the difference of ours is within both 95 % intervals.\n\n";
    for column in &comparison.columns {
        let _ = writeln!(text, "- {}: {}.", markdown::escaped(&column.published), column.words());
    }
    text
}

/// What is said of the rows' budgets, a sentence each.
fn compared(form: &Form) -> impl Iterator<Item = String> {
    let gradients = form.budget.as_ref().map(|budget| budget.words());
    gradients.into_iter().chain(form.multiples.as_ref().map(|multiples| multiples.words()))
}

/// What the columns mean, below the table.
fn notes(form: &Form) -> String {
    let mut text = format!(
        "\navg: mean of {}, each mapped to 0 at its lowest row and 1 at its highest.",
        form.averaged.iter().map(|c| markdown::escaped(head(c))).collect::<Vec<_>>().join(", ")
    );
    if form.seeds() > 1 {
        let _ = write!(text, " ±: half of the mean's 95 % interval over {} seeds (Student's t).", form.seeds());
    }
    let errors: Vec<String> = (0..form.columns.len()).filter_map(|column| largest_error(form, column)).collect();
    if !errors.is_empty() {
        let of = if form.seeds() > 1 {
            "Standard errors of the other rows over prompts"
        } else {
            "Standard errors over prompts"
        };
        let _ = write!(text, " {of} are at most {}.", errors.join(", "));
    }
    for (head, name, _) in spent(form) {
        let what =
            if name == "cpu_seconds" { "CPU seconds, over all threads" } else { "seconds in which a GPU was held" };
        let _ = write!(text, " {head}: {what}.");
    }
    if !spent(form).is_empty() {
        text += " train s is wall time, which a busy machine stretches.";
    }
    if counted(form) {
        text += " grads k: thousands of gradients in training, each of one image at one noise level.";
    }
    if let Some((name, one)) = unit_of(form) {
        let zeros = one.log10().round();
        let _ =
            write!(text, " {name}: 10^{zeros} floating-point operations in training, of all that the row stands on.");
    }
    text += "\n";
    for words in compared(form) {
        text += &words;
        text += "\n";
    }
    if !form.kept.is_empty() {
        let shares: Vec<String> = form
            .kept
            .iter()
            .map(|(name, share)| {
                let column = markdown::escaped(head(name));
                if share.is_nan() {
                    format!("{column} – (the teacher gained nothing)")
                } else {
                    format!("{column} {:.0}%{}", share * 100.0, by_seed(form.kept_by_seed.get(name)))
                }
            })
            .collect();
        let _ = writeln!(text, "The student keeps of its teachers' gains over the base: {}.", shares.join(", "));
    }
    text
}

/// The shares of each seed, as an aside.
fn by_seed(shares: Option<&Vec<f64>>) -> String {
    let each = |share: &f64| if share.is_nan() { "–".to_owned() } else { format!("{:.0}%", share * 100.0) };
    shares.map_or_else(String::new, |all| format!(" ({})", all.iter().map(each).collect::<Vec<_>>().join(", ")))
}

/// RFC 4180; the first column is `model`, then `seconds`, `cpu_seconds`, `gpu_seconds`, `gradients` and `operations` if known, the columns under their full names, `avg`.
/// After these, half of each column's interval if there are several seeds, by how much the row that is compared is ahead of this one
/// with half of that interval, and published numbers if there are any.
pub fn csv(form: &Form) -> String {
    let mut heads = vec!["model".to_owned(), SECONDS.to_owned()];
    heads.extend(spent(form).iter().map(|(_, name, _)| (*name).to_owned()));
    heads.extend(counted(form).then(|| "gradients".to_owned()));
    heads.extend(unit_of(form).map(|_| "operations".to_owned()));
    heads.extend(form.columns.iter().cloned());
    heads.push("avg".to_owned());
    if form.seeds() > 1 {
        heads.extend(form.columns.iter().map(|c| format!("{c}.interval")));
    }
    if form.differences.is_some() {
        heads.extend(form.columns.iter().flat_map(|c| [format!("{c}.difference"), format!("{c}.difference.interval")]));
    }
    let published = form.published.as_ref();
    heads.extend(published.iter().flat_map(|p| &p.columns).map(|c| format!("published.{}", c.column)));
    let mut table = csv::Table::new(heads);
    for row in &form.rows {
        let number = |value: Option<f64>| value.map_or_else(String::new, |v| format!("{v:.6}"));
        let tenths = |seconds: Option<f64>| seconds.map_or_else(String::new, |s| format!("{s:.1}"));
        let mut line = vec![row.title.clone(), tenths(row.seconds)];
        line.extend(spent(form).iter().map(|(.., of)| tenths(of(row))));
        line.extend(counted(form).then(|| row.gradients.map_or_else(String::new, |g| g.to_string())));
        line.extend(unit_of(form).map(|_| row.operations.map_or_else(String::new, |n| format!("{n:e}"))));
        line.extend(row.cells.iter().map(|c| number(c.map(|c| c.mean))));
        line.push(number(row.average));
        if form.seeds() > 1 {
            line.extend(row.cells.iter().map(|c| number(c.and_then(|c| c.interval))));
        }
        if let Some(differences) = &form.differences {
            let own = differences.rows.iter().find(|line| line.title == row.title);
            let cell = |place: usize| own.and_then(|line| line.cells[place]);
            let pair = |place| [number(cell(place).map(|d| d.mean)), number(cell(place).and_then(|d| d.half))];
            line.extend((0..form.columns.len()).flat_map(pair));
        }
        if let Some(published) = published {
            let own = published.rows.iter().find(|r| r.title == row.title);
            let of = |place: usize| own.and_then(|r| r.cells[place].0).map_or_else(String::new, |v| v.to_string());
            line.extend((0..published.columns.len()).map(of));
        }
        table.row(line);
    }
    table.finish()
}

/// A `tabular` for booktabs; the best of each column in bold. Published numbers follow in one of their own, whose last
/// line counts the pairs of rows in the same order.
pub fn latex(form: &Form) -> String {
    use latex::Cell;
    let known = usize::from(counted(form)) + usize::from(unit_of(form).is_some());
    let columns = form.columns.len() + 2 + known + spent(form).len();
    let heads = ["model", "train s"]
        .into_iter()
        .chain(spent(form).iter().map(|(head, ..)| *head).collect::<Vec<_>>())
        .chain(counted(form).then_some("grads k"))
        .chain(unit_of(form).map(|(name, _)| name))
        .chain(form.columns.iter().map(|c| head(c)))
        .chain(["avg"]);
    let mut table = latex::Tabular::new(&form.title, &format!("l{}", "r".repeat(columns)), heads.map(Cell::text));
    for (i, row) in form.rows.iter().enumerate() {
        let mut cells = vec![Cell::text(&row.title), Cell::markup(whole(row.seconds, "--"))];
        cells.extend(spent(form).iter().map(|(.., of)| Cell::markup(whole(of(row), "--"))));
        cells.extend(counted(form).then(|| Cell::markup(thousands(row).replace('–', "--"))));
        cells.extend(unit_of(form).map(|(_, one)| Cell::markup(operations(row, one).replace('–', "--"))));
        for (c, cell) in row.cells.iter().enumerate() {
            let (mean, half) = cell.as_ref().map_or_else(Default::default, value);
            let bold = best(form, c, i) && !mean.is_empty();
            let mean = if bold { format!("\\textbf{{{mean}}}") } else { mean };
            cells.push(Cell::markup(half.map_or_else(|| mean.clone(), |half| format!("{mean} $\\pm$ {half}"))));
        }
        cells.push(Cell::markup(row.average.map_or_else(String::new, |a| format!("{a:.3}"))));
        table.row(cells);
    }
    let mut text = table.finish();
    compared(form).for_each(|words| text += &latex::comment(&words));
    text += &form.differences.as_ref().map_or_else(String::new, |d| d.latex(&heads_of(form)));
    text += &form.published.as_ref().map_or_else(String::new, latex_beside);
    latex::file(&text)
}

fn latex_beside(comparison: &Comparison) -> String {
    use latex::Cell;
    let heads = std::iter::once("model".to_owned())
        .chain(comparison.columns.iter().flat_map(|c| [c.published.clone(), format!("our {}", head(&c.column))]));
    let columns = format!("l{}", "rr".repeat(comparison.columns.len()));
    let about = format!("Beside {}", comparison.source);
    let mut table = latex::Tabular::new(&about, &columns, heads.map(|h| Cell::text(&h)));
    for row in &comparison.rows {
        let mut cells = vec![Cell::text(&row.title)];
        for (column, (published, ours)) in comparison.columns.iter().zip(&row.cells) {
            let places = if column.column == SECONDS { 0 } else { 3 };
            cells.push(Cell::markup(published.map_or_else(|| "--".to_owned(), |v| v.to_string())));
            cells.push(Cell::markup(ours.map_or_else(|| "--".to_owned(), |v| format!("{v:.places$}"))));
        }
        table.row(cells);
    }
    table.rule();
    let pairs = |c: &Column| Cell::markup(format!("\\multicolumn{{2}}{{r}}{{{} of {}}}", c.alike, c.pairs));
    table.row(std::iter::once(Cell::text("pairs in the same order")).chain(comparison.columns.iter().map(pairs)));
    format!("\n{}", table.finish())
}

#[cfg(test)]
mod tests {
    use super::super::differences::tests::differences;
    use super::super::form::tests::form;
    use super::super::published::tests::compared;

    #[test]
    fn markdown() {
        let text = super::markdown(&form());
        assert!(text.contains("| model       | train s |   geneval |       ocr |   avg |"), "{text}");
        assert!(text.contains("| ocr_teacher |      61 |     0.400 | **0.900** | 0.500 |"), "{text}");
        assert!(text.contains("ocr 75%"), "{text}");
    }

    #[test]
    fn differences_follow_in_every_form() {
        let mut form = form();
        form.differences = Some(differences());
        form.kept_by_seed.insert("ocr".to_owned(), vec![0.704, f64::NAN]);
        let text = super::markdown(&form);
        assert!(text.contains("ocr 75% (70%, –)") && text.contains("| student minus |"), "{text}");
        assert!(super::latex(&form).contains("student minus & geneval & ocr"), "{}", super::latex(&form));
        let csv = super::csv(&form);
        let heads = "avg,geneval.difference,geneval.difference.interval,ocr.difference,ocr.difference.interval";
        assert!(csv.lines().next().unwrap().ends_with(heads), "{csv}");
        assert!(csv.lines().any(|line| line.starts_with("student,") && line.ends_with(",,,,")), "{csv}");
    }

    #[test]
    fn of_equal_rows_all_are_bold() {
        let mut form = form();
        form.rows[0].cells[1] = form.rows[1].cells[1];
        let (text, latex) = (super::markdown(&form), super::latex(&form));
        assert_eq!(text.matches("**0.900**").count(), 2, "{text}");
        assert_eq!(latex.matches("\\textbf{0.900}").count(), 2, "{latex}");
    }

    #[test]
    fn what_is_held_out_is_headed_by_its_whole_name() {
        let heads = ["geneval", "looks.contrast", "clipscore", "held_out.clipscore"].map(super::head);
        assert_eq!(heads, ["geneval", "contrast", "clipscore", "held_out.clipscore"]);
    }

    #[test]
    fn gradients_have_a_column_once_they_are_known() {
        let mut form = form();
        form.rows[1].gradients = Some(40_320);
        assert!(super::csv(&form).contains("model,seconds,gradients,geneval"), "{}", super::csv(&form));
        assert!(super::csv(&form).contains("base,,,0.400000") && super::csv(&form).contains("ocr_teacher,61.4,40320,"));
        assert!(super::markdown(&form).contains("| ocr_teacher |      61 |      40 |"), "{}", super::markdown(&form));
        let latex = super::latex(&form);
        assert!(latex.contains("{lrrrrr}") && latex.contains("train s & grads k & geneval"), "{latex}");
        assert!(
            latex.contains("base & -- & -- & 0.400") && latex.contains("ocr\\_teacher & 61 & 40 & 0.400"),
            "{latex}"
        );
    }

    #[test]
    fn operations_have_a_column_where_the_table_is_asked_for_them() {
        let mut form = form();
        (form.rows[1].operations, form.rows[2].operations) = (Some(20.5e12), Some(1.25e15));
        let text = super::markdown(&form);
        assert!(text.contains("| model       | train s | TFLOP |   geneval |"), "{text}");
        assert!(text.contains("| base        |       – |     – |"), "{text}");
        assert!(text.contains("|      61 |  20.5 |") && text.contains("|     100 |  1250 |"), "{text}");
        assert!(text.contains(" TFLOP: 10^12 floating-point operations in training"), "{text}");
        let csv = super::csv(&form);
        assert!(csv.starts_with("model,seconds,operations,geneval") && csv.contains("student,100.0,1.25e15,"), "{csv}");
        let latex = super::latex(&form);
        assert!(latex.contains("{lrrrrr}") && latex.contains("base & -- & -- & 0.400"), "{latex}");
    }

    #[test]
    fn what_the_machine_spent_stands_beside_the_wall_time() {
        let mut form = form();
        (form.rows[1].cpu_seconds, form.rows[2].cpu_seconds) = (Some(58.6), Some(190.0));
        let text = super::markdown(&form);
        assert!(text.contains("| model       | train s | cpu s |   geneval |"), "{text}");
        assert!(text.contains("| ocr_teacher |      61 |    59 |     0.400 |"), "{text}");
        assert!(text.contains("| base        |       – |     – |"), "{text}");
        assert!(text.contains("cpu s: CPU seconds, over all threads. train s is wall time"), "{text}");
        let csv = super::csv(&form);
        assert!(
            csv.starts_with("model,seconds,cpu_seconds,geneval") && csv.contains("ocr_teacher,61.4,58.6,"),
            "{csv}"
        );
        let latex = super::latex(&form);
        assert!(latex.contains("{lrrrrr}") && latex.contains("train s & cpu s & geneval"), "{latex}");
        assert!(latex.contains("base & -- & -- & 0.400") && latex.contains("ocr\\_teacher & 61 & 59 & "), "{latex}");
        // On a GPU its seconds count, and those of the CPU beside it say little.
        (form.rows[2].gpu_seconds, form.rows[1].cpu_seconds) = (Some(95.0), None);
        assert!(super::csv(&form).starts_with("model,seconds,gpu_seconds,geneval"), "{}", super::csv(&form));
        assert!(super::markdown(&form).contains("| student     |     100 |    95 |"), "{}", super::markdown(&form));
    }

    #[test]
    fn budgets_stand_below_the_table() {
        let mut form = form();
        assert!(!super::markdown(&form).contains("budgets"));
        (form.rows[1].gradients, form.rows[2].gradients) = (Some(1000), Some(2000));
        form.budget = super::super::budget::Budget::of(form.rows[1..].iter());
        let words = form.budget.as_ref().unwrap().words();
        assert!(words.starts_with("Unequal budgets: of `ocr_teacher` and `student`, `ocr_teacher`"), "{words}");
        assert!(super::markdown(&form).contains(&format!("\n{words}\n")), "{}", super::markdown(&form));
        assert!(super::latex(&form).ends_with(&format!("\n% {words}\n")), "{}", super::latex(&form));
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

    #[test]
    fn several_seeds_show_their_interval() {
        let mut form = form();
        let cell = form.rows[2].cells[1].as_mut().unwrap();
        (cell.seeds, cell.interval) = (Some(5), Some(0.0125));
        let text = super::markdown(&form);
        assert!(text.contains("| student     |     100 | **0.600** | 0.800 ± 0.013 | 0.875 |"), "{text}");
        assert!(text.contains("95 % interval over 5 seeds"), "{text}");
        assert!(super::csv(&form).starts_with("model,seconds,geneval,ocr,avg,geneval.interval,ocr.interval\n"));
        assert!(super::csv(&form).ends_with("student,100.0,0.600000,0.800000,0.875000,,0.012500\n"));
        assert!(super::latex(&form).contains("\\textbf{0.600} & 0.800 $\\pm$ 0.013 & 0.875 \\\\"));
    }

    #[test]
    fn published_numbers_leave_the_table_as_it_is() {
        let (plain, with) = (form(), compared());
        let text = super::markdown(&with);
        let rest = text.strip_prefix(&super::markdown(&plain)).unwrap_or_else(|| panic!("{text}"));
        assert!(rest.contains("| model       | hours | our seconds | GenEval | our geneval |"), "{rest}");
        assert!(rest.contains("| ocr_teacher |    33 |          61 |    0.65 |       0.400 |"), "{rest}");
        assert!(rest.contains("| base        |     – |           – |    0.24 |       0.400 |"), "{rest}");
        assert!(rest.contains("- GenEval: 1 of 3 pairs"), "{rest}");
        let csv = super::csv(&with);
        assert!(csv.starts_with("model,seconds,geneval,ocr,avg,published.seconds,published.geneval\n"), "{csv}");
        assert!(csv.contains("ocr_teacher,61.4,0.400000,0.900000,0.500000,33,0.65\n"), "{csv}");
        let latex = super::latex(&with);
        let rest = latex.strip_prefix(&super::latex(&plain)).unwrap_or_else(|| panic!("{latex}"));
        assert!(rest.contains("ocr\\_teacher & 33 & 61 & 0.65 & 0.400 \\\\"), "{rest}");
        assert!(rest.contains("& \\multicolumn{2}{r}{1 of 3} \\\\"), "{rest}");
    }

    /// Titles that are no plain words stay in their cells, in each format.
    #[test]
    fn titles_cannot_leave_their_place() {
        let mut form = form();
        form.title = "a | b\n# c \\end{tabular}".into();
        form.rows[0].title = "[2] base | \\input{x}\nline, =1".into();
        form.rows[1].title = "=1+1".into();
        let text = super::markdown(&form);
        assert!(text.starts_with("### a \\| b # c \\\\end{tabular}\n\n|"), "{text}");
        assert!(text.contains("\n| \\[2\\] base \\| \\\\input{x} line, =1 |"), "{text}");
        let bars = |l: &str| l.replace("\\|", "").matches('|').count();
        let table: Vec<&str> = text.lines().filter(|l| l.starts_with('|')).collect();
        assert!(table.len() == 5 && table.iter().all(|l| bars(l) == 6), "{text}");
        let csv = opdflow_io::csv::read(&super::csv(&form)).unwrap();
        assert_eq!(
            csv.iter().map(|r| r[0].as_str()).collect::<Vec<_>>()[1..3],
            ["[2] base | \\input{x}\nline, =1", "=1+1"]
        );
        assert!(super::csv(&form).contains("\n'=1+1,61.4"), "{}", super::csv(&form));
        let latex = super::latex(&form);
        assert!(latex.starts_with("% a | b # c \\end{tabular}\n\\begin{tabular}"), "{latex}");
        let row = "\n{[}2{]} base \\textbar{} \\textbackslash{}input\\{x\\} line, =1 & -- & 0.400";
        assert!(latex.contains(row) && latex.matches("\\\\\n").count() == 4, "{latex}");
    }
}
