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
