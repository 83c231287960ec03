//! What no recipe and no command line may do: fill the memory, wait for ever, take minutes to say what is wrong, or pass a
//! number on that nothing can hold.
#![allow(missing_docs)]

mod common;

use common::TestSpace;
use opdflow::plan::{NumericFacts, Plan};
use opdflow::recipe::{self, Diagnostics, Overrides, Recipe};
use opdflow_api::{Registry, with_fakes};
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

fn read(text: String) -> Result<Recipe, Diagnostics> {
    recipe::parse(Path::new("r.yaml"), text, &with_fakes(Registry::new()), &Overrides::default())
}

fn codes(text: String) -> Vec<&'static str> {
    read(text).err().map(|found| found.list.iter().map(|d| d.code).collect()).unwrap_or_default()
}

/// A list of `n` numbers.
fn list(n: usize) -> String {
    format!("[{}]", vec!["1"; n].join(","))
}

/// Numbers from 0, as the values of an axis.
fn axis(n: usize) -> String {
    format!("[{}]", (0..n).map(|i| i.to_string()).collect::<Vec<_>>().join(","))
}

/// Recipes that are short as they are written and larger than any memory as they are meant.
fn bombs() -> Vec<(&'static str, String)> {
    let head = "opdflow: 1\nname: bomb\n";
    let cells = axis(1000);
    let long = "x".repeat(1_000_000);
    let stages: String = (0..40)
        .map(|i| format!("  s{i}: {{uses: fake_source, matrix: {{i: {cells}}}, with: {{file: \"${{matrix.i}}\", tool: \"${{a}}\"}}}}\n"))
        .collect();
    vec![
        (
            "a list, in the cells of a matrix",
            format!(
                "{head}vars: {{l: {}}}\nstages:\n  s: {{uses: fake_source, matrix: {{i: {cells}}}, with: {{value: \"${{matrix.i}}\", file: \"${{l}}\"}}}}\n",
                list(20_000)
            ),
        ),
        (
            "a long text, many times in one text",
            format!("{head}vars: {{a: {long}}}\nstages:\n  s: {{uses: fake_source, with: {{file: \"{}\"}}}}\n", "${a}".repeat(10_000)),
        ),
        (
            "a long text, in many values",
            format!("{head}vars: {{a: {long}}}\nstages:\n  s: {{uses: fake_source, with: {{file: [{}]}}}}\n", "\"${a}\",".repeat(10_000)),
        ),
        ("a long text, in many cells", format!("{head}vars: {{a: {long}}}\nstages:\n{stages}")),
        (
            "a long text as the value of an axis",
            format!("{head}stages:\n  s: {{uses: fake_source, matrix: {{i: {cells}, j: [{long}]}}, with: {{file: \"${{matrix.j}}${{matrix.i}}\"}}}}\n"),
        ),
        (
            "nested lists, in defaults of many stages",
            format!(
                "{head}vars: {{l: [{}]}}\ndefaults: {{fake_source: {{file: \"${{l}}\"}}}}\nstages:\n{}",
                vec![list(100); 100].join(","),
                (0..1000).map(|i| format!("  s{i}: {{uses: fake_source}}\n")).collect::<String>()
            ),
        ),
        (
            "connections of cells with cells",
            format!(
                "{head}stages:\n  a: {{uses: fake_source, matrix: {{i: {cells}}}, with: {{value: \"${{matrix.i}}\"}}}}\n{}",
                (0..4)
                    .map(|k| format!("  b{k}: {{uses: fake_sum, matrix: {{j: {cells}}}, needs: {{terms: a.value}}, with: {{plus: \"${{matrix.j}}\"}}}}\n"))
                    .collect::<String>()
            ),
        ),
        (
            "variables of variables, each ten times the one before",
            format!(
                "{head}vars:\n  l: {}\n  v0: [x]\n{}stages:\n  s: {{uses: fake_source, with: {{file: \"${{v12}}\"}}}}\n",
                axis(10),
                (1..=12)
                    .map(|k| format!("  v{k}: [{{matrix: {{i: \"${{l}}\"}}, value: [\"${{matrix.i}}\", \"${{v{}}}\"]}}]\n", k - 1))
                    .collect::<String>()
            ),
        ),
        (
            "a map for an axis, in many cells",
            format!(
                "{head}vars: {{m: {{a: {{t: {long}}}, b: {{t: {long}}}}}}}\nstages:\n  s: {{uses: fake_source, matrix: {{i: {}, m: \"${{m}}\"}}, with: {{file: \"${{matrix.m.t}}${{matrix.i}}\"}}}}\n",
                axis(400)
            ),
        ),
        (
            "names of a map, in many cells",
            format!(
                "{head}vars: {{l: {}}}\nstages:\n  s: {{uses: fake_source, with: {{matrix: {{i: {cells}}}, \"n${{matrix.i}}\": \"${{l}}\"}}}}\n",
                list(20_000)
            ),
        ),
        ("values as they are written", format!("{head}vars: {{l: {}}}\nstages: {{}}\n", list(3_100_000))),
    ]
}

