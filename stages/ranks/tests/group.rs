//! Processes by threads: each has its own group, and they speak over loopback as processes do.

use anyhow::Result;
use opdflow_ranks::group::Parted;
use opdflow_ranks::{Backend, Group, Meeting, Ranks};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;
use tch::{Device, Kind, Tensor};

/// What each of `world` threads makes of its place.
fn with<T: Send>(world: usize, work: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
    joined(world, Duration::from_secs(120), work).unwrap()
}

/// As [`with`]; fails where not all have joined within `timeout`, which is every later wait's as well.
fn joined<T: Send>(world: usize, timeout: Duration, work: impl Fn(Ranks) -> T + Sync) -> Result<Vec<T>> {
    const HOST: &str = "127.0.0.1";
    let meeting = Meeting::open(HOST, 0, timeout)?;
    let port = meeting.port();
    let join = |meeting, rank| -> Result<T> {
        Ok(work(Ranks::of(Group::join(meeting, rank, world, Backend::Gloo, HOST, Device::Cpu, timeout)?)))
    };
    std::thread::scope(|scope| {
        let join = &join;
        let others: Vec<_> =
            (1..world).map(|rank| scope.spawn(move || join(Meeting::find(HOST, port, timeout)?, rank))).collect();
        let first = join(meeting, 0);
        std::iter::once(first).chain(others.into_iter().map(|t| t.join().unwrap())).collect()
    })
}

#[test]
fn rows_come_back_in_their_order_however_they_are_dealt() {
    for (world, rows, step) in [(1, 5, 2), (2, 5, 2), (3, 10, 4), (4, 3, 1), (4, 2, 8)] {
        let whole = || Tensor::arange(rows as i64 * 6, (Kind::Float, Device::Cpu)).view([rows as i64, 2, 3]);
        let found = with(world, |ranks| {
            let own = ranks.own_rows(rows, step);
            let part = whole().narrow(0, own.start as i64, own.len() as i64);
            ranks.gather_rows(&part, rows, step).unwrap()
        });
        assert!(found.iter().all(|all| *all == whole()), "{world} processes, {rows} rows, {step} at a time");
    }
}

#[test]
fn bytes_and_one_s_tensor_reach_everybody() {
    let found = with(3, |ranks| {
        let own: Vec<u8> = (0..ranks.rank() as u8 * 3).collect();
        let all = ranks.gather_bytes(&own, Device::Cpu).unwrap();
        let told = ranks.broadcast(&Tensor::from_slice(&[ranks.rank() as f64 + 0.5]), 1).unwrap();
        (all, told.double_value(&[0]))
    });
    for (all, told) in found {
        assert_eq!(all, [vec![], vec![0, 1, 2], vec![0, 1, 2, 3, 4, 5]]);
        assert_eq!(told, 1.5);
    }
}

#[test]
fn one_that_hangs_is_noticed_while_it_is_still_there() {
    // The second never calls: the first waits for it until the deadline. On a busy machine two processes may need longer than a
    // short deadline to join at all: then with a longer one.
    let found = [2, 15, 120].into_iter().find_map(|seconds| {
        let (done, wait) = channel();
        let (wait, left) = (Mutex::new(wait), AtomicBool::new(false));
        joined(2, Duration::from_secs(seconds), |ranks| {
            if ranks.rank() == 1 {
                let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(seconds + 60));
                left.store(true, Ordering::SeqCst);
                return None;
            }
            let error = ranks.gather_bytes(b"x", Device::Cpu).unwrap_err();
            let (waited, now) = ranks.waited();
            assert!(waited >= Duration::from_secs(seconds) / 2 && now.is_none(), "{waited:?} {now:?}");
            assert!(!left.load(Ordering::SeqCst), "noticed when it had left, and not after {seconds} s: {error}");
            done.send(()).unwrap();
            Some(error)
        })
        .ok()
    });
    let error = found.expect("two join").into_iter().flatten().next().unwrap();
    assert!(error.is::<Parted>() && error.to_string().starts_with("the processes of the stage have lost each other"));
}
