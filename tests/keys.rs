//! What a key depends on, and what it must not depend on.

use opdflow::plan::manifest::{Bytes, Facts, Fields, Json, write};
use opdflow::plan::{Keys, NumericFacts, Plan, key};
use opdflow::recipe::{self, Overrides};
use opdflow_api::{Registry, with_fakes};
use opdflow_cache::Digest;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

fn plan_at(folder: &Path, stages: &str, head: &str) -> Plan {
    plan_with(folder, stages, head, NumericFacts::default())
}

fn plan_with(folder: &Path, stages: &str, head: &str, facts: NumericFacts) -> Plan {
    let text = format!(
        "opdflow: 1\nname: x\n{head}\nstages:\n  a: {{uses: fake_source}}\n  b: {{uses: fake_source, with: {{value: 2}}}}\n{stages}\n"
    );
    let recipe = recipe::parse(&folder.join("recipe.yaml"), text, &with_fakes(Registry::new()), &Overrides::default());
    Plan::new(recipe.unwrap_or_else(|e| panic!("{e}")), facts).unwrap_or_else(|e| panic!("{e}"))
}

fn plan(stages: &str, head: &str) -> Plan {
    plan_at(Path::new("."), stages, head)
}

/// The keys of the stage `x`, with the same content on each input port whatever its name.
fn keys_of(plan: &Plan, inputs: &[(&str, &str)]) -> Keys {
    let inputs: BTreeMap<String, Digest> =
        inputs.iter().map(|(port, what)| ((*port).to_owned(), Digest::of(what.as_bytes()))).collect();
    plan.keys(plan.index("x").unwrap(), &inputs)
}

fn keys(stage: &str) -> Keys {
    keys_of(&plan(&format!("  x: {stage}"), ""), &[])
}

fn train(with: &str) -> Keys {
    keys(&format!("{{uses: fake_train, with: {{{with}}}}}"))
}

#[test]
fn what_changes_nothing_is_not_in_the_key() {
    let base = train("iterations: 3");
    assert_eq!(
        base,
        train("algorithm: {plain: {rate: 0.5}}, iterations: 3"),
        "a default that is written out, another order"
    );
    assert_eq!(base, train("iterations: 3, fail_at: null"), "an option that is written out as nothing");
    assert_eq!(base, train("iterations: 3, step_seconds: 9, checkpoint_every: 7"), "parameters outside the key");
    assert_eq!(base, keys("{uses: fake_train, with: {iterations: 3}, resources: {cpus: 2}}"), "threads");
    let named = plan("  x: {uses: fake_train, with: {iterations: \"${n}\"}}", "vars: {n: 3}");
    assert_eq!(base, keys_of(&named, &[]), "where a value comes from");
    let defaults = plan("  x: {uses: fake_train}", "defaults: {fake_train: {iterations: 3}}");
    assert_eq!(base, keys_of(&defaults, &[]), "where a value comes from");
    let numbers = train("iterations: 3, algorithm: {plain: {rate: 1}}");
    assert_eq!(
        numbers,
        train("iterations: 3, algorithm: {plain: {rate: 1.0}}"),
        "a number is a number where the type says so"
    );
}

/// `times` came to `fake_sum` after its first version. The key of before is that of a manifest without it.
#[test]
fn a_parameter_that_was_added_later_is_in_the_key_only_away_from_the_old_behaviour() {
    let sum = |with: &str| keys(&format!("{{uses: fake_sum, needs: {{terms: {{a: a.value}}}}, with: {{{with}}}}}"));
    let base = sum("plus: 1");
    assert_eq!(base.manifest["params"], json!({"plus": 1, "modulo": null}));
    let mut before = base.manifest.clone();
    before["params"] = json!({"plus": 1, "modulo": null});
    assert_eq!(key::of_manifest(&before), Some(base.key));
    assert_eq!(base, sum("plus: 1, times: 1"), "the old behaviour by name");
    let other = sum("plus: 1, times: 2");
    assert_ne!((base.key, base.lineage), (other.key, other.lineage));
    assert_eq!(other.manifest["params"], json!({"plus": 1, "modulo": null, "times": 2}));
    let plan = plan("  x: {uses: fake_sum, needs: {terms: {a: a.value}}}", "");
    assert_eq!(plan.stages[plan.index("x").unwrap()].spec.params["times"], 1, "the stage itself gets it");
}