#[test]
fn a_short_recipe_that_means_a_huge_one_is_refused_while_it_is_small() {
    for (what, text) in bombs() {
        let began = Instant::now();
        assert!(codes(text).contains(&"E028"), "{what}");
        println!("{what}: {:?}, {} MB so far", began.elapsed(), peak() / 1_000_000);
        assert!(began.elapsed() < Duration::from_secs(30), "{what}: {:?}", began.elapsed());
    }
    assert!(peak() < 1 << 30, "{} bytes", peak());
}

/// Most bytes of memory that this process has had so far.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn a_matrix_has_a_bound_of_its_own() {
    let of = |matrix: &str| {
        codes(format!(
            "opdflow: 1\nname: m\nstages:\n  s: {{uses: fake_source, matrix: {{{matrix}}}, with: {{value: \"${{matrix.a0}}\"}}}}\n"
        ))
    };
    let axes = |n: usize| (0..n).map(|i| format!("a{i}: [1]")).collect::<Vec<_>>().join(", ");
    assert_eq!(of("a0: [1, 2]"), Vec::<&str>::new());
    assert_eq!(of(&axes(33)), ["E025"]);
    assert_eq!(of(&axes(20_000)), ["E025"]);
    assert_eq!(of(&format!("a0: {}", axis(1001))), ["E025"]);
    assert_eq!(of(&format!("a0: {0}, a1: {0}, a2: {0}", axis(11))), ["E025"]);
    let listed = |n: usize| (0..n).map(|i| format!("{{a0: {i}}}")).collect::<Vec<_>>().join(", ");
    assert_eq!(of(&format!("include: [{}]", listed(1000))), Vec::<&str>::new());
    assert_eq!(of(&format!("include: [{}]", listed(1001))), ["E025"]);
    let wide = (0..40).map(|i| format!("a{i}: 1")).collect::<Vec<_>>().join(", ");
    assert_eq!(of(&format!("include: [{{{wide}}}]")), ["E025"]);
}

#[test]
fn what_is_no_plain_file_is_not_read() {
    let space = TestSpace::new();
    space.recipe("r.yaml", "a: {uses: fake_source}");
    let pipe = std::ffi::CString::new(space.path("pipe").to_str().unwrap()).unwrap();
    // SAFETY: the path ends with a zero byte.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    let large = std::fs::File::create(space.path("large")).unwrap();
    large.set_len(1 << 40).unwrap();
    for (path, why) in [("pipe", "a named pipe"), ("/dev/zero", "a device"), (".", "a folder"), ("large", "are read")] {
        for command in ["check", "plan", "run", "graph"] {
            let said = space.run(&[command, path]).expect(2).stderr;
            assert!(said.contains("E001") && said.contains(why), "{command} {path}: {said}");
        }
        let said = space.run(&["check", "r.yaml", "--vars", path]).expect(2).stderr;
        assert!(said.contains("E027") && said.contains(why), "{path}: {said}");
        let said = space.run(&["generate", "--base", "bundled:mini", "--prompts", path, "-o", "out"]).expect(2).stderr;
        assert!(said.contains(why), "{path}: {said}");
    }
}

