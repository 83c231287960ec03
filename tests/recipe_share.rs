//! What recipes share: `include`, one declaration for several stages, items and names, and `--set` of any parameter.
#![allow(missing_docs)]

mod common;

use common::TestSpace;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The plan of a recipe whose results are all there, so that all keys are known.
fn plan_of(space: &TestSpace, recipe: &str, args: &[&str]) -> Vec<Value> {
    space.run(&[&["run", recipe, "--quiet"], args].concat()).expect(0);
    space.run(&[&["plan", recipe, "--json"], args].concat()).expect(0).json()["stages"].as_array().unwrap().clone()
}

fn plan(space: &TestSpace, args: &[&str]) -> Vec<Value> {
    plan_of(space, "r.yaml", args)
}

/// The keys of a plan by stage.
fn keys(stages: &[Value]) -> BTreeMap<String, String> {
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    stages.iter().map(|s| (text(&s["stage"]), text(&s["key"]))).collect()
}

fn needs(stages: &[Value], stage: &str) -> Value {
    stages.iter().find(|s| s["stage"] == stage).unwrap_or_else(|| panic!("no {stage}"))["needs"].clone()
}

/// The mistakes of a recipe, as `(code, file or nothing, line, title)`.
fn mistakes(space: &TestSpace, args: &[&str]) -> Vec<(String, String, u64, String)> {
    let found = space.run(&[&["check", "r.yaml", "--json"], args].concat());
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let all = found.json()["diagnostics"].as_array().unwrap().clone();
    all.iter().map(|d| (text(&d["code"]), text(&d["path"]), d["line"].as_u64().unwrap(), text(&d["title"]))).collect()
}

const TEACHERS: &str = "opdflow: 1
name: teachers
seed: 3
vars: {iterations: 4, value: 2}
defaults:
  fake_train: {algorithm: {plain: {rate: 0.25}}}
