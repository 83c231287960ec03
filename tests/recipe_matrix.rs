//! Stages with a `matrix`, with the real program.
#![allow(missing_docs)]

mod common;

use common::TestSpace;
use serde_json::Value;

const SWEEP: &str = "
stages:
  base: {uses: fake_source, with: {value: 4}}
  train:
    uses: fake_train
    matrix: {seed: [1, 2], rate: [0.1, 0.5], exclude: [{seed: 2, rate: 0.5}], include: [{seed: 9, rate: 0.25}]}
    needs: {base: base.value}
    with: {iterations: 4, algorithm: {plain: {rate: \"${matrix.rate}\"}}}
    seed: \"${matrix.seed}\"
  again:
    uses: fake_report
    matrix: {seed: \"${seeds}\"}
    needs: {parts: {one: \"train[rate=0.1,seed=${matrix.seed}].model\"}}
    with: {title: \"seed ${matrix.seed} of ${who}\"}
  report:
    uses: fake_report
    needs: {parts: train.model}
  few:
    uses: fake_report
    needs: {parts: {base: base.value, low: \"train[rate=0.1].model\"}}
";

fn sweep() -> TestSpace {
    let space = TestSpace::new();
    write(&space, SWEEP);
    space
}

fn write(space: &TestSpace, stages: &str) {
    space.write("r.yaml", &format!("opdflow: 1\nname: sweep\nseed: 3\nvars: {{seeds: [1, 2], who: all}}{stages}"));
}

/// The plan's stages by name.
fn plan(space: &TestSpace, recipe: &str) -> Vec<Value> {
    space.run(&["plan", recipe, "--json"]).expect(0).json()["stages"].as_array().unwrap().clone()
}

fn names(stages: &[Value]) -> Vec<&str> {
    stages.iter().map(|s| s["stage"].as_str().unwrap()).collect()
}

fn needs(stages: &[Value], stage: &str) -> Vec<String> {
    let found = stages.iter().find(|s| s["stage"] == stage).unwrap_or_else(|| panic!("no {stage}"));
    found["needs"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(port, from)| format!("{port} {}", from.as_str().unwrap()))
        .collect()
}

#[test]
fn cells_are_stages_and_maps_collect_them() {
    let space = sweep();
    let stages = plan(&space, "r.yaml");
    let cells: Vec<&str> = names(&stages).into_iter().filter(|n| n.starts_with("train")).collect();
    assert_eq!(
        cells,
        ["train[seed=1,rate=0.1]", "train[seed=1,rate=0.5]", "train[seed=2,rate=0.1]", "train[seed=9,rate=0.25]"]
    );
    assert_eq!(needs(&stages, "again[seed=2]"), ["parts.one train[seed=2,rate=0.1].model"]);
    assert_eq!(
        needs(&stages, "report"),
        [
            "parts.seed_1__rate_0_1 train[seed=1,rate=0.1].model",
            "parts.seed_1__rate_0_5 train[seed=1,rate=0.5].model",
            "parts.seed_2__rate_0_1 train[seed=2,rate=0.1].model",
            "parts.seed_9__rate_0_25 train[seed=9,rate=0.25].model",
        ]
    );
    // Axes that are given are no part of the name.
    assert_eq!(
        needs(&stages, "few"),
        [
            "parts.base base.value",
            "parts.low_seed_1 train[seed=1,rate=0.1].model",
            "parts.low_seed_2 train[seed=2,rate=0.1].model"
        ]
    );
    let ran = space.run(&["run", "r.yaml", "--json", "-j", "2"]).expect(0);
    assert_eq!(ran.verdicts().len(), 9);
    assert!(ran.verdicts().values().all(|v| v == "run"), "{:?}", ran.verdicts());
    assert!(space.run(&["run", "r.yaml"]).expect(0).stdout.contains("seed 2 of all"));
    // The order of the axes is nobody's to remember.
    space.run(&["get", "r.yaml", "train[rate=0.1,seed=2].model", "-o", "m"]).expect(0);
}

/// A cell is a stage like any other: written out by hand it has the same key, so that moving into a matrix re-runs nothing.
#[test]
fn a_cell_has_the_key_of_the_same_stage_written_out() {
    let space = sweep();
    space.run(&["run", "r.yaml"]).expect(0);
    let plain = "
stages:
  base: {uses: fake_source, with: {value: 4}}
  alone: {uses: fake_train, needs: {base: base.value}, with: {iterations: 4, algorithm: {plain: {rate: 0.5}}}, seed: 1}
  other: {uses: fake_train, needs: {base: base.value}, with: {iterations: 4, algorithm: {plain: {rate: 0.5}}}, seed: 2}
";
    space.write("plain.yaml", &format!("opdflow: 1\nname: plain\n{plain}"));
    let verdicts: Vec<Value> = plan(&space, "plain.yaml").into_iter().map(|s| s["verdict"].clone()).collect();
    assert_eq!(verdicts, ["hit", "hit", "run"]);
}

#[test]
fn a_further_value_runs_its_own_cells_only() {
    let space = sweep();
    space.run(&["run", "r.yaml"]).expect(0);
    write(&space, &SWEEP.replace("rate: [0.1, 0.5]", "rate: [0.1, 0.5, 0.7]"));
    let ran = space.run(&["run", "r.yaml", "--json"]).expect(0).verdicts();
    let fresh: Vec<&str> = ran.iter().filter(|(_, v)| *v == "run").map(|(n, _)| n.as_str()).collect();
    assert_eq!(fresh, ["report", "train[seed=1,rate=0.7]", "train[seed=2,rate=0.7]"]);
}

#[test]
fn the_command_line_names_all_cells_some_or_one() {
    let space = sweep();
    let cells = |until: &str| space.run(&["run", "r.yaml", "--json", "--until", until]).expect(0).verdicts().len() - 1;
    assert_eq!(cells("train[seed=1,rate=0.5]"), 1);
    assert_eq!(cells("train[rate=0.1]"), 2);
    assert_eq!(cells("train"), 4);
    space.run(&["explain", "r.yaml", "train[seed=9,rate=0.25]"]).expect(0);
    let many = space.run(&["explain", "r.yaml", "train"]).expect(2);
    assert!(
        many.stderr.contains("more than one cell") && many.stderr.contains("`train[seed=1,rate=0.1]`"),
        "{}",
        many.stderr
    );
    assert!(space.run(&["logs", "train[seed=9,rate=0.25]"]).expect(0).stdout.contains("started"));
    space.run(&["run", "r.yaml", "--until", "train[seed=7]"]).expect(2);
}

#[test]
fn explain_says_which_axis_a_value_came_from() {
    let space = sweep();
    space.run(&["run", "r.yaml", "--until", "train[seed=1,rate=0.1]"]).expect(0);
    let text = space.run(&["explain", "r.yaml", "train[seed=1,rate=0.5]"]).expect(0).stdout;
    assert!(
        text.contains("params.algorithm.plain.rate  0.1 -> 0.5")
            && text.contains("`matrix.rate` is set at r.yaml:9:40"),
        "{text}"
    );
}

#[test]
fn a_graph_folds_a_matrix() {
    let space = common::TestSpace::new();
    space.recipe(
        "r.yaml",
        "a: {uses: fake_source}
        t: {uses: fake_train, matrix: {n: [1, 2, 3]}, needs: {base: a.value}, with: {iterations: \"${matrix.n}\"}}
        end: {uses: fake_report, needs: {parts: t.model}}",
    );
    let folded = "a        fake_source\n  t x 3  fake_train   <- a\n    end  fake_report  <- t\n";
    assert_eq!(space.run(&["graph", "r.yaml"]).expect(0).stdout, folded);
    let cells = space.run(&["graph", "r.yaml", "--cells"]).expect(0).stdout;
    assert_eq!(cells.lines().count(), 5, "{cells}");
    assert_eq!(cells.matches("t[n=2]").count(), 2, "{cells}");
    let stages = |args: &[&str]| {
        let args: Vec<&str> = ["graph", "r.yaml", "--json"].iter().chain(args).copied().collect();
        space.run(&args).expect(0).json()["stages"].as_array().unwrap().len()
    };
    assert_eq!((stages(&[]), stages(&["--fold"])), (5, 3));
    let dot = space.run(&["graph", "r.yaml", "--format", "dot", "--fold"]).expect(0).stdout;
    assert!(dot.contains("\"t\" [label=\"t x 3\\nfake_train\"]"), "{dot}");
    space.run(&["graph", "r.yaml", "--fold", "--cells"]).expect(2);
}

/// Seeds run through a recipe without a word at each input: a cell reads the cells of its own seed.
#[test]
fn a_cell_reads_the_cells_of_its_own_values() {
    let space = TestSpace::new();
    let stages = "
stages:
  base: {uses: fake_source, with: {value: 4}}
  start:
    uses: fake_source
    matrix: {seed: \"${seeds}\", value: [4, 5]}
    with: {value: \"${matrix.value}\"}
    seed: \"${matrix.seed}\"
  train:
    uses: fake_train
    matrix: {seed: \"${seeds}\", rate: [0.1, 0.5]}
    needs: {base: base.value}
    with: {iterations: 4, algorithm: {plain: {rate: \"${matrix.rate}\"}}}
    seed: \"${matrix.seed}\"
  more:
    uses: fake_train
    matrix: {seed: \"${seeds}\"}
    needs: {base: \"start[value=5].value\"}
    with: {iterations: 2}
  each:
    uses: fake_report
    matrix: {seed: \"${seeds}\"}
    needs: {parts: {all: train.model, low: \"train[rate=0.1].model\", other: \"train[rate=0.1,seed=1].model\"}}
    with: {title: \"${who}\"}
  report: {uses: fake_report, needs: {parts: {more: more.model}}}
";
    write(&space, stages);
    let found = plan(&space, "r.yaml");
    assert_eq!(needs(&found, "more[seed=2]"), ["base start[seed=2,value=5].value"]);
    assert_eq!(
        needs(&found, "each[seed=2]"),
        [
            "parts.all_rate_0_1 train[seed=2,rate=0.1].model",
            "parts.all_rate_0_5 train[seed=2,rate=0.5].model",
            "parts.low train[seed=2,rate=0.1].model",
            "parts.other train[seed=1,rate=0.1].model",
        ]
    );
    assert_eq!(
        needs(&found, "report"),
        ["parts.more_seed_1 more[seed=1].model", "parts.more_seed_2 more[seed=2].model"]
    );
    // The command line sets a list where the recipe has one.
    let five = space.run(&["plan", "r.yaml", "--json", "--set", "seeds=[1, 4, 5]"]).expect(0).json();
    let five = five["stages"].as_array().unwrap().clone();
    assert_eq!(names(&five).iter().filter(|n| n.starts_with("more[")).count(), 3);
    let wrong = space.run(&["check", "r.yaml", "--set", "seeds=3"]).expect(2);
    assert!(wrong.stderr.contains("expected a list of values"), "{}", wrong.stderr);
    space.run(&["check", "r.yaml", "--set", "seeds=[3"]).expect(2);
    // An axis that reaches nothing is still a mistake, and so is a cell that is not there.
    write(&space, &stages.replace("\"start[value=5].value\"", "base.value"));
    let unused = space.run(&["check", "r.yaml"]).expect(2);
    assert!(unused.stderr.contains("the axis `seed` of `more` is never used"), "{}", unused.stderr);
    let other = stages.replace(
        "  more:\n    uses: fake_train\n    matrix: {seed: \"${seeds}\"}",
        "  more:\n    uses: fake_train\n    matrix: {seed: [1, 7]}",
    );
    write(&space, &other);
    let lacking = space.run(&["check", "r.yaml"]).expect(2);
    assert!(lacking.stderr.contains("has no cell with the values of `more[seed=7]`"), "{}", lacking.stderr);
}

/// What a cell lacks is neither an input nor a parameter of it; a forgotten value still is a mistake.
#[test]
fn a_cell_leaves_out_what_it_has_nothing_for() {
    let space = TestSpace::new();
    let text = "opdflow: 1\nname: sweep\nvars: {kinds: {plain: {}, more: {from: more.value, title: longer}}}
stages:
  base: {uses: fake_source, with: {value: 4}}
  more: {uses: fake_source, with: {value: 2}}
  report:
    uses: fake_report
    matrix: {of: \"${kinds}\"}
    needs: {parts: {base: base.value, more: \"${matrix.of.from?}\"}}
    with: {title: \"${matrix.of.title?}\"}
";
    space.write("r.yaml", text);
    let stages = plan(&space, "r.yaml");
    assert_eq!(needs(&stages, "report[of=plain]"), ["parts.base base.value"]);
    assert_eq!(needs(&stages, "report[of=more]"), ["parts.base base.value", "parts.more more.value"]);
    // The same beside a name that is a variable, and beside names of a matrix.
    for (key, base) in
        [("\"${matrix.of}\": base.value", "plain"), ("matrix: {at: [base]}, \"${matrix.at}\": base.value", "base")]
    {
        space.write("r.yaml", &text.replace("parts: {base: base.value, more:", &format!("parts: {{{key}, also:")));
        let stages = plan(&space, "r.yaml");
        assert_eq!(needs(&stages, "report[of=plain]"), [format!("parts.{base} base.value")]);
    }
    space.write("r.yaml", &text.replace("more: \"${matrix.of.from?}\"", "more: ~"));
    let ran = space.run(&["check", "r.yaml"]).expect(2);
    assert!((ran.stdout + &ran.stderr).contains("found nothing, expected an output"));
}