/// Recipes with twenty thousand mistakes each, of many sorts.
fn mistaken() -> Vec<(&'static str, String)> {
    const N: usize = 20_000;
    let with = |head: &str, line: &dyn Fn(usize) -> String| {
        let mut text = format!("opdflow: 1\nname: bad\n{head}stages:\n");
        (0..N).for_each(|i| text += &format!("  s{i}: {}\n", line(i)));
        text
    };
    let one_line = |stage: &str| {
        let stages: Vec<String> = (0..N).map(|i| format!("s{i}: {stage}")).collect();
        format!("opdflow: 1\nname: bad\nstages: {{{}}}\n", stages.join(", "))
    };
    let vars: Vec<String> = (0..N).map(|i| format!("v{i}: 1")).collect();
    vec![
        ("unknown kinds", with("", &|_| "{uses: fake_sorce}".into())),
        ("unknown stages", with("", &|i| format!("{{uses: fake_sum, needs: {{terms: {{x: t{i}.value}}}}}}"))),
        ("unknown parameters", with("", &|_| "{uses: fake_source, with: {valeu: 1}}".into())),
        ("values that do not fit", with("", &|_| "{uses: fake_source, with: {value: many}}".into())),
        ("values out of range", with("", &|_| "{uses: fake_train, with: {iterations: 0}}".into())),
        ("missing inputs", with("", &|_| "{uses: fake_sum}".into())),
        (
            "outputs of the wrong type",
            with("", &|_| "{uses: fake_train, with: {iterations: 1}, needs: {base: s0.model}}".into()),
        ),
        (
            "unknown variables",
            with(&format!("vars: {{{}}}\n", vars.join(", ")), &|i| {
                format!("{{uses: fake_source, with: {{value: \"${{w{i}}}\"}}}}")
            }),
        ),
        ("names that are none", with("", &|_| "{uses: fake_source, with: {value: 1}}".into()).replace("  s", "  S")),
        ("names given twice", with("", &|_| "{uses: fake_source, with: {value: 1, value: 2}}".into())),
        (
            "all in one circle",
            with("", &|i| format!("{{uses: fake_sum, needs: {{terms: {{x: s{}.value}}}}}}", (i + 1) % N)),
        ),
        ("all on one line", one_line("{uses: fake_source, with: {valeu: 1}}")),
        ("unknown stages on one line", one_line("{uses: fake_sum, needs: {terms: {x: other.value}}}")),
    ]
}

#[test]
fn very_many_mistakes_are_found_in_seconds_and_the_first_hundred_shown() {
    for (what, text) in mistaken() {
        let began = Instant::now();
        let found = read(text).err().unwrap_or_else(|| panic!("{what}: no mistakes"));
        let read = began.elapsed();
        let shown = found.render(false);
        let rendered = began.elapsed();
        let json = found.to_json();
        let all = began.elapsed();
        // Several times what it takes on a slow machine beside others, and a small part of what it took.
        assert!(all < Duration::from_secs(20), "{what}: {read:?} {rendered:?} {all:?}");
        println!("{what}: {} mistakes, {read:?} {rendered:?} {all:?}", found.list.len());
        assert_eq!(json["diagnostics"].as_array().unwrap().len(), found.list.len(), "{what}");
        if found.list.len() > 100 {
            assert_eq!(shown.matches("\nerror[").count() + 1, 100, "{what}");
            assert!(shown.contains(&format!("and {} more, which `--json` lists", found.list.len() - 100)), "{what}");
        }
        assert!(shown.trim_end().ends_with(&format!("{} errors", found.counts().0)) || found.list.len() == 1, "{what}");
        assert!(shown.len() < 1 << 20, "{what}: {} bytes are shown", shown.len());
    }
}

/// Of a line that is cut, line and column are those in the file.
#[test]
fn a_mistake_far_out_on_a_long_line_has_its_place() {
    let stages: Vec<String> = (0..2000).map(|i| format!("s{i}: {{uses: fake_source}}")).collect();
    let text = format!("opdflow: 1\nname: bad\nstages: {{{}, größe: {{uses: fake_sorce}}}}\n", stages.join(", "));
    let column = text.lines().nth(2).unwrap().chars().collect::<String>();
    let column = column[..column.find("fake_sorce").unwrap()].chars().count() + 1;
    let found = read(text).err().unwrap();
    let shown = found.render(false);
    assert!(shown.contains(&format!("r.yaml:3:{column}")) && shown.contains("fake_sorce"), "{shown}");
    assert!(shown.lines().all(|l| l.chars().count() < 500), "{shown}");
}

#[test]
fn errors_are_shown_before_warnings() {
    let mut text = "opdflow: 1\nname: w\nstages:\n  end: {uses: fake_report}\n".to_owned();
    (0..300).for_each(|i| text += &format!("  w{i}: {{uses: fake_source}}\n"));
    text += "  bad: {uses: fake_source, with: {value: many}}\n";
    let shown = read(text).err().unwrap().render(false);
    assert!(shown.contains("E042") && shown.contains("1 error, 301 warnings"), "{shown}");
}

