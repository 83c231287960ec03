//! A group of one process on the device, as several would be: what is gathered and broadcast is what was sent.

use crate::Options;
use crate::steps::device_of;
use anyhow::{Context as _, Result, ensure};
use opdflow_models::rng::normal;
use opdflow_ranks::{Backend, Group, Meeting};
use std::time::{Duration, Instant};

/// Numbers of an adapter of Stable Diffusion 3.5 Medium at rank 32, which each update hands around.
const ADAPTER: i64 = 18_800_000;

/// Calls that are timed.
const CALLS: u32 = 5;

pub fn run(options: &Options) -> Result<()> {
    let device = device_of(options)?;
    let (backend, deadline) = (Backend::of(device), Duration::from_secs(120));
    let meeting = Meeting::open("127.0.0.1", 0, deadline).context("no store")?;
    let group = Group::join(meeting, 0, 1, backend, "127.0.0.1", device, deadline)?;
    let sent = normal(&[ADAPTER], 1, device);
    let all = group.gather(&sent)?;
    ensure!(all.len() == 1 && all[0] == sent, "what was gathered is not what was sent");
    ensure!(group.broadcast(&sent, 0)? == sent, "what was broadcast is not what was sent");
    let clock = Instant::now();
    for _ in 0..CALLS {
        // A number is read, so that a GPU is waited for.
        ensure!(group.gather(&sent)?[0].double_value(&[0]).is_finite());
    }
    let told = serde_json::json!({
        "backend": format!("{backend:?}"), "processes": 1, "numbers": ADAPTER, "gather_s": clock.elapsed().as_secs_f64() / f64::from(CALLS),
    });
    println!("{told}");
    Ok(())
}
