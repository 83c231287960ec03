//! Every mistake that a recipe can hold, as the user sees it.

use opdflow::plan::{NumericFacts, Plan};
use opdflow::recipe::{self, Device, Diagnostics, Level, Numerics, Overrides, Recipe, Strict};
use opdflow_api::cache::Store;
use opdflow_api::{Registry, with_fakes};
use std::collections::BTreeSet;
use std::path::Path;

fn read_with(text: &str, overrides: &Overrides) -> Result<Recipe, Diagnostics> {
    recipe::parse(Path::new("recipe.yaml"), text.to_owned(), &with_fakes(Registry::new()), overrides)
}

fn read(text: &str) -> Result<Recipe, Diagnostics> {
    read_with(text, &Overrides::default())
}

fn set(name: &str, value: &str) -> Overrides {
    Overrides { vars: [(name.to_owned(), value.to_owned())].into(), ..Overrides::default() }
}

/// What the user sees of a recipe: its mistakes, or its warnings.
fn shown(text: &str, overrides: &Overrides) -> String {
    match read_with(text, overrides) {
        Ok(recipe) => match Plan::new(recipe, NumericFacts::default()) {
            Ok(plan) => match equipped(&plan) {
                Ok(()) => plan.recipe.warnings().render(false),
                Err(found) => found.render(false),
            },
            Err(found) => found.render(false),
        },
        Err(found) => found.render(false),
    }
}

/// Whether this machine has what the plan needs, nothing being in the store.
fn equipped(plan: &Plan) -> Result<(), Diagnostics> {
    let folder = tempfile::tempdir().unwrap();
    plan.equipped(&(0..plan.stages.len()).collect::<Vec<_>>(), &[], &Store::open(folder.path()).unwrap())
}

/// A recipe with a head, and these stages.
fn with_stages(stages: &str) -> String {
    let stages: String = stages.lines().map(|l| format!("  {l}\n")).collect();
    format!("opdflow: 1\nname: test\nstages:\n{stages}")
}

