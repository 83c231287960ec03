//! Processes by threads: each has its own group, and they speak over loopback as processes do.

use opdflow_ranks::group::Parted;
use opdflow_ranks::{Backend, Group, Meeting, Ranks};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

const TIMEOUT: Duration = Duration::from_secs(20);

/// What each of `world` threads makes of its place.
fn with<T: Send>(world: usize, timeout: Duration, work: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
    let meeting = Meeting::open("127.0.0.1", 0, timeout).unwrap();
    let port = meeting.port();
    let join = |meeting, rank| {
        Ranks::of(Group::join(meeting, rank, world, Backend::Gloo, "127.0.0.1", Device::Cpu, timeout).unwrap())
    };
    std::thread::scope(|scope| {
        let (join, work) = (&join, &work);
        let others: Vec<_> = (1..world)
            .map(|rank| scope.spawn(move || work(join(Meeting::find("127.0.0.1", port, timeout).unwrap(), rank))))
            .collect();
        let mut all = vec![work(join(meeting, 0))];
        all.extend(others.into_iter().map(|t| t.join().unwrap()));
        all
    })
}

#[test]
fn rows_come_back_in_their_order_however_they_are_dealt() {
    for (world, rows, step) in [(1, 5, 2), (2, 5, 2), (3, 10, 4), (4, 3, 1), (4, 2, 8)] {
        let whole = || Tensor::arange(rows as i64 * 6, (Kind::Float, Device::Cpu)).view([rows as i64, 2, 3]);
        let found = with(world, TIMEOUT, |ranks| {
            let own = ranks.own_rows(rows, step);
            let part = whole().narrow(0, own.start as i64, own.len() as i64);
            ranks.gather_rows(&part, rows, step).unwrap()
        });
        assert!(found.iter().all(|all| *all == whole()), "{world} processes, {rows} rows, {step} at a time");
    }
}

#[test]
fn bytes_and_one_s_tensor_reach_everybody() {
    let found = with(3, TIMEOUT, |ranks| {
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
fn one_that_goes_or_hangs_is_noticed_by_its_name() {
    // The second never calls: the first waits for it until the deadline.
    let (done, wait) = channel::<()>();
    let wait = std::sync::Mutex::new(Some(wait));
    let found = with(2, Duration::from_secs(2), |ranks| {
        if ranks.rank() == 1 {
            let wait = wait.lock().unwrap().take().unwrap();
            let _ = wait.recv_timeout(Duration::from_secs(15));
            return None;
        }
        let began = Instant::now();
        let error = ranks.gather_bytes(b"x", Device::Cpu).unwrap_err();
        done.send(()).unwrap();
        Some((error, began.elapsed()))
    });
    let (error, took) = found.into_iter().flatten().next().unwrap();
    assert!(error.is::<Parted>() && error.to_string().starts_with("the processes of the stage have lost each other"));
    assert!(took < Duration::from_secs(12), "{took:?}");
}