#[test]
fn a_hundred_thousand_sound_stages_are_planned_in_seconds() {
    // `OPDFLOW_STAGES=100000 cargo test --release --test limits stages -- --nocapture` shows the figure of docs/reference/engine.md.
    let n = std::env::var("OPDFLOW_STAGES").map_or(20_000, |n| n.parse().unwrap());
    let mut hub = "opdflow: 1\nname: big\nstages:\n  s0: {uses: fake_source, with: {value: 1}}\n".to_owned();
    let mut chain = hub.clone();
    for i in 1..n {
        let _ = writeln!(hub, "  s{i}: {{uses: fake_sum, needs: {{terms: {{x: s0.value}}}}, with: {{plus: {i}}}}}");
        let _ = writeln!(
            chain,
            "  s{i}: {{uses: fake_sum, needs: {{terms: {{x: s{}.value}}}}, with: {{plus: {i}}}}}",
            i - 1
        );
    }
    for (what, text) in [("one that all read", hub), ("each reads the one before", chain)] {
        let began = Instant::now();
        let recipe = read(text).unwrap_or_else(|found| panic!("{}", found.render(false)));
        let read = began.elapsed();
        let plan = Plan::new(recipe, NumericFacts::default()).unwrap_or_else(|found| panic!("{}", found.render(false)));
        println!("{what}: {n} stages, read {read:?}, planned {:?}", began.elapsed());
        assert_eq!(plan.stages.len(), n);
        assert!(began.elapsed() < Duration::from_secs(30), "{what}: {read:?} {:?}", began.elapsed());
    }
}

/// Numbers at the end of what 64 bits hold, and floats at the end of theirs, wherever the engine takes a number itself.
#[test]
fn huge_numbers_are_refused_or_harmless() {
    let space = TestSpace::new();
    let numbers = [
        "9223372036854775806",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "170141183460469231731687303715884105728",
        "1e308",
        "1e309",
        "-1",
        "-9223372036854775808",
        "1.5",
        "0.1e-400",
        ".inf",
        ".nan",
        "4097",
    ];
    let sound = |ran: &common::Ran, what: &str| {
        assert!(matches!(ran.code, 0..=3), "{what}: {} {}", ran.code, ran.stderr);
        assert!(!ran.stderr.contains("panicked") && !ran.stderr.contains("a bug of"), "{what}: {}", ran.stderr);
    };
    for number in numbers {
        for field in ["seed: N", "resources: {cpus: N}", "resources: {gpu_memory: N}", "resources: {gpu_memory: NG}"] {
            let field = field.replace('N', number);
            space.recipe("r.yaml", &format!("a: {{uses: fake_train, with: {{iterations: 1}}, {field}}}"));
            sound(&space.run(&["run", "r.yaml", "-j", "4096", "--force", "a"]), &field);
            sound(&space.run(&["plan", "r.yaml"]), &field);
        }
        space.write(
            "head.yaml",
            &format!("opdflow: {number}\nname: {number}\nseed: {number}\nstages: {{a: {{uses: fake_source}}}}\n"),
        );
        sound(&space.run(&["run", "head.yaml"]), number);
        space.recipe("r.yaml", "a: {uses: fake_source}");
        for args in [
            &["run", "r.yaml", "-j", number][..],
            &["run", "r.yaml", "--seed", number],
            &["run", "r.yaml", "--checkpoint-seconds", number],
            &["gc", "--grace", number],
            &["gc", "--grace", &format!("{number}d")],
            &["gc", "--budget", number],
            &["gc", "--budget", &format!("{number}T")],
            &["pin", "r.yaml", "a", "--attempt", number],
            &["generate", "--base", "x", "--prompt", "y", "-o", "out", "--num-images-per-prompt", number],
            &["check", "r.yaml", "--set", &format!("n={number}")],
        ] {
            // The program of tools is not beside that of the tests without libtorch.
            sound(&space.run(args), &format!("{args:?}"));
        }
        for variable in ["OPDFLOW_GPUS", "OPDFLOW_GPU_MEMORY", "OPDFLOW_CHECKPOINT_SECONDS"] {
            let mut command = space.command(&["run", "r.yaml"]);
            let child = command
                .env(variable, number)
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            sound(&common::finish(child), variable);
        }
    }
}