stages:
  base: {uses: fake_source, with: {value: \"${value}\"}}
  teacher: {uses: fake_train, needs: {base: base.value}, with: {iterations: \"${iterations}\"}}
  other: {uses: fake_train, needs: {base: base.value}, with: {iterations: 8}}
  report: {uses: fake_report, needs: {parts: {one: teacher.model, two: other.model}}}
";

fn space(recipe: &str) -> TestSpace {
    let space = TestSpace::new();
    std::fs::create_dir_all(space.path("sub")).unwrap();
    space.write("sub/teachers.yaml", TEACHERS);
    space.write("r.yaml", recipe);
    space
}

#[test]
fn included_stages_have_the_keys_that_they_have_in_their_own_recipe() {
    let space = space(
        "opdflow: 1
name: compare
include: {recipe: sub/teachers.yaml, stages: [teacher]}
stages:
  report: {uses: fake_report, needs: {parts: {one: teacher.model}}}
  mine: {uses: fake_train, needs: {base: base.value}, with: {iterations: 4}}
",
    );
    let (own, there) = (keys(&plan(&space, &[])), keys(&plan_of(&space, "sub/teachers.yaml", &[])));
    // What `teacher` needs came with it, and what nothing needs did not.
    assert_eq!(own.keys().collect::<Vec<_>>(), ["base", "mine", "report", "teacher"]);
    assert_eq!((&own["base"], &own["teacher"]), (&there["base"], &there["teacher"]));
    // Defaults and seed of the included recipe lie below: the same stage written here is the same.
    assert_eq!(own["mine"], own["teacher"]);
    // Variables of it can be set, here and from outside.
    let text = std::fs::read_to_string(space.path("r.yaml")).unwrap();
    space.write("r.yaml", &text.replace("stages:\n", "vars: {value: 5}\nstages:\n"));
    assert_ne!(keys(&plan(&space, &[]))["base"], there["base"]);
    assert_eq!(keys(&plan(&space, &["--set", "value=2"])), own);
    // A run keeps all files of the recipe, so that it can be run again from its folder.
    let ran = space.run(&["run", "r.yaml", "--json"]).expect(0);
    let run = space.path(".opdflow/runs").join(ran.json()["run"].as_str().unwrap());
    assert_eq!(std::fs::read_to_string(run.join("sub/teachers.yaml")).unwrap(), TEACHERS);
    space.run(&["plan", run.join("recipe.yaml").to_str().unwrap()]).expect(0);
}

/// Of an included recipe not everything need be read here; of this one's own stages it must.
#[test]
fn what_nothing_reads_is_told_of_a_recipes_own_stages_alone() {
    let source = |name: &str| format!("  {name}: {{uses: fake_source, with: {{value: 7}}}}\n");
    let space = space(&format!(
        "opdflow: 1\nname: compare\ninclude: sub/more.yaml\nstages:\n{}  report: {{uses: fake_report, needs: {{parts: {{one: read.value}}}}}}\n",
        source("idle")
    ));
    space.write("sub/more.yaml", &format!("opdflow: 1\nname: more\nstages:\n{}{}", source("spare"), source("read")));
    let titles: Vec<String> = mistakes(&space, &[]).into_iter().map(|(_, _, _, title)| title).collect();
    assert_eq!(titles, ["nothing reads what `idle` leaves"]);
}

#[test]
fn defaults_of_a_recipe_lie_above_those_that_it_includes() {
    let space = space(
        "opdflow: 1
name: own
include: sub/teachers.yaml
defaults: {fake_train: {algorithm: {plain: {rate: 0.5}}}}
stages:
  mine: {uses: fake_train, needs: {base: base.value}, with: {iterations: 4}}
",
    );
    let explained = |stage: &str| space.run(&["explain", "r.yaml", stage, "--json"]).expect(0).stdout;
    assert!(explained("mine").contains("0.5") && explained("teacher").contains("0.25"));
}

/// Paths of an included recipe start at its own folder.
#[test]
fn a_path_starts_where_its_stage_is_written() {
    let space = space("opdflow: 1\nname: x\ninclude: sub/files.yaml\n");
    let files = "opdflow: 1\nname: files\nstages: {a: {uses: fake_source, with: {file: there.txt}}}\n";
    space.write("sub/files.yaml", files);
    space.write("sub/there.txt", "7");
    space.run(&["run", "r.yaml"]).expect(0);
}

#[test]
fn what_is_wrong_with_an_include_is_shown_at_its_place() {
    let head = "opdflow: 1\nname: x\n";
    let body = "stages: {mine: {uses: fake_source}}\n";
    let space = space("");
    space.write("circle.yaml", &format!("{head}include: r.yaml\n{body}"));
    space.write("wrong.yaml", "opdflow: 1\nname: w\n\nstages: {a: {uses: fake_source, with: {valeu: 1}}}\n");
    space.write(
        "a.yaml",
        &format!("{head}vars: {{n: 1}}\nstages: {{a: {{uses: fake_source, with: {{value: \"${{n}}\"}}}}}}\n"),
    );
    space.write(
        "b.yaml",
        &format!("{head}vars: {{n: 2}}\nstages: {{b: {{uses: fake_source, with: {{value: \"${{n}}\"}}}}}}\n"),
    );
    for (include, code, file, line, words) in [
        ("circle.yaml", "E029", "circle.yaml", 3, "a recipe includes itself"),
        ("r.yaml", "E029", "", 3, "a recipe includes itself"),
        ("nosuch.yaml", "E029", "", 3, "an included recipe cannot be read"),
        ("sub", "E029", "", 3, "an included recipe cannot be read"),
        ("{recipe: sub/teachers.yaml, stages: [techer]}", "E029", "", 3, "the included recipe has no stage `techer`"),
        ("{recipe: sub/teachers.yaml, stage: [teacher]}", "E010", "", 3, "`stage`"),
        ("[a.yaml, b.yaml]", "E029", "", 3, "two included recipes give the variable `n` different values"),
        ("[{stages: [a]}]", "E012", "", 3, "an include must be"),
        ("wrong.yaml", "E040", "wrong.yaml", 4, "has no parameter `valeu`"),
        ("\"${x}\"", "E012", "", 3, "an include must be"),
    ] {
        space.write("r.yaml", &format!("{head}include: {include}\n{body}"));
        let found = mistakes(&space, &[]);
        let fits = |(c, f, l, t): &(String, String, u64, String)| {
            c == code && f.ends_with(file) && f.is_empty() == file.is_empty() && *l == line && t.contains(words)
        };
        assert!(found.iter().any(fits), "{include}: {found:?}");
    }
    // Far more files than anybody means, each including the next.
    space.write("n0.yaml", &format!("opdflow: 1\n{body}"));
    for i in 1..100 {
        space.write(&format!("n{i}.yaml"), &format!("opdflow: 1\ninclude: n{}.yaml\n", i - 1));
    }
    space.write("r.yaml", &format!("{head}include: n99.yaml\n"));
    assert!(mistakes(&space, &[]).iter().any(|(c, _, _, t)| c == "E029" && t == "more than 64 recipes are included"));
    space.write("r.yaml", &format!("{head}include: n50.yaml\n"));
    assert_eq!(mistakes(&space, &[]), []);
    // A stage of two files, with both places.
    space.write("r.yaml", &format!("{head}include: sub/teachers.yaml\nstages: {{base: {{uses: fake_source}}}}\n"));
    assert_eq!(mistakes(&space, &[])[0].3, "the stage `base` is in two of the recipes");
    let shown = space.run(&["check", "r.yaml"]).expect(2).stderr;
    assert!(shown.contains("r.yaml:4:10") && shown.contains("sub/teachers.yaml:8:3"), "{shown}");
    // Where two include values that differ, the recipe says which counts.
    space.write("r.yaml", &format!("{head}include: [a.yaml, b.yaml]\nvars: {{n: 3}}\n{body}"));
    assert_eq!(mistakes(&space, &[]), []);
    // Two ways to one file are no two stages.
    space.write("c.yaml", &format!("{head}include: a.yaml\n"));
    space.write("r.yaml", &format!("{head}include: [a.yaml, ./c.yaml]\n{body}"));
    assert_eq!(mistakes(&space, &[]), []);
}

const TASKS: &str = "opdflow: 1
name: tasks
vars:
  rounds: 4
  tasks:
    count: {value: 1, train: {iterations: \"${rounds}\"}}
    read: {value: 2, train: {iterations: 8, algorithm: {plain: {rate: 0.5}}}}
stages:
  source:
    uses: fake_source
    matrix: {task: \"${tasks}\"}
    with: {value: \"${matrix.task.value}\"}
  teacher:
    uses: fake_train
    matrix: {task: \"${tasks}\"}
    needs: {base: source.value}
    with: \"${matrix.task.train}\"
  sum:
    uses: fake_sum
    needs: {terms: {matrix: {task: \"${tasks}\"}, base: \"source[task=read].value\", \"${matrix.task}_term\": \"source[task=${matrix.task}].value\"}}
  each:
    uses: fake_sum
    matrix: {task: [count, read]}
    needs: {terms: {\"of_${matrix.task}\": source.value}}
  report:
    uses: fake_report
    needs: {parts: teacher.model}
";

#[test]
fn one_declaration_stands_for_several() {
    let space = space(TASKS);
    let stages = plan(&space, &[]);
    let names: Vec<&str> = stages.iter().map(|s| s["stage"].as_str().unwrap()).collect();
    for name in ["source[task=count]", "source[task=read]", "teacher[task=count]", "teacher[task=read]"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert_eq!(needs(&stages, "teacher[task=read]"), json!({"base": "source[task=read].value"}));
    assert_eq!(
        needs(&stages, "sum"),
        json!({"terms.base": "source[task=read].value", "terms.count_term": "source[task=count].value", "terms.read_term": "source[task=read].value"})
    );
    assert_eq!(needs(&stages, "each[task=read]"), json!({"terms.of_read": "source[task=read].value"}));
    // They are the stages that one would write out.
    let written = "opdflow: 1
name: tasks
stages:
  a: {uses: fake_source, with: {value: 1}}
  b: {uses: fake_source, with: {value: 2}}
  one: {uses: fake_train, needs: {base: a.value}, with: {iterations: 4}}
  two: {uses: fake_train, needs: {base: b.value}, with: {iterations: 8, algorithm: {plain: {rate: 0.5}}}}
  sum: {uses: fake_sum, needs: {terms: {base: b.value, count_term: a.value, read_term: b.value}}}
";
    let short = keys(&stages);
    space.write("r.yaml", written);
    let long = keys(&plan(&space, &[]));
    for (a, b) in
        [("source[task=count]", "a"), ("teacher[task=count]", "one"), ("teacher[task=read]", "two"), ("sum", "sum")]
    {
        assert_eq!(short[a], long[b], "{a}");
    }
    // A third task is one line, and all that is made of each follows.
    space.write("r.yaml", &TASKS.replace("    read: {", "    draw: {value: 3, train: {iterations: 2}}\n    read: {"));
    let more = keys(&plan(&space, &[]));
    assert_eq!(more.len(), short.len() + 2);
    assert_eq!(more["teacher[task=read]"], short["teacher[task=read]"]);
}

#[test]
fn a_matrix_in_a_list_makes_its_items() {
    let space = space(
        "opdflow: 1
name: x
vars: {more: [2, 3], pairs: {a: {x: 5}, b: {x: 6}}}
stages:
  a: {uses: fake_warn, with: {rounds: 9, flat: [1, {matrix: {n: \"${more}\"}, value: \"${matrix.n}\"}, {matrix: {p: \"${pairs}\"}, value: \"${matrix.p.x}\"}, 8]}}
  b: {uses: fake_warn, with: {rounds: 9, flat: [1, 2, 3, 5, 6, 8]}}
  report: {uses: fake_report, needs: {parts: {a: a.value, b: b.value}}}
",
    );
    let found = keys(&plan(&space, &[]));
    assert_eq!(found["a"], found["b"]);
}

/// What only some of the values of an axis have is optional where it says so.
#[test]
fn a_part_that_a_value_lacks_is_nothing_if_asked_so() {
    let space = space(
        "opdflow: 1
name: x
vars: {tasks: {a: {title: one}, b: {more: 2}}}
stages:
  base: {uses: fake_source}
  r: {uses: fake_report, matrix: {t: \"${tasks}\"}, needs: {parts: {base: base.value}}, with: {title: \"of ${matrix.t} ${matrix.t.title?}\"}}
  s: {uses: fake_sum, needs: {terms: {one: base.value, matrix: {t: \"${tasks}\"}, \"${matrix.t}\": \"${matrix.t.from?}\"}}}
",
    );
    let stages = plan(&space, &[]);
    assert_eq!(needs(&stages, "s"), json!({"terms.one": "base.value"}));
    let text = std::fs::read_to_string(space.path("r.yaml")).unwrap();
    space.write("r.yaml", &text.replace("title?", "title"));
    assert!(mistakes(&space, &[]).iter().any(|(c, _, _, t)| c == "E020" && t == "`matrix.t` has no `title`"));
    space.write("r.yaml", &text.replace("matrix.t.title?", "nosuch?"));
    assert!(mistakes(&space, &[]).iter().any(|(c, _, _, t)| c == "E020" && t.contains("`nosuch`")));
}

#[test]
fn any_parameter_can_be_set() {
    let space = space(TASKS);
    let plain = keys(&plan(&space, &[]));
    let set = |value: &str| keys(&plan(&space, &["--set", value]));
    let changed = |value: &str| {
        let now = set(value);
        plain.iter().filter(|(stage, key)| now[*stage] != **key).map(|(stage, _)| stage.clone()).collect::<Vec<_>>()
    };
    assert_eq!(changed("teacher[task=read].with.iterations=9"), ["report", "teacher[task=read]"]);
    assert_eq!(
        changed("teacher.with.algorithm={plain: {rate: 0.125}}"),
        ["report", "teacher[task=count]", "teacher[task=read]"]
    );
    assert_eq!(changed("teacher.seed=7"), ["report", "teacher[task=count]", "teacher[task=read]"]);
    assert_eq!(changed("tasks.count.train.iterations=5"), ["report", "teacher[task=count]"]);
    assert_eq!(changed("rounds=5"), ["report", "teacher[task=count]"]);
    assert_eq!(changed("report.with.title=new"), ["report"]);
    assert_eq!(changed("teacher[task=count].with.iterations=4"), Vec::<String>::new(), "its own value");
    for (value, code, words) in [
        ("techer.with.iterations=9", "E020", "`--set techer.with.iterations=9` sets what the recipe does not have"),
        ("teacher[task=none].with.iterations=9", "E020", "sets what the recipe does not have"),
        ("teacher.wiht.iterations=9", "E020", "sets a variable that the recipe does not have"),
        ("tasks.count.tran=9", "E020", "sets a variable that the recipe does not have"),
        ("teacher.with.iterations.x=9", "E021", "is no map"),
        ("teacher.with.iterations=few", "E042", "`iterations` of stage `teacher[task=count]` does not fit"),
        ("teacher.with.iteratoins=9", "E040", "has no parameter `iteratoins`"),
        ("teacher.with.algorithm.loud.rate=1", "E046", "`algorithm.loud` of stage `teacher[task=count]` is called"),
        ("source.with.value={a: 1}", "E042", "`value` of stage"),
    ] {
        let found = mistakes(&space, &["--set", value]);
        assert!(found.iter().any(|(c, _, _, t)| c == code && t.contains(words)), "{value}: {found:?}");
    }
    let shown = space.run(&["check", "r.yaml", "--set", "teacher.with.iterations=few"]).expect(2).stderr;
    assert!(shown.contains("the value comes from `--set teacher.with.iterations=few`"), "{shown}");
}

#[test]
fn what_is_wrong_with_a_matrix_inside_of_a_stage_is_shown() {
    for (from, to, code, words) in [
        ("\"${matrix.task}_term\"", "\"${matrix.tsk}_term\"", "E020", "there is no variable `matrix.tsk`"),
        ("\"${matrix.task}_term\"", "more", "E026", "the axis `task` of the map is never used"),
        ("\"${matrix.task}_term\"", "\"base${matrix.none}\"", "E020", "there is no variable `matrix.none`"),
        (
            "base: \"source[task=read].value\"",
            "read_term: \"source[task=read].value\"",
            "E004",
            "`read_term` is given twice",
        ),
        (
            "with: {value: \"${matrix.task.value}\"}",
            "with: {value: \"${matrix.task.vaule}\"}",
            "E020",
            "`matrix.task` has no `vaule`",
        ),
        ("rounds: 4", "rounds: \"${tasks}\"", "E024", "uses itself"),
        ("{task: \"${tasks}\"}\n    with", "{task: 3}\n    with", "E012", "the axis `task`"),
    ] {
        assert_eq!(TASKS.matches(from).count(), 1, "{from}");
        let space = space(&TASKS.replace(from, to));
        let found = mistakes(&space, &[]);
        assert!(found.iter().any(|(c, _, _, t)| c == code && t.contains(words)), "{to}: {found:?}");
    }
}

/// Each variable may use another, and a chain of them has an end.
#[test]
fn a_long_chain_of_variables_is_refused_and_a_short_one_is_not() {
    let chain = |n: usize| {
        let vars: String = (0..n).map(|i| format!("  v{i}: \"${{v{}}}\"\n", i + 1)).collect();
        format!(
            "opdflow: 1\nname: x\nvars:\n{vars}  v{n}: 7\nstages:\n  a: {{uses: fake_source, with: {{value: \"${{v0}}\"}}}}\n"
        )
    };
    let space = space(&chain(50));
    assert_eq!(mistakes(&space, &[]), []);
    for n in [200, 100_000] {
        space.write("r.yaml", &chain(n));
        let found = mistakes(&space, &[]);
        assert!(found.iter().any(|(c, _, _, t)| c == "E024" && t.contains("more than 64")), "{n}: {:?}", found.first());
    }
}
