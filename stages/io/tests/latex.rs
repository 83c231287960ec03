//! What the LaTeX writer writes is compiled by a real engine, if there is one: titles of everything that LaTeX takes for
//! its own, in every place of a table.

use opdflow_io::latex::{Cell, Tabular, comment, escaped, file, latin};
use std::path::Path;
use std::process::Command;

/// Titles that broke tables, or could.
const TITLES: [&str; 26] = [
    "plain",
    "# $ % & _ { } ~ ^ \\ < > | \" ' ` [ ] ( ) * / @ = + - ! ? , . : ;",
    "[2] base",
    "[2pt]",
    "* base",
    "\\input{canary}",
    "\\\\ \\hline & a & b \\\\",
    "}\\end{tabular}",
    "{",
    "^^5cinput{canary}",
    "\\let\\end\\relax",
    "%",
    "a % b",
    "$x_1^2$ and $$",
    "two\nlines\r\nand\rmore\u{2028}and more",
    "a\n\nb \\par c",
    "\t=1+1",
    "a--b---c ``d'' ,,e'' <<f>> ?` !`",
    "\x1b[31m\u{0}\u{7f}\u{9b}2J\u{85}",
    "\u{202e}gnp.exe\u{2066}",
    "naïve Łukasz Dvořák ŐŰ ß",
    "你好 שלום Ωμέγα привет",
    "🏳\u{fe0f}\u{200d}🌈 \u{301}e\u{301}",
    "\u{feff}\u{ad}\u{a0}\u{200b}",
    "ﬁ ð Þ « » ą ŋ × ½",
    "",
];

/// Compiles `body` and gives the log.
fn compiled(dir: &Path, name: &str, preamble: &str, body: &str) -> String {
    let text = format!(
        "\\documentclass{{article}}\n{preamble}\\usepackage{{booktabs}}\n\\begin{{document}}\n{body}\\end{{document}}\n"
    );
    std::fs::write(dir.join(format!("{name}.tex")), &text).unwrap();
    let ran = Command::new("pdflatex")
        .args(["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", name])
        .current_dir(dir)
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success() && dir.join(format!("{name}.pdf")).is_file(), "{log}\n{text}");
    assert!(!log.contains("CANARY") && !log.contains("Missing character"), "{log}");
    log
}

#[test]
fn every_title_compiles_wherever_it_stands() {
    if !Command::new("pdflatex").arg("--version").output().is_ok_and(|ran| ran.status.success()) {
        println!("skipped: no pdflatex here (Debian: texlive-latex-base and texlive-latex-recommended)");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("canary.tex"), "\\typeout{CANARY}\n").unwrap();
    for (name, preamble) in [("ot1", ""), ("t1", "\\usepackage[T1]{fontenc}\n")] {
        let mut body = String::new();
        for title in TITLES {
            // As a comment, in the head, at the beginning of the first row, after another one, in the middle, at the end.
            let mut table = Tabular::new(title, "lrl", [title, title, title].map(Cell::text));
            table.row([title, title, title].map(Cell::text));
            table.row([title, "x", title].map(Cell::text));
            table.rule();
            table.row([Cell::text(title), Cell::markup("\\textbf{0.5}"), Cell::text(title)]);
            let text = table.finish();
            let ends = text.lines().filter(|l| l.ends_with("\\\\") && !l.starts_with('%')).count();
            assert_eq!(ends, 4, "one end a row: {text}");
            body += &text;
            body += &comment(title);
            body += &format!("\n{}\n\nx {} y\n\n", escaped(title), escaped(title));
        }
        let latin: Vec<String> = latin().chars().map(|c| c.to_string()).collect();
        body += &escaped(&latin.join(" "));
        body += "\n";
        let log = compiled(dir.path(), name, preamble, &file(&body));
        assert!(log.contains("Output written"), "{log}");
    }
}

#[test]
fn every_ascii_character_compiles_beside_every_other() {
    if !Command::new("pdflatex").arg("--version").output().is_ok_and(|ran| ran.status.success()) {
        println!("skipped: no pdflatex here (Debian: texlive-latex-base and texlive-latex-recommended)");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let marks: Vec<char> = ('!'..='~').filter(|c| !c.is_alphanumeric()).chain(['a', ' ']).collect();
    let mut body = String::from("\\sloppy\n");
    for a in &marks {
        let mut table = Tabular::new("", "ll", [Cell::text("a"), Cell::text("b")]);
        for b in &marks {
            table.row([Cell::text(&format!("{a}{b}")), Cell::text(&format!("{b}{a}"))]);
        }
        body += &table.finish();
        body += "\n\n";
    }
    compiled(dir.path(), "pairs", "", &file(&body));
}