/// One recipe for each way to be wrong: the code it shows, what is special, the text.
fn wrongs() -> Vec<(&'static str, &'static str, String)> {
    let whole = |code, what, text: &str| (code, what, text.to_owned());
    let stages = |code, what, text: &str| (code, what, with_stages(text));
    let one = "  a: {uses: fake_source}\n";
    vec![
        whole("E003", "open_bracket", "opdflow: 1\nname: [x\nstages: {}\n"),
        whole("E003", "tab", "opdflow: 1\nname: x\nstages:\n\ta: {uses: fake_source}\n"),
        whole(
            "E003",
            "unquoted_variable",
            "opdflow: 1\nname: x\nvars: {n: 1}\nstages:\n  a: {uses: fake_source, with: {value: ${n}}}\n",
        ),
        stages("E004", "stage", "a: {uses: fake_source}\nb: {uses: fake_source}\na: {uses: fake_sum}"),
        stages("E004", "param", "a: {uses: fake_source, with: {value: 1, value: 2}}"),
        stages("E005", "anchor", "a: &x {uses: fake_source}\nb: *x"),
        stages("E005", "merge_key", "a:\n  uses: fake_source\n  with:\n    <<: {value: 1}"),
        stages("E005", "tag", "a: {uses: fake_source, with: {value: !!int 3}}"),
        whole("E005", "documents", &format!("opdflow: 1\nname: x\nstages:\n{one}---\nname: y\n")),
        stages("E005", "map_as_name", "? {a: b}\n: {uses: fake_source}"),
        whole("E006", "deep", &format!("opdflow: 1\nname: {}{}\n", "[".repeat(60), "]".repeat(60))),
        whole("E007", "empty", ""),
        whole("E007", "comment", "# nothing but a comment\n"),
        whole("E010", "top", &format!("opdflow: 1\nname: x\nsede: 3\nstages:\n{one}")),
        stages("E010", "stage", "a: {uses: fake_source, wiht: {value: 3}}"),
        stages("E010", "elsewhere", "a: {kind: fake_source, uses: fake_source, resources: {gpu: 1}}"),
        whole("E011", "head", &format!("stages:\n{one}")),
        stages("E011", "uses", "a: {with: {value: 3}}"),
        whole("E011", "stages", "opdflow: 1\nname: x\n"),
        whole(
            "E012",
            "types",
            "opdflow: one\nname: {a: b}\nseed: -1\nnumerics: 3\nvars: [1]\ndefaults: x\nstages: [a, b]\n",
        ),
        stages("E012", "stage", "a: fake_source\nb: {uses: [x], needs: 3, with: 4, seed: 1.5, resources: {cpus: 0}}"),
        whole("E013", "newer", &format!("opdflow: 2\nname: x\nstages:\n{one}")),
        stages("E014", "names", "A-b: {uses: fake_source}\ns: {uses: fake_sum, needs: {terms: {\"x y\": A-b.value}}}"),
        stages("E014", "brackets", "\"a[x=1]\": {uses: fake_source}"),
        stages(
            "E014",
            "cells_alike",
            "a: {uses: fake_source, matrix: {x: [\"A\", \"a\"]}, with: {file: \"${matrix.x}\"}}\ns: {uses: fake_sum, needs: {terms: a.value}}",
        ),
        whole("E015", "matrix", &format!("opdflow: 1\nname: x\nextends: y\nmatrix: {{value: [1, 2]}}\nstages:\n{one}")),
        whole(
            "E020",
            "unknown",
            &format!("opdflow: 1\nname: \"${{itres}}\"\nvars: {{iters: 3}}\nseed: \"${{iters}}\"\nstages:\n{one}"),
        ),
        whole("E021", "map", &format!("opdflow: 1\nname: \"x-${{m}}\"\nvars: {{m: {{a: 1}}}}\nstages:\n{one}")),
        whole("E022", "unused", &format!("opdflow: 1\nname: x\nvars: {{iters: 3}}\nstages:\n{one}")),
        whole("E023", "open", &format!("opdflow: 1\nname: \"x ${{y\"\nstages:\n{one}")),
        whole(
            "E024",
            "nested",
            &format!("opdflow: 1\nname: \"${{a}}\"\nvars: {{a: \"${{b}}\", b: \"x${{a}}\"}}\nstages:\n{one}"),
        ),
        whole("E029", "include", "opdflow: 1\nname: x\ninclude: no/such.yaml\nstages: {a: {uses: fake_source}}\n"),
        whole("E030", "none", "opdflow: 1\nname: x\nstages: {}\n"),
        stages("E031", "kind", "a: {uses: fake_sorce}\nb: {uses: wholly_other}"),
        whole(
            "E031",
            "defaults",
            &format!("opdflow: 1\nname: x\ndefaults: {{fake_tran: {{iterations: 3}}}}\nstages:\n{one}"),
        ),
        stages(
            "E032",
            "stage",
            "source: {uses: fake_source}\nsum:\n  uses: fake_sum\n  needs:\n    terms: {a: suorce.value}",
        ),
        stages("E033", "output", "a: {uses: fake_source}\nb: {uses: fake_sum, needs: {terms: {a: a.valeu}}}"),
        stages(
            "E034",
            "type",
            "t: {uses: fake_train, with: {iterations: 3}}\nb: {uses: fake_sum, needs: {terms: {a: t.model}}}\nc: {uses: fake_source}",
        ),
        stages(
            "E035",
            "input",
            "a: {uses: fake_source, needs: {base: a.value}}\nb: {uses: fake_sum, needs: {term: {a: a.value}, terms: {a: a.value}}}",
        ),
        stages(
            "E036",
            "missing",
            "a: {uses: fake_source}\nb: {uses: fake_sum}\nc: {uses: fake_sum, needs: {terms: {}}}",
        ),
        stages("E037", "no_output", "a: {uses: fake_source}\nb: {uses: fake_sum, needs: {terms: {a: a}}}"),
        stages(
            "E012",
            "matrix",
            "a: {uses: fake_source, matrix: 3}\nb: {uses: fake_source, matrix: {x: 3}}\nc: {uses: fake_source, matrix: {x: [[1]]}}\nd: {uses: fake_source, matrix: {x: [\"a,b\"]}}",
        ),
        stages(
            "E025",
            "none",
            "a: {uses: fake_source, matrix: {}}\nb: {uses: fake_source, matrix: {x: [1], exclude: [{x: 1}]}}\nc: {uses: fake_source, matrix: {x: [1, 1]}}",
        ),
        stages(
            "E025",
            "cells",
            "a: {uses: fake_source, matrix: {x: [1, 2], y: [3], exclude: [{x: 7}, {z: 1}], include: [{x: 5}, {x: 1, y: 3}]}, with: {value: \"${matrix.x}\"}}",
        ),
        stages(
            "E025",
            "many",
            "a: {uses: fake_source, matrix: {a: [1,2,3,4,5,6,7,8,9], b: [1,2,3,4,5,6,7,8,9], c: [1,2,3,4,5,6,7,8,9], d: [1,2,3]}}",
        ),
        stages(
            "E026",
            "idle_axis",
            "a:\n  uses: fake_source\n  matrix: {value: [1, 2], seed: [1, 2]}\n  with: {value: \"${matrix.value}\"}",
        ),
        stages(
            "E020",
            "axis",
            "a:\n  uses: fake_source\n  matrix: {value: [1, 2]}\n  with: {value: \"${matrix.valeu}\", seconds: \"${matrix.value}\"}\nb: {uses: fake_source, with: {value: \"${matrix.value}\"}}",
        ),
        stages(
            "E032",
            "cell",
            "a: {uses: fake_source, matrix: {x: [1, 2]}, with: {value: \"${matrix.x}\"}}\nb: {uses: fake_train, needs: {base: \"a[x=3].value\"}, with: {iterations: 1}}",
        ),
        stages(
            "E038",
            "cells",
            "a: {uses: fake_source, matrix: {x: [1, 2]}, with: {value: \"${matrix.x}\"}}\nb: {uses: fake_train, needs: {base: a.value}, with: {iterations: 1}}",
        ),
        stages("E042", "axis_value", "a: {uses: fake_source, matrix: {x: [1, two]}, with: {value: \"${matrix.x}\"}}"),
        stages(
            "E038",
            "arity",
            "a: {uses: fake_source}\nb: {uses: fake_sum, needs: {terms: a.value}}\nc: {uses: fake_train, needs: {base: {x: a.value}}, with: {iterations: 1}}",
        ),
        stages(
            "E039",
            "cycle",
            "a: {uses: fake_sum, needs: {terms: {x: c.value}}}\nb: {uses: fake_sum, needs: {terms: {x: a.value}}}\nc: {uses: fake_sum, needs: {terms: {x: b.value}}}",
        ),
        stages("E039", "itself", "a: {uses: fake_sum, needs: {terms: {x: a.value}}}"),
        stages(
            "E040",
            "param",
            "a: {uses: fake_source, with: {vlaue: 3, secnods: 1}}\nb: {uses: fake_train, with: {iterations: 3, algorithm: {plain: {rte: 0.5, rate: 0.5}}}}",
        ),
        whole(
            "E046",
            "former",
            "opdflow: 1\nname: x\ndefaults: {fake_add: {plus: 1}}\nstages:\n  a: {uses: fake_add, needs: {summands: {x: s.value}}, with: {remainder: 5}}\n  b: {uses: fake_sum, needs: {terms: {a: a.total}}, with: {options: {modulo: -1}}}\n  c: {uses: fake_train, with: {iterations: 3, algorithm: {loud: {rate: 0.5, volume: 2}}}}\n  s: {uses: fake_source}\n",
        ),
        stages(
            "E047",
            "ranks",
            "a: {uses: fake_source, resources: {ranks: 2}}\nb: {uses: fake_train, with: {iterations: 3, algorithm: {plain: {rate: 0.5}}}, resources: {gpus: 2, gpu_memory: 4G}}",
        ),
        stages(
            "E041",
            "param",
            "a: {uses: fake_train}\nb: {uses: fake_train, with: {step_seconds: 0}}\nc:\n  uses: fake_train\n  with:\n    iterations: 3\n    algorithm: {noisy: {rate: 1}}",
        ),
        stages(
            "E042",
            "types",
            "a:\n  uses: fake_train\n  with:\n    iterations: many\n    step_seconds: {a: b}\n    algorithm: {plian: {rate: 1}}\n    fail_at: -2",
        ),
        stages("E042", "boolean", "a: {uses: fake_fail, with: {panic: yes, class: usr, message: [1]}}"),
        stages(
            "E043",
            "range",
            "t: {uses: fake_train, with: {iterations: 0, algorithm: {noisy: {rate: 1, noise: 2.5}}}}\na: {uses: fake_source}\nb: {uses: fake_sum, needs: {terms: {a: a.value}}, with: {modulo: -3}}",
        ),
        whole(
            "E043",
            "default",
            "opdflow: 1\nname: x\ndefaults: {fake_sum: {modulo: -3}}\nstages:\n  a: {uses: fake_source}\n  b: {uses: fake_sum, needs: {terms: {a: a.value}}}\n  c: {uses: fake_sum, needs: {terms: {a: a.value}}}\n",
        ),
        stages(
            "E044",
            "connection",
            "a: {uses: fake_source}\nb: {uses: fake_sum, needs: {terms: {a: a.value}}, with: {minus: c}}",
        ),
        whole(
            "E042",
            "variable",
            "opdflow: 1\nname: x\nvars: {n: few}\nstages:\n  a: {uses: fake_train, with: {iterations: \"${n}\"}}\n",
        ),
        stages(
            "E045",
            "input",
            "a: {uses: fake_source, with: {value: 2000000000000}}\nb: {uses: fake_sum, needs: {terms: {a: a.value}}}",
        ),
        stages("E050", "asset", "a: {uses: fake_source, with: {file: no/such/file}}"),
        stages("E051", "tool", "a: {uses: fake_source, with: {tool: /no/such/tool}}"),
        stages("W001", "unread", "a: {uses: fake_source}\nt: {uses: fake_train, with: {iterations: 1}}"),
        whole("W002", "idle", &format!("opdflow: 1\nname: x\ndefaults: {{fake_sum: {{plus: 1}}}}\nstages:\n{one}")),
    ]
}