#[test]
fn what_changes_the_result_is_in_the_key() {
    let base = train("iterations: 3");
    let others = [
        train("iterations: 4"),
        train("iterations: 3, algorithm: {plain: {rate: 0.25}}"),
        train("iterations: 3, algorithm: {noisy: {rate: 0.5, noise: 0}}"),
        keys("{uses: fake_train, seed: 1, with: {iterations: 3}}"),
        keys_of(&plan("  x: {uses: fake_train, with: {iterations: 3}}", "seed: 2"), &[]),
        keys_of(&plan("  x: {uses: fake_train, with: {iterations: 3}}", STRICT), &[]),
        keys_of(&plan("  x: {uses: fake_train, with: {iterations: 3}}", ""), &[("base", "one")]),
        keys_of(&plan("  x: {uses: fake_train, with: {iterations: 3}}", ""), &[("base", "two")]),
        keys("{uses: fake_source}"),
    ];
    for (i, other) in others.iter().enumerate() {
        assert_ne!(base.key, other.key, "{i}");
        assert!(others[i + 1..].iter().all(|o| o.key != other.key), "{i}");
    }
}

#[test]
fn only_stages_that_draw_know_the_seed_and_only_numeric_ones_the_profile() {
    let (one, two) =
        (plan("  x: {uses: fake_source}", "seed: 1"), plan("  x: {uses: fake_source}", &format!("seed: 2\n{STRICT}")));
    assert_eq!(keys_of(&one, &[]), keys_of(&two, &[]));
}

/// A recipe whose results are those of one class of device.
const STRICT: &str = "numerics: {profile: strict, device: cpu}";

/// The recipe says for which device it is; that the plan is made beside a GPU changes no key.
#[test]
fn strict_numerics_hold_devices_apart_and_not_the_machines_that_plan() {
    let facts = NumericFacts { libtorch: "2.11.0".into(), ..NumericFacts::default() };
    let of =
        |head: &str| plan_with(Path::new("."), "  x: {uses: fake_train, with: {iterations: 3}}", head, facts.clone());
    let numerics = |plan: &Plan| keys_of(plan, &[]).manifest["numerics"].clone();
    let mut cpu = of(STRICT);
    assert_eq!(numerics(&cpu), json!({"profile": "strict", "device": "cpu", "dtype": "f32", "libtorch": "2.11.0"}));
    let here = keys_of(&cpu, &[]).key;
    cpu.facts.gpu = true;
    assert_eq!(keys_of(&cpu, &[]).key, here);
    let mut cuda = of("numerics: {profile: strict, device: cuda, libtorch: 2.11.0}");
    // A stage that never takes a GPU computes the same beside one.
    let x = cuda.index("x").unwrap();
    cuda.stages[x].resources.gpu = false;
    assert_eq!(keys_of(&cuda, &[]).key, here);
    cuda.stages[x].resources.gpu = true;
    assert_eq!(numerics(&cuda)["device"], "cuda");
    assert!(cuda.on_gpu(x) && !cpu.on_gpu(x));
    assert!(cuda.whole(&[x]).is_ok());
    cuda.facts.libtorch = "2.12.0".into();
    let refused = cuda.whole(&[x]).unwrap_err().render(false);
    assert!(refused.contains("E045") && refused.contains("the recipe is for libtorch 2.11.0"), "{refused}");
    assert_eq!(numerics(&of("numerics: {profile: portable}")), json!({"profile": "portable"}));
}

/// A part of the code in another version, or edited since, is another key; the lineage goes with it, for a checkpoint of the
/// old code leads on to results of neither.
#[test]
fn versions_of_the_code_are_in_the_key() {
    let mut plan = plan("  x: {uses: fake_train, with: {iterations: 3}}", "");
    let x = plan.index("x").unwrap();
    let mut seen = Vec::new();
    for version in [json!(1), json!(2), json!("edited 0123456789abcdef")] {
        plan.stages[x].code = [("rewards.ocr".to_owned(), version.clone())].into();
        let keys = keys_of(&plan, &[]);
        assert_eq!(keys.manifest["code"]["rewards.ocr"], version);
        assert_eq!(key::of_manifest(&keys.manifest), Some(keys.key));
        seen.extend([keys.key, keys.lineage]);
    }
    plan.stages[x].code = [("rewards.looks".to_owned(), json!(1))].into();
    seen.push(keys_of(&plan, &[]).key);
    let apart: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!(apart.len(), seen.len());
}

