//! Text from users and from elsewhere, on the screen: nothing in it acts on a terminal, nothing is endless. A table of the
//! places where such text comes in, each with the real program.
#![allow(missing_docs)]

mod common;

use common::TestSpace;
use opdflow_cache::{ActionRecord, Digest, ObjectKind, Store};

/// Clears the screen, sets the title, turns the direction: as bytes, and what must be seen of it.
const EVIL: &str = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}";

/// Whether text could do something to a terminal.
#[track_caller]
fn harmless(what: &str, text: &str) {
    let bad = text.chars().find(|c| opdflow_io::terminal::acts(*c) && !matches!(c, '\n' | '\t'));
    assert!(bad.is_none(), "{what}: {bad:?} in {text:?}");
}

/// Text as YAML writes it in double quotes.
fn yaml(text: &str) -> String {
    format!("\"{}\"", text.chars().map(|c| format!("\\U{:08x}", u32::from(c))).collect::<String>())
}

#[test]
fn recipes_and_arguments_cannot_act_on_the_terminal() {
    let space = TestSpace::new();
    let evil = yaml(EVIL);
    let stages = "\nstages:\n  a: {uses: fake_source, with: {value: 1}}\n";
    for (name, text) in [
        ("title", format!("opdflow: 1\nname: {evil}{stages}")),
        ("stage", format!("opdflow: 1\nname: x\nstages:\n  {evil}: {{uses: fake_source}}\n")),
        ("kind", format!("opdflow: 1\nname: x\nstages:\n  a: {{uses: {evil}}}\n")),
        ("parameter", format!("opdflow: 1\nname: x\nstages:\n  a: {{uses: fake_source, with: {{{evil}: 1}}}}\n")),
        ("value", format!("opdflow: 1\nname: x\nstages:\n  a: {{uses: fake_source, with: {{value: {evil}}}}}\n")),
        ("file", format!("opdflow: 1\nname: x\nstages:\n  a: {{uses: fake_source, with: {{file: {evil}}}}}\n")),
        ("raw", format!("opdflow: 1\nname: x\n# {EVIL}\nstages: [{EVIL}\n")),
        ("comment", format!("opdflow: 1 # {EVIL}\nnme: x # {EVIL}{stages}")),
    ] {
        space.write("r.yaml", &text);
        for args in [
            &["check", "r.yaml"][..],
            &["plan", "r.yaml"],
            &["graph", "r.yaml"],
            &["graph", "r.yaml", "--format", "dot"],
        ] {
            for json in [false, true] {
                let mut args = args.to_vec();
                args.extend(json.then_some("--json"));
                let ran = space.run(&args);
                harmless(&format!("{name}: {args:?}"), &(ran.stdout + &ran.stderr));
            }
        }
    }
    space.recipe("r.yaml", "a: {uses: fake_source, with: {value: 1}}");
    for args in [
        &["get", "r.yaml", EVIL, "-o", "x"][..],
        &["get", "r.yaml", "a.value", "-o", EVIL],
        &["explain", "r.yaml", EVIL],
        &["run", "r.yaml", "--until", EVIL],
        &["run", "r.yaml", "--run-dir", EVIL],
        &["check", EVIL],
        &["status", EVIL],
        &["help", EVIL],
        &["stages", EVIL],
        &["lineage", EVIL],
        &["unpin", EVIL],
        &["import", EVIL],
        &[EVIL],
        &["run", "r.yaml", "-j", EVIL],
    ] {
        let ran = space.run(args);
        harmless(&format!("{args:?}"), &(ran.stdout + &ran.stderr));
    }
}

