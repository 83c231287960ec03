//! What `plan` says of time and disk: measured on the same sizes, or scaled by what was counted and marked so, or `?`.
#![allow(missing_docs)]

mod common;

use common::TestSpace;
use opdflow_cache::Store;
use serde_json::Value;

/// A training that sleeps 0.05 s a step. A plain step counts a thousandth of a noisy one.
fn train(space: &TestSpace, name: &str, iterations: u64, algorithm: &str) {
    let with = format!("iterations: {iterations}, step_seconds: 0.05, algorithm: {algorithm}");
    space.recipe(name, &format!("train: {{uses: fake_train, with: {{{with}}}}}"));
}

fn planned(space: &TestSpace, name: &str) -> Value {
    // With another seed there is no checkpoint to go on from, and all rounds are left.
    space.run(&["plan", name, "--seed", "9", "--json"]).expect(0).json()["stages"][0].clone()
}

const PLAIN: &str = "{plain: {rate: 0.5}}";
const NOISY: &str = "{noisy: {rate: 0.5, noise: 0.1}}";

#[test]
fn a_time_holds_for_the_same_sizes_and_is_scaled_for_others() {
    let space = TestSpace::new();
    train(&space, "short.yaml", 4, PLAIN);
    let text = space.run(&["plan", "short.yaml"]).expect(0).stdout;
    assert!(text.contains('?') && text.contains("nothing is known of the time of 1"), "{text}");
    assert!(text.contains("counted: 4.0 GFLOP"), "{text}");
    let ran = space.run(&["run", "short.yaml", "--json"]).expect(0).json();
    assert!(ran["stages"]["train"]["cpu_seconds"].as_f64().unwrap() < 5.0, "{ran}");

    // Twice as many steps of the very same: measured, by the step.
    train(&space, "long.yaml", 8, PLAIN);
    let long = planned(&space, "long.yaml");
    assert_eq!(long["seconds_from"], "measured", "{long}");
    let long = long["seconds"].as_f64().unwrap();
    assert!((0.39..10.0).contains(&long), "{long}");

    // Other parameters, a thousand times the operations: scaled, and marked.
    train(&space, "noisy.yaml", 8, NOISY);
    let noisy = planned(&space, "noisy.yaml");
    assert_eq!((&noisy["seconds_from"], noisy["operations"].as_f64()), (&"scaled".into(), Some(8e12)), "{noisy}");
    let ratio = noisy["seconds"].as_f64().unwrap() / long;
    assert!((ratio - 1000.0).abs() < 1e-6, "{ratio}");
    let text = space.run(&["plan", "noisy.yaml"]).expect(0).stdout;
    assert!(text.contains("  ~") && text.contains("scaled by counted operations"), "{text}");
    assert!(text.contains("of it not measured on these sizes"), "{text}");

    // Once that was measured too, it holds for itself, and its disk with it.
    train(&space, "noisy.yaml", 2, NOISY);
    space.run(&["run", "noisy.yaml"]).expect(0);
    train(&space, "noisy.yaml", 4, NOISY);
    let noisy = planned(&space, "noisy.yaml");
    assert_eq!(noisy["seconds_from"], "measured", "{noisy}");
    assert!(noisy["seconds"].as_f64().unwrap() < 10.0, "{noisy}");
}

/// The same parameters under another version of the code, which does four times as much in a step: scaled.
#[test]
fn a_time_of_another_version_is_scaled_by_what_it_counted() {
    let space = TestSpace::new();
    train(&space, "short.yaml", 4, PLAIN);
    space.run(&["run", "short.yaml"]).expect(0);
    train(&space, "long.yaml", 8, PLAIN);
    let now = planned(&space, "long.yaml");
    let store = Store::open(&space.store()).unwrap();
    let mut record = store.actions().next().unwrap();
    let at = record.key.to_string();
    record.note.insert("operations".into(), "1e9".into());
    std::fs::remove_file(space.store().join("actions").join(&at[..2]).join(format!("{at}.json"))).unwrap();
    store.publish(&record).unwrap();
    let then = planned(&space, "long.yaml");
    assert_eq!((&now["seconds_from"], &then["seconds_from"]), (&"measured".into(), &"scaled".into()));
    let ratio = then["seconds"].as_f64().unwrap() / now["seconds"].as_f64().unwrap();
    assert!((ratio - 4.0).abs() < 1e-6, "{ratio}");
}

/// Disk is measured for the same number of steps only, and of a stage that computes nothing is guessed.
#[test]
fn a_size_holds_for_the_same_run() {
    let space = TestSpace::new();
    train(&space, "r.yaml", 4, PLAIN);
    space.run(&["run", "r.yaml"]).expect(0);
    space.run(&["plan", "r.yaml"]).expect(0);
    let hit = space.run(&["plan", "r.yaml", "--json"]).expect(0).json()["stages"][0].clone();
    assert_eq!(hit["bytes"], 0, "a hit takes nothing");
    let other = |name: &str, iterations, algorithm| {
        train(&space, name, iterations, algorithm);
        planned(&space, name)
    };
    for stage in [other("l.yaml", 8, PLAIN), other("n.yaml", 4, NOISY)] {
        assert_eq!((&stage["bytes"], &stage["bytes_from"]), (&Value::Null, &Value::Null), "{stage}");
    }
    // Another seed is the same size.
    let same = planned(&space, "r.yaml");
    assert_eq!(same["bytes_from"], "measured", "{same}");
    // A kind that computes nothing: what another took, marked.
    space.recipe("s.yaml", "a: {uses: fake_source, with: {value: 1}}");
    space.run(&["run", "s.yaml"]).expect(0);
    space.recipe("s.yaml", "a: {uses: fake_source, with: {value: 23}}");
    let alike = planned(&space, "s.yaml");
    assert_eq!((&alike["seconds_from"], &alike["bytes_from"]), (&"alike".into(), &"alike".into()), "{alike}");
    assert!(space.run(&["plan", "s.yaml"]).expect(0).stdout.contains("measured with other parameters"));
}

/// A CPU's time says nothing of a GPU.
#[test]
fn a_time_on_a_cpu_is_none_on_a_gpu() {
    let space = TestSpace::new();
    train(&space, "r.yaml", 4, PLAIN);
    space.run(&["run", "r.yaml"]).expect(0);
    let plan = |gpus: &str| {
        let out =
            space.command(&["plan", "r.yaml", "--seed", "9", "--json"]).env("OPDFLOW_GPUS", gpus).output().unwrap();
        serde_json::from_slice::<Value>(&out.stdout).unwrap()["stages"][0].clone()
    };
    assert_eq!(plan("0")["seconds_from"], "measured");
    let gpu = plan("1");
    assert_eq!((&gpu["seconds"], &gpu["gpu"]), (&Value::Null, &true.into()), "{gpu}");
}