#[test]
fn swapped_ports_change_the_key() {
    let plan = plan("  x: {uses: fake_sum, needs: {terms: {p: a.value, q: b.value}}}", "");
    let one = keys_of(&plan, &[("terms.p", "left"), ("terms.q", "right")]);
    let two = keys_of(&plan, &[("terms.p", "right"), ("terms.q", "left")]);
    assert_ne!(one.key, two.key);
}

#[test]
fn horizons_share_a_lineage() {
    let (short, long) = (train("iterations: 3"), train("iterations: 300"));
    assert_ne!(short.key, long.key);
    assert_eq!(short.lineage, long.lineage);
    assert_ne!(short.key, short.lineage);
    assert_ne!(short.lineage, train("iterations: 3, algorithm: {plain: {rate: 0.25}}").lineage);
    assert_ne!(short.lineage, keys("{uses: fake_train, seed: 1, with: {iterations: 3}}").lineage);
}

#[test]
fn assets_count_by_content_not_by_path() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("one", "7"), ("same", "7"), ("other", "8")] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let of = |file: &str| {
        keys_of(&plan_at(dir.path(), &format!("  x: {{uses: fake_source, with: {{file: {file}}}}}"), ""), &[])
    };
    assert_eq!(of("one"), of("same"));
    assert_ne!(of("one").key, of("other").key);
    assert!(!of("one").manifest.to_string().contains("one\""));
}

#[test]
fn names_are_not_in_the_key() {
    let one = plan("  x: {uses: fake_train, with: {iterations: 3}}", "");
    let two = plan("  z: {uses: fake_train, with: {iterations: 3}}", "");
    assert_eq!(one.keys(2, &BTreeMap::new()), two.keys(two.index("z").unwrap(), &BTreeMap::new()));
}

/// The encoding, once and for all: a changed digest here means that every store's keys change.
#[test]
fn the_encoding_stands_still() {
    let inputs = BTreeMap::from([("base".to_owned(), Digest::of(b"base"))]);
    let params = json!({"text": "ü", "whole": -3, "float": 0.1, "list": [null, true, false], "map": {}});
    let facts = Facts {
        kind: "k",
        semantics: 2,
        code: None,
        params: &params,
        inputs: &inputs,
        assets: &BTreeMap::new(),
        seed: Some(u64::MAX),
        numerics: None,
    };
    let mut bytes = Bytes::default();
    write(&facts, &mut bytes);
    insta::assert_snapshot!(bytes.key("opdflow stage key v1"), @"8296dfb0e7fa1e67f34495d4ec116b624004e5e325f9f66e45e759ed9155bb7e");
    // As every program before wrote it, so that its records can be held against their keys.
    let now = Facts { code: Some(&json!({"rewards.ocr": 3})), ..facts };
    let mut with_code = Bytes::default();
    write(&now, &mut with_code);
    insta::assert_snapshot!(with_code.key("opdflow stage key v1"), @"c66dfdf4b32fde6d65505a57d093c67263ba24c4c0ff26d6c511dbbef1bc02d2");
    let hex: String = bytes
        .as_slice()
        .iter()
        .map(|b| if b.is_ascii_graphic() { char::from(*b).to_string() } else { format!("\\{b:02x}") })
        .collect();
    assert!(hex.starts_with("F\\06\\00\\00\\00\\00\\00\\00\\00formati\\01"), "{hex}");
}