#[test]
fn records_from_elsewhere_cannot_act_on_the_terminal() {
    let space = TestSpace::new();
    space.recipe(
        "r.yaml",
        "a: {uses: fake_source, with: {value: 1}}\nb: {uses: fake_sum, needs: {terms: {x: a.value}}}",
    );
    space.run(&["run", "r.yaml"]).expect(0);
    space.run(&["get", "r.yaml", "b.value", "-o", "b"]).expect(0);
    // The record of `b` as a stranger's archive might have it.
    let store = Store::open(&space.store()).unwrap();
    let mut record: ActionRecord =
        store.actions().into_iter().find(|r| r.note.get("stage").is_some_and(|s| s == "b")).unwrap();
    for name in ["stage", "device", "program"] {
        record.note.insert(name.to_owned(), format!("{EVIL}\nforged line {}", "x".repeat(100_000)));
    }
    record.manifest["params"]["text"] = format!("{EVIL}{}", "x".repeat(100_000)).into();
    record.manifest["assets"] = serde_json::json!({ format!("{EVIL}\nforged"): format!("{EVIL}\nforged") });
    record.key = Digest::of(b"another");
    record.lineage = Digest::of(b"another");
    let output = record.outputs.values_mut().next().unwrap();
    output.object = store.put_bytes(b"another result").unwrap();
    assert_eq!(output.object.kind, ObjectKind::Blob);
    store.publish(&record).unwrap();
    space.write("another", "another result");
    for args in [&["lineage", "another"][..], &["du"], &["gc", "--unused"], &["verify", "--deep"], &["pin"]] {
        for json in [false, true] {
            let mut args = args.to_vec();
            args.extend(json.then_some("--json"));
            let ran = space.run(&args).expect(0);
            harmless(&format!("{args:?}"), &(ran.stdout.clone() + &ran.stderr));
            if !json {
                assert!(ran.stdout.len() < 20_000 && !ran.stdout.contains("\nforged"), "{args:?}: {}", ran.stdout);
            }
        }
    }
    space.write("changed.yaml", "opdflow: 1\nname: test\nseed: 7\nstages:\n  a: {uses: fake_source, with: {value: 2}}\n  b: {uses: fake_sum, needs: {terms: {x: a.value}}}\n");
    let ran = space.run(&["explain", "changed.yaml", "b"]).expect(0);
    harmless("explain", &(ran.stdout + &ran.stderr));
}

#[test]
fn events_and_logs_from_elsewhere_cannot_act_on_the_terminal() {
    let space = TestSpace::new();
    space.recipe("r.yaml", "a: {uses: fake_source, with: {value: 1}}");
    space.run(&["run", "r.yaml"]).expect(0);
    let run = std::fs::canonicalize(space.path(".opdflow/runs/latest")).unwrap();
    let evil = format!("{EVIL}\nforged {}", "x".repeat(1_000_000));
    let events = std::fs::read_to_string(run.join("events.jsonl")).unwrap();
    let start = events.lines().next().unwrap().replace("\"a\"", &serde_json::json!(evil).to_string());
    let event = |body: serde_json::Value| serde_json::json!({"at": 1.0, "event": body}).to_string();
    let lines = [
        start,
        event(serde_json::json!({"started": {"stage": evil, "pid": 1, "attempt": 1, "threads": 1, "device": evil}})),
        event(serde_json::json!({"progress": {"stage": evil, "step": 1, "total": 2, "note": evil}})),
        event(serde_json::json!({"metric": {"stage": evil, "step": 1, "name": evil, "value": 0.5}})),
        event(serde_json::json!({"warned": {"text": evil}})),
        event(serde_json::json!({"retried": {"stage": evil, "message": evil}})),
        event(serde_json::json!({"blocked": {"stage": evil, "by": evil}})),
        event(serde_json::json!({"failed": {"stage": evil, "class": "user", "message": evil}})),
        event(serde_json::json!({"run_ended": {"ok": false, "seconds": 1.0}})),
    ];
    std::fs::write(run.join("events.jsonl"), lines.join("\n") + "\n").unwrap();
    for args in [&["status"][..], &["watch"], &["watch", "--plain"]] {
        let ran = space.run(args);
        assert!(ran.stderr.len() + ran.stdout.len() < 40_000, "{args:?}: {}", ran.stderr.len());
        assert!(
            ran.stdout.contains("failed") || ran.stderr.contains("FAILED"),
            "{args:?}: {} {}",
            ran.stdout,
            ran.stderr
        );
        harmless(&format!("{args:?}"), &(ran.stdout + &ran.stderr));
    }
    std::fs::write(run.join("logs/a.log"), format!("{EVIL} a line\n")).unwrap();
    for args in [&["logs", "a"][..], &["logs", "a", "--json"]] {
        let ran = space.run(args).expect(0);
        assert!(ran.stdout.contains("a line"), "{}", ran.stdout);
        harmless(&format!("{args:?}"), &(ran.stdout + &ran.stderr));
    }
}

