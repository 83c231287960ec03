//! What it costs to use a store: its lock, a lease, and a word to those who wait.
#![allow(missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use opdflow_cache::{Digest, Store};

fn leases(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    let key = Digest::of(b"key");
    let mut group = c.benchmark_group("a store");
    group.bench_function("opened", |b| b.iter(|| Store::open(store.root()).unwrap()));
    group.bench_function("locked and unlocked", |b| b.iter(|| drop(store.shared().unwrap())));
    let in_use = store.shared().unwrap();
    group.bench_function("leased and given back", |b| b.iter(|| drop(store.lease(&key).unwrap())));
    let lease = store.lease(&key).unwrap();
    group.bench_function("a note", |b| b.iter(|| lease.note("step 3 of 9").unwrap()));
    group.bench_function("a lease made sure of", |b| b.iter(|| lease.check().unwrap()));
    group.bench_function("a holder asked for", |b| b.iter(|| store.lease_holder(&key).unwrap()));
    group.finish();
    drop((lease, in_use));
}

criterion_group!(benches, leases);
criterion_main!(benches);