fn bytes_of(
    params: &Value,
    inputs: &BTreeMap<String, Digest>,
    assets: &BTreeMap<String, Digest>,
    seed: Option<u64>,
) -> (Digest, Value, Fields) {
    let code = json!({"part": 1});
    let facts = Facts { kind: "k", semantics: 1, code: Some(&code), params, inputs, assets, seed, numerics: None };
    let (mut bytes, mut json, mut fields) = (Bytes::default(), Json::default(), Fields::default());
    write(&facts, &mut bytes);
    write(&facts, &mut json);
    write(&facts, &mut fields);
    (bytes.key("opdflow stage key v1"), json.finish(), fields)
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e300..1e300f64).prop_map(Value::from),
        (-9..9i32).prop_map(|n| Value::from(f64::from(n))),
        "[a-c0-9.:\"]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-c]{0,2}", inner, 0..4)
                .prop_map(|m| m.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

fn digests() -> impl Strategy<Value = BTreeMap<String, Digest>> {
    proptest::collection::btree_map("[a-c]{1,2}(\\.[a-c])?", (0..4u8).prop_map(|n| Digest::of(&[n])), 0..4)
}

proptest! {
    #[test]
    #[expect(clippy::cmp_owned, reason = "0.0 and -0.0 are equal as values, and not as texts")]
    fn different_facts_have_different_keys(a in any_json(), b in any_json(), x in digests(), y in digests(), s in proptest::option::of(0..3u64), t in proptest::option::of(0..3u64)) {
        let (one, two) = (bytes_of(&a, &x, &y, s), bytes_of(&b, &y, &x, t));
        let same = a.to_string() == b.to_string() && x == y && s == t;
        prop_assert_eq!(one.0 == two.0, same, "{} {}", a, b);
        prop_assert_eq!(one.1.to_string() == two.1.to_string(), same);
    }

    #[test]
    fn a_value_in_another_field_is_another_key(x in digests()) {
        let empty = BTreeMap::new();
        let (as_inputs, as_assets) = (bytes_of(&Value::Null, &x, &empty, None), bytes_of(&Value::Null, &empty, &x, None));
        prop_assert_eq!(as_inputs.0 == as_assets.0, x.is_empty());
        let as_params = bytes_of(&as_inputs.1["inputs"], &empty, &empty, None);
        prop_assert_eq!(as_inputs.0 == as_params.0, false);
    }

    #[test]
    fn a_kept_manifest_gives_back_its_key(a in any_json(), x in digests(), y in digests(), s in proptest::option::of(any::<u64>())) {
        let (key, kept, fields) = bytes_of(&a, &x, &y, s);
        let text = serde_json::to_string(&kept).unwrap();
        let back: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(key::of_manifest(&back), Some(key));
        prop_assert_eq!(opdflow::plan::history::fields(&back), fields);
    }

    #[test]
    fn the_order_of_a_map_is_no_matter(pairs in proptest::collection::btree_map("[a-e]{1,3}", any_json(), 0..6)) {
        let forward: Value = pairs.clone().into_iter().collect::<serde_json::Map<_, _>>().into();
        let back: Value = pairs.into_iter().rev().collect::<serde_json::Map<_, _>>().into();
        let empty = BTreeMap::new();
        prop_assert_eq!(bytes_of(&forward, &empty, &empty, None).0, bytes_of(&back, &empty, &empty, None).0);
    }

    #[test]
    fn different_manifests_show_a_difference(a in any_json(), b in any_json()) {
        let empty = BTreeMap::new();
        let (one, two) = (bytes_of(&a, &empty, &empty, None), bytes_of(&b, &empty, &empty, None));
        let shown = !opdflow::plan::history::changes(&one.2, &two.2).is_empty();
        // No parameters and an empty map of them look the same to people, and mean the same.
        let nothing = |v: &Value| v.as_object().is_some_and(serde_json::Map::is_empty);
        if !nothing(&a) && !nothing(&b) {
            prop_assert_eq!(one.0 != two.0, shown, "{} {}", a, b);
        }
    }
}

#[test]
fn the_order_of_work_follows_the_file_where_it_may() {
    let plan = plan(
        "  z: {uses: fake_sum, needs: {terms: {p: y.value, q: a.value}}}\n  y: {uses: fake_sum, needs: {terms: {p: b.value}}}\n  c: {uses: fake_source}",
        "",
    );
    let names: Vec<&str> = plan.stages.iter().map(|s| s.spec.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "y", "z", "c"]);
    let at = |name| plan.index(name).unwrap();
    assert_eq!(plan.dependents(at("b")), [at("y")]);
    assert_eq!(plan.upstream(at("z")), [at("a"), at("y")]);
    assert_eq!(plan.needed(&[at("y")]), [at("b"), at("y")]);
    assert_eq!(plan.critical(|_| 1.0), [2.0, 3.0, 2.0, 1.0, 1.0]);
    assert_eq!(plan.stages[at("z")].needs["terms.p"], (at("y"), "value".to_owned()));
}