#[test]
fn each_mistake_has_its_words() {
    for (code, what, text) in wrongs() {
        let shown = shown(&text, &Overrides::default());
        assert!(shown.contains(&format!("[{code}]")), "{code} {what}:\n{shown}");
        insta::with_settings!({description => text, omit_expression => true, filters => vec![(r"cannot \w+ .*no/such/file", "cannot read no/such/file")]}, {
            insta::assert_snapshot!(format!("{code}_{what}"), shown);
        });
    }
}

/// A file of variables laid over a recipe, in a folder of its own.
fn with_file(recipe: &str, vars: &str, set: Overrides) -> (tempfile::TempDir, Result<Recipe, Diagnostics>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("small.vars.yaml");
    std::fs::write(&path, vars).unwrap();
    let read = read_with(recipe, &Overrides { files: vec![path], ..set });
    (dir, read)
}

#[test]
fn a_file_of_variables_goes_between_the_recipe_and_the_command_line() {
    let recipe = "opdflow: 1\nname: x\nvars: {iters: 100, plain: {plain: {rate: 3}}, kept: 7}\nstages:\n  a: {uses: fake_source, with: {value: \"${kept}\"}}\n  t: {uses: fake_train, needs: {base: a.value}, with: {iterations: \"${iters}\", algorithm: \"${plain}\"}}\n";
    let vars = "# smaller\niters: 5\nplain: {plain: {rate: 2}}\n";
    let (_dir, read) = with_file(recipe, vars, Overrides::default());
    let recipe_of = |read: Result<Recipe, Diagnostics>| read.unwrap_or_else(|e| panic!("{e}"));
    let found = recipe_of(read);
    let params = |name: &str| found.stage(name).unwrap().1.params.clone();
    assert_eq!((params("a")["value"].clone(), params("t")["iterations"].clone()), (7.into(), 5.into()));
    assert_eq!(params("t")["algorithm"]["plain"]["rate"].as_f64(), Some(2.0));
    let (_dir, read) = with_file(recipe, vars, set("iters", "6"));
    assert_eq!(recipe_of(read).stage("t").unwrap().1.params["iterations"], 6);
}

