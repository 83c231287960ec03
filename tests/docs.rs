//! The documentation leads where it says: links, paths of sources, and the map's walk from a recipe to the optimizer.
#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All pages: those at the root and below `docs`.
fn pages() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned(), root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() && folder != root() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All sources with tests: those of the program's own crates.
fn sources() -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join("stages"), root().join("tests")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() && path.file_name() != Some("target".as_ref()) {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut whole, part| {
        match part {
            Component::ParentDir => drop(whole.pop()),
            Component::CurDir => {}
            part => whole.push(part),
        }
        whole
    })
}

/// The targets of a page's links, as they are written.
fn links(text: &str) -> Vec<&str> {
    text.match_indices("](").filter_map(|(at, open)| text[at + open.len()..].split(')').next()).collect()
}

/// What stands between single backticks in a text, code blocks aside.
fn code_spans(text: &str) -> Vec<&str> {
    text.split("```").step_by(2).flat_map(|prose| prose.split('`').skip(1).step_by(2)).collect()
}

/// How a heading is named in links.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[test]
fn every_link_leads_to_a_file_and_every_anchor_to_a_heading() {
    let mut broken = Vec::new();
    for page in pages() {
        for link in links(&text(&page)).into_iter().filter(|l| !l.contains("://")) {
            let (file, heading) = link.split_once('#').map_or((link, None), |(file, heading)| (file, Some(heading)));
            let there = if file.is_empty() { page.clone() } else { plain(&page.parent().unwrap().join(file)) };
            let headed = |heading: &str| {
                text(&there)
                    .lines()
                    .filter_map(|l| Some(anchor(l.strip_prefix('#')?.trim_start_matches('#').trim())))
                    .any(|a| a == heading)
            };
            if !there.exists() || heading.is_some_and(|h| !headed(h)) {
                broken.push(format!("{}: {link}", page.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

/// A page that is in no other is found by nobody.
#[test]
fn the_index_leads_to_every_page() {
    let index = root().join("docs/README.md");
    let mut seen = BTreeSet::from([index.clone()]);
    let mut open = vec![index];
    while let Some(page) = open.pop() {
        for link in links(&text(&page)).into_iter().filter(|l| !l.contains("://")) {
            let file = plain(&page.parent().unwrap().join(link.split('#').next().unwrap()));
            let inside = if file.is_dir() {
                std::fs::read_dir(&file).unwrap().flatten().map(|e| e.path()).collect()
            } else {
                vec![file]
            };
            for file in inside.into_iter().filter(|f| f.extension().is_some_and(|e| e == "md") && f.is_file()) {
                if seen.insert(file.clone()) {
                    open.push(file);
                }
            }
        }
    }
    let lost: Vec<PathBuf> =
        pages().into_iter().filter(|p| p.starts_with(root().join("docs")) && !seen.contains(p)).collect();
    assert!(lost.is_empty(), "no way from docs/README.md to {lost:?}");
}

/// Sources that pages name are there. A path is named as `src/...`, `stages/...` and so on, from the root.
#[test]
fn every_source_that_a_page_names_is_there() {
    let mut lost = Vec::new();
    for page in
        pages().into_iter().filter(|p| !p.ends_with("CHANGELOG.md") && !p.components().any(|c| c.as_os_str() == "adr"))
    {
        for span in code_spans(&text(&page)) {
            let path = span.split([' ', ':']).next().unwrap_or_default();
            let ours = ["src/", "stages/", "cache/", "tests/", "recipes/", "scripts/", "docs/", "benches/"];
            let example =
                path.contains(['*', '{', '<', '$']) || path.chars().any(char::is_uppercase) && !path.contains("ARCH");
            if ours.iter().any(|top| path.starts_with(top)) && !example && !root().join(path).exists() {
                lost.push(format!("{}: {path}", page.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(lost.is_empty(), "sources that are not there:\n{}", lost.join("\n"));
}

/// What cargo is asked for by name: crates, examples, tests and benches, in scripts, the Makefile and the pages.
#[test]
fn every_crate_and_program_that_a_command_names_is_there() {
    let mut files: Vec<PathBuf> = pages();
    files.extend(["Makefile", "Dockerfile", ".ci/run"].map(|f| root().join(f)));
    files.extend(std::fs::read_dir(root().join("scripts")).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file()));
    let manifests: String = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(root().join("stages")).unwrap().map(|e| e.unwrap().path()).collect();
    folders.extend([root().to_owned(), root().join("cache")]);
    let there = |sort: &str, name: &str| {
        folders
            .iter()
            .map(|f| f.join(sort))
            .any(|f| f.join(format!("{name}.rs")).exists() || f.join(name).join("main.rs").exists())
    };
    let mut named = 0;
    for file in files {
        let text = text(&file);
        for line in text.lines().filter(|l| l.contains("cargo") || l.contains("CARGO")) {
            let words: Vec<&str> = line.split(|c: char| c.is_whitespace() || "`\"()".contains(c)).collect();
            for pair in words.windows(2) {
                let [flag, name] = *pair else { continue };
                let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
                let is = match flag {
                    "-p" => manifests.contains(&format!("name = \"{name}\"\n")),
                    "--example" => there("examples", name),
                    "--test" => there("tests", name),
                    "--bench" => there("benches", name),
                    _ => continue,
                };
                named += usize::from(plain);
                assert!(is || !plain, "{}: {flag} {name}: {line}", file.display());
            }
        }
    }
    assert!(named > 20, "{named}");
}

/// The steps of the map's walk under this heading.
fn walk(heading: &str) -> Vec<String> {
    let map = text(&root().join("docs/ARCHITECTURE.md"));
    let rest = map.split_once(heading).unwrap_or_else(|| panic!("the map has no `{heading}`")).1;
    let mut steps: Vec<String> = Vec::new();
    for line in rest.lines().skip(1).skip_while(|l| l.is_empty()).take_while(|l| !l.is_empty()) {
        if line.starts_with(|c: char| c.is_ascii_digit()) {
            steps.push(line.to_owned());
        } else {
            steps.last_mut().expect("a numbered step").push_str(line);
        }
    }
    steps
}

/// Whoever follows the map from a recipe's learning rate finds in each step's files what the step names, and in the last
/// the line in which the optimizer uses it.
#[test]
fn the_map_leads_from_a_learning_rate_to_where_the_optimizer_uses_it() {
    let steps = walk("**A recipe's `lr`");
    assert!((2..=3).contains(&steps.len()), "any fact in three hops: {steps:?}");
    let mut last = String::new();
    for step in &steps {
        let spans = code_spans(step);
        let files: Vec<&str> = spans.iter().copied().filter(|s| s.ends_with(".rs")).collect();
        assert!(!files.is_empty(), "{step}");
        let sources: Vec<String> = files.iter().map(|file| text(&root().join(file))).collect();
        for named in spans.iter().filter(|s| !s.contains('/')) {
            for word in named.split([':', ' ']).filter(|w| !w.is_empty()) {
                assert!(sources.iter().any(|s| s.contains(word)), "`{word}` is in none of {files:?}");
            }
        }
        last = sources[0].clone();
    }
    let used = last.split_once("fn step").expect("a step of the optimizer").1;
    assert!(used.contains("lr"), "the learning rate is not used where the map says");
}

/// The way is one for all families: the number that a recipe says is the one in the job of its teachers and its student.
#[test]
fn a_learning_rate_of_either_family_s_recipe_is_in_the_parameters_of_the_stage() {
    use opdflow::recipe::{self, Overrides};
    for (recipe, files) in
        [("recipes/multitask.yaml", vec![]), ("recipes/flux1/multitask.yaml", vec!["recipes/flux1/tiny.vars.yaml"])]
    {
        let path = root().join(recipe);
        let read = |vars: &[(String, String)]| {
            let files = files.iter().map(|f| root().join(f)).collect();
            let overrides = Overrides { files, vars: vars.iter().cloned().collect(), seed: None };
            recipe::load(&path, &opdflow_kinds::registry(), &overrides)
                .unwrap_or_else(|e| panic!("{}", e.render(false)))
        };
        let trained = |spec: &recipe::StageSpec| matches!(spec.kind.describe().kind, "train_teacher" | "distill");
        let names: Vec<String> = read(&[]).stages.iter().filter(|s| trained(s)).map(|s| s.name.clone()).collect();
        assert!(names.len() > 1, "{recipe}: {names:?}");
        for name in names {
            let set = [(format!("{name}.with.optimizer.lr"), "0.000123".to_owned())];
            let found = read(&set);
            let params = &found.stages.iter().find(|s| s.name == name).unwrap().params;
            assert_eq!(params["optimizer"]["lr"], 0.000123, "{recipe} {name}");
        }
    }
}

/// The cells of the table whose head is this line, without the head.
fn rows<'a>(page: &'a str, head: &str) -> Vec<Vec<&'a str>> {
    let rest = page.split_once(head).unwrap_or_else(|| panic!("no table has the head {head}")).1;
    let lines = rest.lines().skip(2).take_while(|line| line.starts_with('|'));
    lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

/// Each published detail is held by a test that is there.
#[test]
fn every_published_detail_has_its_test() {
    let page = text(&root().join("docs/explanation/fidelity.md"));
    let details: Vec<&str> =
        rows(&page, "| | what is published | here | the other way |").iter().map(|row| row[0]).collect();
    let tests = rows(&page, "| | tests |");
    assert!(details.len() > 15);
    assert_eq!(details, tests.iter().map(|row| row[0]).collect::<Vec<_>>());
    let sources: String = sources().iter().map(|path| text(path)).collect();
    let written = |name: &str, indent: &str| sources.contains(&format!("#[test]\n{indent}fn {name}()"));
    for name in tests.iter().flat_map(|row| code_spans(row[1])) {
        assert!(written(name, "    ") || written(name, ""), "no test is called `{name}`");
    }
}
