//! The engine's own time: reading and planning a recipe, and a run in which all is there.
#![allow(missing_docs)]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use opdflow::plan::{NumericFacts, Plan, verdicts};
use opdflow::recipe::{self, Overrides};
use opdflow_api::cache::{ActionRecord, Output, RECORD_FORMAT, Store, utc_now};
use opdflow_api::{Registry, with_fakes};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A recipe of `n` stages, ten side by side, each row reading the one before.
fn text(n: usize) -> String {
    let mut text = "opdflow: 1\nname: bench\nstages:\n".to_owned();
    for i in 0..n {
        let _ = if i < 10 {
            writeln!(text, "  s{i}: {{uses: fake_source, with: {{value: {i}}}}}")
        } else {
            let (a, b) = (i - 10, i - i % 10 - 1);
            writeln!(text, "  s{i}: {{uses: fake_sum, needs: {{terms: {{a: s{a}.value, b: s{b}.value}}}}}}")
        };
    }
    text
}

fn plan(text: &str) -> Plan {
    let registry = with_fakes(Registry::new());
    let recipe = recipe::parse(Path::new("bench.yaml"), text.to_owned(), &registry, &Overrides::default());
    Plan::new(recipe.map_err(|d| d.render(false)).unwrap(), NumericFacts::default())
        .map_err(|d| d.render(false))
        .unwrap()
}

/// Gives every stage of a plan a result, as if it had run.
fn fill(plan: &Plan, store: &Store) {
    let mut made = Vec::new();
    for (i, stage) in plan.stages.iter().enumerate() {
        let inputs: BTreeMap<_, _> = stage.needs.iter().map(|(port, (up, _))| (port.clone(), made[*up])).collect();
        let keys = plan.keys(i, &inputs);
        let object = store.put_bytes(format!("{i}\n").as_bytes()).unwrap();
        made.push(object.digest);
        let output = Output { object, port_type: "value".to_owned(), semantic: true };
        let record = ActionRecord {
            format: RECORD_FORMAT,
            key: keys.key,
            lineage: keys.lineage,
            manifest: keys.manifest,
            outputs: BTreeMap::from([("value".to_owned(), output)]),
            seconds: 1.0,
            finished: utc_now(),
            note: BTreeMap::new(),
        };
        store.publish(&record).unwrap();
    }
}

fn planning(c: &mut Criterion) {
    let mut group = c.benchmark_group("plan");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for n in [100, 10_000] {
        let text = text(n);
        group.bench_function(format!("{n} stages, from text to the order of work"), |b| {
            b.iter_batched(|| text.clone(), |text| black_box(plan(&text)), BatchSize::LargeInput);
        });
        let (folder, plan) = (tempfile::tempdir().unwrap(), plan(&text));
        let store = Store::open(folder.path()).unwrap();
        group.bench_function(format!("{n} stages, verdicts of an empty store"), |b| {
            b.iter(|| black_box(verdicts(&plan, &store)));
        });
        fill(&plan, &store);
        group.bench_function(format!("{n} stages, verdicts, all hits"), |b| {
            b.iter(|| black_box(verdicts(&plan, &store)));
        });
    }
    group.finish();
}

/// The whole program, from its start to its end, as a user sees it.
fn no_op(c: &mut Criterion) {
    let mut group = c.benchmark_group("run");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for n in [100, 10_000] {
        let folder = tempfile::tempdir().unwrap();
        let recipe = text(n);
        std::fs::write(folder.path().join("r.yaml"), &recipe).unwrap();
        fill(&plan(&recipe), &Store::open(&folder.path().join("store")).unwrap());
        group.bench_function(format!("{n} stages, all hits"), |b| {
            b.iter(|| {
                let ran = Command::new(env!("CARGO_BIN_EXE_opdflow"))
                    .args(["run", "r.yaml", "--quiet", "--store", "store"])
                    .current_dir(folder.path())
                    .env("OPDFLOW_FAKE_STAGES", "1")
                    .env("OPDFLOW_GPUS", "0")
                    .stdout(Stdio::null())
                    .status();
                assert!(ran.unwrap().success());
            });
        });
    }
    group.finish();
}

criterion_group!(benches, planning, no_op);
criterion_main!(benches);