#[test]
fn mistakes_in_a_file_of_variables_are_shown_where_they_are() {
    let recipe =
        "opdflow: 1\nname: x\nvars: {iters: 100}\nstages:\n  t: {uses: fake_train, with: {iterations: \"${iters}\"}}\n";
    let shown = |vars: &str| {
        let (dir, read) = with_file(recipe, vars, Overrides::default());
        read.err()
            .unwrap_or_else(|| panic!("{vars:?} was read"))
            .render(false)
            .replace(&format!("{}/", dir.path().display()), "")
    };
    for (vars, parts) in [
        ("iters: 1\nitres: 2\n", &["E020", "`small.vars.yaml:2` sets a variable", "recipe.yaml", "`iters`"][..]),
        ("iters: few\n", &["E042", "found the text `few`", "the value comes from `small.vars.yaml:1`"]),
        ("iters: 1\niters: 2\n", &["E004", "small.vars.yaml:2"]),
        ("iters: \"${n}\"\n", &["E020", "small.vars.yaml:1"]),
        ("- iters\n", &["E012", "small.vars.yaml:1", "a map"]),
        ("iters: [\n", &["E003", "small.vars.yaml"]),
        ("# nothing\n", &["E027", "empty"]),
    ] {
        let found = shown(vars);
        for part in parts {
            assert!(found.contains(part), "{vars:?}: no `{part}` in\n{found}");
        }
    }
    let none = read_with(recipe, &Overrides { files: vec!["no/such/file".into()], ..Overrides::default() });
    assert!(none.err().unwrap().render(false).contains("E027"));
}

