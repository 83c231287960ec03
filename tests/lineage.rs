//! `lineage`: from an output, a file, a folder or a table's cell back to what it was made of.
#![allow(missing_docs)]

mod common;

use common::TestSpace;
use serde_json::Value;

const STAGES: &str = "
a: {uses: fake_source, with: {value: 4}}
b: {uses: fake_source, with: {value: 5}}
sum: {uses: fake_sum, needs: {terms: {a: a.value, b: b.value}}}
train: {uses: fake_train, needs: {base: sum.value}, with: {iterations: 4}}
left: {uses: fake_report, needs: {parts: {t: train.model}}, with: {title: left}}
end: {uses: fake_report, needs: {parts: {l: left.report, t: train.candidates, s: sum.value}}, with: {title: the end}}
";

fn ran() -> TestSpace {
    let space = TestSpace::new();
    space.recipe("r.yaml", STAGES);
    space.run(&["run", "r.yaml"]).expect(0);
    space
}

fn stages(lineage: &Value) -> Vec<&str> {
    let mut names: Vec<&str> =
        lineage["stages"].as_object().unwrap().values().map(|s| s["note"]["stage"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

#[test]
fn an_output_is_followed_to_its_sources() {
    let space = ran();
    let text = space.run(&["lineage", "r.yaml", "train.model"]).expect(0).stdout;
    insta::with_settings!({filters => vec![(r"[0-9a-f]{12}", "[key]"), (r"\d{4}-\d\d-\d\dT[\d:]+Z", "[time]")]}, {
        insta::assert_snapshot!("train", text);
    });
    let json = space.run(&["lineage", "r.yaml", "end.report", "--json"]).expect(0).json();
    assert_eq!(stages(&json), ["a", "b", "end", "left", "sum", "train"]);
    let end = &json["stages"][json["key"].as_str().unwrap()];
    let sum = end["inputs"]["parts.s"]["from"].as_str().unwrap();
    assert_eq!(json["stages"][sum]["note"]["stage"], "sum");
    assert_eq!(end["manifest"]["params"]["title"], "the end");
    assert!(end["note"]["program"].as_str().unwrap().starts_with("opdflow 0."), "{end}");
}

#[test]
fn files_and_folders_are_known_by_their_bytes() {
    let space = ran();
    for (port, path) in [("train.model", "model"), ("train.candidates", "folder"), ("sum.log", "log.txt")] {
        space.run(&["get", "r.yaml", port, "-o", path]).expect(0);
        let json = space.run(&["lineage", path, "--json"]).expect(0).json();
        assert_eq!(json["output"], port.split_once('.').unwrap().1, "{path}");
    }
    // One file of a folder, and a folder to which something was added.
    let inside = common::files(&space.path("folder")).remove(0);
    let json = space.run(&["lineage", inside.to_str().unwrap(), "--json"]).expect(0).json();
    assert!(json["file"].is_string() && json["output"].is_string(), "{json}");
    space.write("folder/notes.txt", "mine");
    assert_eq!(stages(&space.run(&["lineage", "folder", "--json"]).expect(0).json()), ["a", "b", "sum", "train"]);
    space.write("mine.txt", "nothing that a stage made");
    let ran = space.run(&["lineage", "mine.txt"]).expect(2);
    assert!(ran.stderr.contains("has the bytes of mine.txt"), "{}", ran.stderr);
    assert!(space.run(&["lineage", "none.txt"]).expect(2).stderr.contains("no file none.txt"));
    assert!(space.run(&["lineage", "r.yaml", "train.modle"]).expect(2).stderr.contains("did you mean `model`?"));
}

#[test]
fn what_is_gone_is_said_to_be_gone() {
    let space = ran();
    let keys = space.run(&["lineage", "r.yaml", "sum.value", "--json"]).expect(0).json();
    let (a, _) = keys["stages"].as_object().unwrap().iter().find(|(_, s)| s["note"]["stage"] == "a").unwrap();
    std::fs::remove_file(space.store().join("actions").join(&a[..2]).join(format!("{a}.json"))).unwrap();
    space.run(&["get", "r.yaml", "sum.value", "-o", "sum"]).expect(2);
    space.write("sum", "9");
    let text = space.run(&["lineage", "sum"]).expect(0).stdout;
    assert!(text.contains("terms.a <- ") && text.contains("whose record is not in the store"), "{text}");
}

#[test]
fn a_cell_is_read_from_the_table_s_file() {
    let space = ran();
    // The log of `sum` has a line for each term, so that it passes for a table.
    space.run(&["get", "r.yaml", "sum.log", "-o", "t.csv"]).expect(0);
    let text = space.run(&["lineage", "t.csv", "--row", "b 5"]).expect(0).stdout;
    assert!(text.contains("row `b 5`: b 5"), "{text}");
    assert!(space.run(&["lineage", "t.csv", "--row", "b 6"]).expect(2).stderr.contains("has no row `b 6`"));
    let ran = space.run(&["lineage", "t.csv", "--row", "b 5", "--column", "a 5"]).expect(2);
    assert!(ran.stderr.contains("did you mean `a 4`?"), "{}", ran.stderr);
    space.run(&["lineage", "t.csv", "--column", "a 4"]).expect(2);
    assert!(space.run(&["lineage", "r.yaml", "sum.log", "--row", "x"]).expect(2).stderr.contains("CSV"));
}
