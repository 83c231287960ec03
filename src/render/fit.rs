//! Markdown on a terminal: tables that are wider than it are cut into several, and words are not broken.

/// The text for a terminal of this width. A table that is too wide becomes several, each with the first column and with as many of the
/// others as find room; other lines are broken between words.
#[must_use]
pub fn fit(markdown: &str, width: usize) -> String {
    let mut out = String::new();
    let mut lines = markdown.lines().peekable();
    while let Some(line) = lines.next() {
        if !line.starts_with('|') {
            broken(line, width, &mut out);
            continue;
        }
        let mut table = vec![line];
        while let Some(next) = lines.next_if(|l| l.starts_with('|')) {
            table.push(next);
        }
        if table.iter().all(|l| l.chars().count() <= width) {
            table.iter().for_each(|l| out.push_str(&format!("{l}\n")));
        } else {
            split(&table, width, &mut out);
        }
    }
    out
}

/// A line broken between words; what follows a dash or blanks is set in as far.
fn broken(line: &str, width: usize, out: &mut String) {
    let indent = line.len() - line.trim_start_matches([' ', '-', '*']).len();
    let mut column = 0;
    for (i, word) in line.split(' ').enumerate() {
        let long = word.chars().count();
        if i > 0 && column + 1 + long > width && column > indent {
            out.push_str(&format!("\n{}", " ".repeat(indent)));
            column = indent;
        } else if i > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += long;
    }
    out.push('\n');
}

/// The cells of a row, without the blanks around them. A bar after a backslash is part of a cell.
fn cells(line: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut escaped = false;
    for c in line.trim().trim_start_matches('|').chars() {
        match c {
            '|' if !escaped => found.push(String::new()),
            _ => found.iter_mut().last().into_iter().for_each(|cell| cell.push(c)),
        }
        escaped = c == '\\' && !escaped;
    }
    // Behind the last bar there is nothing.
    if found.last().is_some_and(|cell| cell.trim().is_empty()) {
        found.pop();
    }
    found.into_iter().map(|cell| cell.trim().to_owned()).collect()
}

fn split(table: &[&str], width: usize, out: &mut String) {
    let rows: Vec<Vec<String>> = table.iter().map(|line| cells(line)).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &Vec<String>, c: usize| row.get(c).cloned().unwrap_or_default();
    let is_rule = |row: &Vec<String>| {
        !row.is_empty() && row.iter().all(|c| c.contains("--") && c.trim_matches(['-', ':']).is_empty())
    };
    let wide = |c: usize| {
        let all = rows.iter().filter(|row| !is_rule(row)).map(|row| cell(row, c).chars().count());
        all.max().unwrap_or(0).max(3)
    };
    let widths: Vec<usize> = (0..columns).map(wide).collect();
    let right: Vec<bool> =
        (0..columns).map(|c| rows.iter().any(|row| is_rule(row) && cell(row, c).ends_with(':'))).collect();
    let mut next = 1;
    while next < columns.max(2) {
        let mut shown = vec![0];
        let mut room = width.saturating_sub(widths.first().map_or(0, |w| w + 4));
        while next < columns && (shown.len() == 1 || widths[next] + 3 <= room) {
            room = room.saturating_sub(widths[next] + 3);
            shown.push(next);
            next += 1;
        }
        for row in &rows {
            let mut line = String::from("|");
            for &c in &shown {
                let wide = widths.get(c).copied().unwrap_or(3);
                if is_rule(row) {
                    let (from, to) = if right[c] { ("-", ":") } else { (":", "-") };
                    line.push_str(&format!("{from}{}{to}|", "-".repeat(wide)));
                } else if right[c] {
                    line.push_str(&format!(" {:>wide$} |", cell(row, c)));
                } else {
                    line.push_str(&format!(" {:wide$} |", cell(row, c)));
                }
            }
            out.push_str(&format!("{line}\n"));
        }
        if next < columns {
            out.push('\n');
        } else {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "| model | geneval | ocr | looks |\n|:------|--------:|----:|------:|\n| base, \\| x | 0.441 | 0.576 | **0.514** |\n| student | 0.602 | 0.852 | 0.590 |\n";

    #[test]
    fn a_table_that_finds_room_is_as_it_was() {
        assert_eq!(fit(TABLE, 100), TABLE);
        assert_eq!(fit("words\n\nmore\n", 100), "words\n\nmore\n");
    }

    #[test]
    fn a_wide_table_becomes_several_that_say_the_same() {
        let found = fit(TABLE, 36);
        assert!(found.lines().all(|l| l.chars().count() <= 36), "{found}");
        let parts: Vec<&str> = found.split("\n\n").collect();
        assert_eq!(parts.len(), 2, "{found}");
        assert!(
            parts[0].starts_with(
                "| model      | geneval |   ocr |\n|:-----------|--------:|------:|\n| base, \\| x |   0.441 | 0.576 |"
            ),
            "{found}"
        );
        assert!(
            parts[1].starts_with("| model      |     looks |\n") && parts[1].contains("| student    |     0.590 |"),
            "{found}"
        );
        // However narrow it is, every number is there once.
        for width in [1, 10, 20, 30, 40] {
            let found = fit(TABLE, width);
            for number in ["0.441", "0.576", "0.514", "0.602", "0.852", "0.590"] {
                assert_eq!(found.matches(number).count(), 1, "{width}: {found}");
            }
        }
    }

    #[test]
    fn words_are_whole() {
        assert_eq!(fit("- one two three four", 10), "- one two\n  three\n  four\n");
        assert_eq!(fit("a-very-long-word-alone", 5), "a-very-long-word-alone\n");
        assert_eq!(fit("", 5), "");
    }
}