#[test]
fn each_code_is_documented_and_shown() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/errors.md")).unwrap();
    let codes = |text: &str, mark: &str| -> BTreeSet<String> {
        text.split(mark)
            .filter_map(|t| t.get(..4))
            .filter(|t| t.starts_with(['E', 'W']) && t[1..].bytes().all(|b| b.is_ascii_digit()))
            .map(ToOwned::to_owned)
            .collect()
    };
    let mut sources = BTreeSet::new();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src/recipe"), root.join("src/exec/slurm")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                sources.extend(codes(&std::fs::read_to_string(path).unwrap(), "\""));
            }
        }
    }
    // Those that stages give, and their kinds before a run; tests/warnings.rs and tests/mini/warnings.rs show them.
    let warnings = concat!(env!("CARGO_MANIFEST_DIR"), "/stages/api/src/warning.rs");
    let warnings = codes(&std::fs::read_to_string(warnings).unwrap(), "\"");
    assert!(warnings.len() > 10 && warnings.is_disjoint(&sources), "{warnings:?}");
    let all: BTreeSet<String> = sources.union(&warnings).cloned().collect();
    assert_eq!(codes(&docs, "`"), all, "docs/reference/errors.md on the left, the sources on the right");
    let mut tested: BTreeSet<String> = wrongs().into_iter().map(|(code, ..)| code.to_owned()).collect();
    // The program cannot read such a file at all, or it is huge: tests of their own (`tests/limits.rs`).
    tested.extend(["E000", "E001", "E002", "E027", "E028"].map(ToOwned::to_owned));
    // Of a lock: `tests/publish.rs`.
    tested.extend(["E052", "E053"].map(ToOwned::to_owned));
    // Of the profile of a cluster: `src/exec/slurm/reading.rs`, `tests/slurm_fake.rs`.
    tested.extend(["E060", "E061"].map(ToOwned::to_owned));
    assert_eq!(tested, sources, "tested on the left, the sources on the right");
}

#[test]
fn several_mistakes_at_once_in_the_order_of_the_file() {
    let text = "opdflow: 1\nname: x\nsede: 4\nvars: {unused: 1}\nstages:\n  one: {uses: fake_sourc}\n  two: {uses: fake_train, with: {iterations: x, step_second: 1}}\n  \
                three: {uses: fake_sum, needs: {terms: {a: tow.model, b: two.model}}}\n";
    let found = read(text).err().unwrap();
    let codes: Vec<&str> = found.list.iter().map(|d| d.code).collect();
    assert_eq!(codes, ["E010", "E022", "E031", "E042", "E040", "E032", "E034"]);
    assert!(found.list.windows(2).all(|w| w[0].span.start <= w[1].span.start));
    insta::assert_snapshot!("several", found.render(false));
    insta::assert_snapshot!("several_json", serde_json::to_string_pretty(&found.to_json()).unwrap());
}

#[test]
fn unicode_is_counted_in_characters() {
    let text = "opdflow: 1\nname: \"größer als 漢字 🎨\"\nstages:\n  a: {uses: fake_source, with: {värde: 3}} # 漢字\n  größe: {uses: fake_source}\n";
    let found = read(text).err().unwrap();
    assert_eq!(&text[found.list[0].span.clone()], "värde");
    assert_eq!(found.sources.place(found.list[0].span.start), (4, 33));
    assert_eq!(&text[found.list[1].span.clone()], "größe");
    insta::assert_snapshot!("unicode", found.render(false));
}