/// The same text in files: SVG and dot stay what they are.
#[test]
fn drawings_hold_no_control_characters() {
    let space = TestSpace::new();
    space.write(
        "r.yaml",
        &format!("opdflow: 1\nname: {}\nstages:\n  a: {{uses: fake_source}}\n", yaml(&format!("{EVIL}</title><x>\""))),
    );
    let svg = space.run(&["graph", "r.yaml", "--format", "svg"]).expect(0).stdout;
    assert!(svg.contains("&lt;/title&gt;&lt;x&gt;&quot;</title>"), "{svg}");
    harmless("svg", &svg);
    let dot = space.run(&["graph", "r.yaml", "--format", "dot"]).expect(0).stdout;
    assert!(dot.starts_with("digraph \"\\\\u{1b}[2J") && dot.contains("</title><x>\\\"\""), "{dot}");
}

/// Spaces that are none: copied from a web page. The message says what they are.
#[test]
fn strange_spaces_in_yaml_are_named() {
    let space = TestSpace::new();
    for text in [
        "opdflow: 1\nname: x\nstages:\n\u{a0}\u{a0}a: {uses: fake_source}\n\u{a0}\u{a0}b: [\n",
        "opdflow: 1\nname: x\nstages:\n  a:\n  \u{a0}\u{a0}uses: fake_source\n    with: {value: 1}\n",
        "opdflow:\u{a0}1\nname: x\nstages: {}\n",
    ] {
        space.write("r.yaml", text);
        let ran = space.run(&["check", "r.yaml"]).expect(2);
        assert!(ran.stderr.contains("no-break spaces"), "{text:?}: {}", ran.stderr);
    }
    space.write("r.yaml", "opdflow: 1\nname: x\nstages:\n\ta: {uses: fake_source}\n");
    let ran = space.run(&["check", "r.yaml"]).expect(2);
    assert!(ran.stderr.contains("YAML does not allow tabs"), "{}", ran.stderr);
}

/// What is no regular file is refused at once, where a parameter names it.
#[test]
fn special_files_are_refused_by_name() {
    let space = TestSpace::new();
    let pipe = std::ffi::CString::new(space.path("pipe").to_str().unwrap()).unwrap();
    // SAFETY: the path is NUL-terminated.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    std::os::unix::fs::symlink("loop", space.path("loop")).unwrap();
    std::os::unix::fs::symlink("nowhere", space.path("dangling")).unwrap();
    for (file, word) in [
        ("pipe", "is a named pipe (FIFO), expected a regular file"),
        ("/dev/zero", "is a device, expected a regular file"),
        (".", "is a folder, expected a regular file"),
        ("loop", "is a symbolic link that leads round in a circle"),
        ("dangling", "is a symbolic link to nowhere, where nothing is"),
    ] {
        space.recipe("r.yaml", &format!("a: {{uses: fake_source, with: {{file: {file}}}}}"));
        let ran = space.run(&["run", "r.yaml"]).expect(2);
        assert!(ran.stderr.contains(word) && ran.stderr.contains("E050"), "{file}: {}", ran.stderr);
    }
}
