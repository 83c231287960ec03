//! The commands of `docs/tutorial/first-recipe.md`, one after the other, with the files that it says to save.

use crate::space::Mini;
use std::path::Path;
use std::process::Command;

/// The fenced blocks of a page: what stands behind the fence, and the lines.
pub fn blocks(page: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (None, Some((_, text))) => *text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    found
}

/// What a command of a page prints, given in the folder of `mini`.
pub fn typed(mini: &Mini, command: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_opdflow")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell.args(["-ec", command]).current_dir(mini.path("")).env("PATH", &path).env("OMP_NUM_THREADS", "1");
    shell.env("OPDFLOW_STORE", mini.store()).env("OPDFLOW_GPUS", "0").env("NO_COLOR", "1");
    let ran = shell.output().unwrap();
    let out = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{command}\n{out}\n{}", String::from_utf8_lossy(&ran.stderr));
    out
}

#[test]
fn the_tutorial_runs_as_it_stands() {
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tutorial/first-recipe.md")).unwrap();
    let mini = Mini::new();
    let (mut files, mut commands, mut said) = (0, 0, String::new());
    for (language, text) in blocks(&page) {
        match language.as_str() {
            "yaml" => {
                let name = text.lines().next().unwrap().strip_prefix("# ").expect("the file's name");
                // Fewer rounds and candidates: the tutorial's own take minutes.
                let short =
                    text.replace("rounds: 24", "rounds: 2").replace("candidates_every: 8", "candidates_every: 2");
                assert!(name != "first.yaml" || short != text);
                mini.write(name, &short);
                files += 1;
            }
            "console" => {
                for command in text.lines().filter_map(|line| line.strip_prefix("$ ")) {
                    said += &format!("$ {command}\n{}", typed(&mini, command));
                    commands += 1;
                }
            }
            _ => {}
        }
    }
    assert_eq!((files, commands), (3, 17));
    // What the page says that one sees.
    let after =
        |command: &str| said.split(&format!("$ {command}\n")).last().unwrap().split("\n$ ").next().unwrap().to_owned();
    assert!(after("opdflow check first.yaml").contains("first.yaml: 9 stages, no mistakes"));
    assert!(after("opdflow plan more.yaml").lines().any(|l| l.starts_with("teacher[task=ocr]") && l.contains(" hit ")));
    assert!(after("opdflow run sweep.yaml").contains("learning rate 0.01"));
    assert!(mini.path("images/0000.png").is_file() && mini.path("table.md").is_file());
}