#[test]
fn other_line_ends_and_a_byte_order_mark_keep_places() {
    let text = "\u{feff}opdflow: 1\r\nname: x\r\nstages:\r\n  a: {uses: fake_sourc}\r\n";
    let found = read(text).err().unwrap();
    assert_eq!(found.list.len(), 1, "{found}");
    assert_eq!(&text[found.list[0].span.clone()], "fake_sourc");
    assert_eq!(found.sources.place(found.list[0].span.start), (4, 13));
}

#[test]
fn numerics_say_their_device_or_are_refused_with_the_way_out() {
    let of = |numerics: &str| {
        let vars = if numerics.contains("${") { "vars: {dev: cuda}\n" } else { "" };
        let text = format!("opdflow: 1\nname: n\nnumerics: {numerics}\n{vars}stages:\n  a: {{uses: fake_source}}\n");
        read(&text).map(|recipe| recipe.numerics).map_err(|found| (found.list[0].code, found.list[0].title.clone()))
    };
    let strict = |device| Numerics::Strict(Strict { device, libtorch: None });
    assert_eq!(of("portable"), Ok(Numerics::Portable));
    assert_eq!(of("{profile: strict, device: \"${dev}\"}"), Ok(strict(Device::Cuda)));
    assert_eq!(of("{profile: strict, device: cpu}"), Ok(strict(Device::Cpu)));
    let named = Numerics::Strict(Strict { device: Device::Cpu, libtorch: Some("2.11.0".into()) });
    assert_eq!(of("{profile: strict, device: cpu, libtorch: 2.11.0}"), Ok(named));
    for (wrong, code, says) in [
        ("strict", "E011", "does not say for which device"),
        ("{profile: strict}", "E011", "has no `device`"),
        ("{device: cpu}", "E011", "has no `profile`"),
        ("{profile: strict, device: gpu}", "E012", "`device` must be `cpu` or `cuda`"),
        ("{profile: stric, device: cpu}", "E012", "`profile` must be"),
        ("{profile: strict, device: cpu, dtype: f32}", "E010", "has no `dtype`"),
        ("{profile: portable, device: cpu}", "E010", "`device` has no effect"),
        ("exact", "E012", "`numerics` must be"),
        ("[strict]", "E012", "`numerics` must be"),
    ] {
        let (found, title) = of(wrong).unwrap_err();
        assert!(found == code && title.contains(says), "{wrong}: {found} {title}");
    }
}

#[test]
fn a_good_recipe_is_read_whole() {
    let text = "opdflow: 1\nname: good\nseed: 7\nnumerics: {profile: strict, device: \"${dev}\"}\nvars: {dev: cpu, iters: 120, who: world, rate: 0.25}\ndefaults: {fake_train: {step_seconds: 0.5, iterations: 3}}\n\
                stages:\n  a: {uses: fake_source, seed: 9}\n  t:\n    uses: fake_train\n    needs: {base: a.value}\n    with: {iterations: \"${iters}\", algorithm: {plain: {rate: \"${rate}\"}}}\n    \
                resources: {cpus: 2}\n  r: {uses: fake_report, needs: {parts: {t: t.model, m: t.metrics}}, with: {title: \"hello ${who} of ${iters}, $${iters}\"}}\n";
    let recipe = read(text).unwrap();
    assert!(recipe.warnings.is_empty());
    assert_eq!((recipe.name.as_str(), recipe.seed, recipe.stages.len()), ("good", 7, 3));
    let train = recipe.stage("t").unwrap().1;
    assert_eq!(train.params["iterations"], serde_json::json!(120));
    assert_eq!(train.params["step_seconds"], serde_json::json!(0.5));
    assert_eq!(train.params["algorithm"], serde_json::json!({"plain": {"rate": 0.25}}));
    assert_eq!((train.cpus, train.seed, recipe.stages[0].seed), (Some(2), 7, 9));
    assert_eq!(recipe.stage("r").unwrap().1.params["title"], "hello world of 120, ${iters}");
    assert_eq!(recipe.stages[2].needs["parts.m"].to_string(), "t.metrics");
    assert_eq!(&recipe.sources.text()[recipe.spans.param("t", "iterations").unwrap()], "\"${iters}\"");
    assert_eq!(&recipe.sources.text()[recipe.spans.param("t", "step_seconds").unwrap()], "0.5");
    assert_eq!(recipe.spans.param("t", "fail_at"), None);
}

