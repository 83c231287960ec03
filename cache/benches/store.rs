//! Bytes in and out: a file of 1 GiB read, hashed, copied in, moved in and placed.
#![allow(missing_docs)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use opdflow_cache::{Digest, Store};
use std::fs::File;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::Duration;

const SIZE: usize = 1 << 30;

/// Reads a file to its end.
fn read(path: &Path, buffer: &mut [u8]) {
    let mut file = File::open(path).unwrap();
    while file.read(buffer).unwrap() > 0 {
        black_box(&buffer);
    }
}

/// Has the system forget what it holds of a file that is on the disk, so that it must be read from there.
fn forget(path: &Path) {
    let file = File::open(path).unwrap();
    // SAFETY: a call on an open descriptor, without memory of ours.
    assert_eq!(unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) }, 0);
}

/// A file whose bytes repeat nowhere.
fn big(path: &Path, seed: u64) {
    let mut bytes = vec![0_u8; SIZE];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    let mut file = File::create(path).unwrap();
    file.write_all(&bytes).unwrap();
    file.sync_all().unwrap();
}

fn bytes(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big");
    big(&path, 0);
    let mut group = c.benchmark_group("1 GiB");
    group.sample_size(10).measurement_time(Duration::from_secs(5)).throughput(Throughput::Bytes(SIZE as u64));
    group.bench_function("read", |b| {
        let mut buffer = vec![0; 1 << 20];
        b.iter(|| read(&path, &mut buffer));
    });
    group.bench_function("hash", |b| b.iter(|| black_box(Digest::of_file(&path).unwrap())));
    group.bench_function("read from the disk", |b| {
        let mut buffer = vec![0; 1 << 20];
        b.iter_batched(|| forget(&path), |()| read(&path, &mut buffer), BatchSize::PerIteration);
    });
    group.bench_function("hash from the disk", |b| {
        b.iter_batched(|| forget(&path), |()| black_box(Digest::of_file(&path).unwrap()), BatchSize::PerIteration);
    });
    let mut n = 0;
    // Each time a store of its own, and for moving a file of its own: the time to make them does not count.
    let mut fresh = |moved: bool| {
        n += 1;
        let store = Store::open(&folder.path().join(format!("store{n}"))).unwrap();
        let from = folder.path().join(format!("store{n}/work/big"));
        if moved {
            std::fs::copy(&path, &from).unwrap();
            File::open(&from).unwrap().sync_all().unwrap();
        }
        (store, from)
    };
    group.bench_function("taken in by moving, from the disk", |b| {
        b.iter_batched(
            || {
                let (store, from) = fresh(true);
                forget(&from);
                (store, from)
            },
            |(s, from)| black_box((s.take_path(&from).unwrap(), Cleared(s))),
            BatchSize::PerIteration,
        );
    });
    let gone = |store: &Store| std::fs::remove_dir_all(store.root()).unwrap();
    group.bench_function("taken in by moving, as a stage's outputs are", |b| {
        b.iter_batched(
            || fresh(true),
            |(s, from)| black_box((s.take_path(&from).unwrap(), Cleared(s))),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("taken in by copying", |b| {
        b.iter_batched(
            || fresh(false),
            |(s, _)| black_box((s.put_path(&path).unwrap(), Cleared(s))),
            BatchSize::PerIteration,
        );
    });
    let (store, _) = fresh(false);
    store.put_path(&path).unwrap();
    group.bench_function("taken in again", |b| b.iter(|| black_box(store.put_path(&path).unwrap())));
    let object = store.put_path(&path).unwrap();
    let dest = folder.path().join("placed");
    group.bench_function("placed", |b| {
        b.iter_batched(
            || drop(std::fs::remove_file(&dest)),
            |()| store.place(&object, &dest).unwrap(),
            BatchSize::PerIteration,
        );
    });
    gone(&store);
    group.finish();
}

/// Removes a store when its measurement is over; criterion drops what a measurement returns outside its clock.
struct Cleared(Store);

impl Drop for Cleared {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.root());
    }
}

criterion_group!(benches, bytes);
criterion_main!(benches);
