//! What a server of the reward `looks` bears on loopback: `cargo run --release -p opdflow-served --features server --example load`.
//!
//! Eight clients ask at once, each request with one image of 512 x 512 noise; first in the form `rgb`, then as PNGs. Prints requests a
//! second, times, and the largest resident memory of the process, which holds server and clients.

use opdflow_rewards::{Image, Looks, Reward, Subject};
use opdflow_served::protocol::{Form, Health};
use opdflow_served::server::{Limits, Served, serve};
use opdflow_served::{Answers, Client, Judge};
use opdflow_spec::served::{Endpoint, Pinned, Protocol, Requests};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const CLIENTS: usize = 8;
const EACH: usize = 100;
const SIDE: usize = 512;

fn main() {
    for form in [Form::Rgb, Form::Png] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let health = Health {
            name: "looks".to_owned(),
            version: String::new(),
            digest: "d".to_owned(),
            measures: Vec::new(),
            form,
        };
        let served = Served { reward: Arc::new(Looks), health, token: None, limits: Limits::default() };
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let server = std::thread::spawn(move || serve(served, listener, move || flag.load(Ordering::SeqCst)));
        let began = Instant::now();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let url = url.clone();
                std::thread::spawn(move || client(n, &url))
            })
            .collect();
        let mut times: Vec<Duration> = clients.into_iter().flat_map(|c| c.join().expect("a client")).collect();
        let seconds = began.elapsed().as_secs_f64();
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        let rate = times.len() as f64 / seconds;
        println!(
            "{form:?}: {rate:.0} requests/s, median {:.1} ms, p99 {:.1} ms, {} MiB",
            at(0.5),
            at(0.99),
            resident()
        );
        stop.store(true, Ordering::SeqCst);
        server.join().expect("the server").expect("ends well");
    }
}

fn client(n: usize, url: &str) -> Vec<Duration> {
    let at = url.to_owned();
    let endpoint =
        Endpoint::from("looks_served", |name| name.ends_with("_URL").then(|| at.clone())).expect("an address");
    let requests = Requests { concurrency: 1, ..Requests::default() };
    let client = Client::new("looks_served", endpoint, requests, Arc::<Answers>::default(), Arc::new(|| false));
    let pinned = Pinned { digest: "d".to_owned(), measures: Vec::new() };
    let served =
        opdflow_spec::served::Served { reward: "looks_served".to_owned(), protocol: Protocol::Opdflow(pinned) };
    let judge = Judge::open(served, client, |image, _, _| image.clone()).expect("the server is there");
    let mut state = n as u32 + 1;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    let images: Vec<Image> = (0..4)
        .map(|_| Image::new(SIDE, SIDE, (0..SIDE * SIDE * 3).map(|_| noise()).collect()).expect("whole"))
        .collect();
    let subject = Subject { text: "a dog", ..Subject::default() };
    let one = |i: usize| {
        let began = Instant::now();
        judge.score(&images[i % 4..=i % 4], &[subject]).expect("a score");
        began.elapsed()
    };
    (0..EACH).map(one).collect()
}

/// The largest resident memory so far, in MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()).unwrap_or(0) / 1024
}