#[test]
fn the_command_line_changes_variables_and_seed() {
    let text = "opdflow: 1\nname: x\nseed: 7\nvars: {iters: 120}\nstages:\n  t: {uses: fake_train, with: {iterations: \"${iters}\"}}\n  s: {uses: fake_train, seed: 3, with: {iterations: 1}}\n";
    let recipe = read_with(text, &Overrides { seed: Some(11), ..set("iters", "5") }).unwrap();
    assert_eq!(recipe.stages[0].params["iterations"], 5);
    assert_eq!((recipe.stages[0].seed, recipe.stages[1].seed), (11, 3));
    insta::assert_snapshot!("set_unknown", shown(text, &set("itres", "5")));
    insta::assert_snapshot!("set_wrong", shown(text, &set("iters", "few")));
}

#[test]
fn what_is_no_recipe_at_all_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let registry = with_fakes(Registry::new());
    let load = |path: &Path| recipe::load(path, &registry, &Overrides::default()).err().unwrap();
    let binary = dir.path().join("binary.yaml");
    std::fs::write(&binary, [0x89, b'P', b'N', b'G', 0, 255, 254]).unwrap();
    assert_eq!(load(&binary).list[0].code, "E002");
    assert_eq!(load(&dir.path().join("none.yaml")).list[0].code, "E001");
    assert_eq!(load(dir.path()).list[0].code, "E001");
    for text in [
        "\0\0\0\0",
        "\u{1b}[2J",
        "%YAML 9.9\n",
        "{",
        "}",
        "- a\n- b\n",
        "just words",
        "42",
        "\"",
        "? :",
        "a: b: c",
        "&a *a",
        "!",
        "|",
        "\u{2028}",
        "...",
        "---",
        "- - - -",
        ":",
    ] {
        let found = read(text).err().unwrap_or_else(|| panic!("{text:?} was read"));
        assert!(found.counts().0 > 0 && !found.render(false).contains('\u{1b}'), "{text:?}: {found}");
    }
}

#[test]
fn depth_and_size_are_no_danger() {
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        (0..200).map(|i| format!("{}a:\n", " ".repeat(i))).collect(),
        "? ".repeat(50_000),
    ] {
        let found = read(&text).err().unwrap();
        assert!(matches!(found.list[0].code, "E003" | "E005" | "E006"), "{}", found.list[0].code);
        let _ = found.render(false);
    }
    let long = with_stages(&format!("a: {{uses: fake_source, with: {{value: \"{}\"}}}}", "x".repeat(1 << 20)));
    assert!(read(&long).is_err());
    let many: String = (0..2_000)
        .map(|i| format!("  s{i}: {{uses: fake_sum, needs: {{terms: {{a: s{}.value}}}}}}\n", i + 1))
        .collect();
    let found = read(&format!("opdflow: 1\nname: x\nstages:\n{many}")).err().unwrap();
    assert_eq!(found.list.len(), 1);
}

/// Cut, doubled and garbled recipes: an answer, never a panic.
#[test]
fn garbled_recipes_get_an_answer() {
    let good = with_stages(
        "a: {uses: fake_source, with: {value: 3}}\nb: {uses: fake_sum, needs: {terms: {x: a.value}}}\nt:\n  uses: fake_train\n  needs: {base: b.value}\n  with:\n    iterations: 3\n    algorithm: {noisy: {rate: 1, noise: 0.5}}",
    );
    assert!(read(&good).is_ok());
    let mut random = 1u64;
    let mut next = |n: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap() % n
    };
    let pieces = [
        "{", "}", "[", "]", ":", ",", "\n", "  ", "\t", "\"", "'", "&", "*", "!", "|", ">", "${", "}", "ß", "漢", "🎨",
        "\0", "\u{feff}", "-1e999", "0x", "~", "<<", "null", "---\n",
    ];
    for _ in 0..1_500 {
        let mut text: Vec<char> = good.chars().collect();
        for _ in 0..=next(3) {
            let at = next(text.len().max(1)).min(text.len());
            match next(3) {
                0 => drop(text.drain(at..(at + next(9)).min(text.len()))),
                1 => drop(text.splice(at..at, pieces[next(pieces.len())].chars())),
                _ => text.truncate(at.max(1)),
            }
        }
        let text: String = text.into_iter().collect();
        if let Err(found) = read(&text) {
            assert!(found.list.iter().any(|d| d.level == Level::Error), "{text}");
            let _ = (found.render(false), found.render(true), found.to_json());
        }
    }
}
