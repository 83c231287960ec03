//! The processes of a stage, found by each other once in the life of each.

use anyhow::{Context as _, Result};
use opdflow_api::rank::PARTED;
use opdflow_api::{Fault, Rank, StageContext, Waits};
use opdflow_ranks::group::Parted;
use opdflow_ranks::{Backend, Group, Meeting, Ranks};
use std::net::ToSocketAddrs as _;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tch::Device;

/// The file of the meeting folder that says where the store of the processes listens.
const ADDRESS: &str = "address";

/// This machine for itself.
const LOOPBACK: &str = "127.0.0.1";

/// This process among those of its stage, which it joins at the first call. `device` is where its tensors are.
///
/// # Errors
/// Not all came before the deadline.
pub fn joined(context: &StageContext, device: Device) -> Result<Ranks> {
    static JOINED: OnceLock<Ranks> = OnceLock::new();
    let (Some(rank), Some(folder)) = (context.rank(), context.meeting()) else { return Ok(Ranks::alone()) };
    if let Some(ranks) = JOINED.get() {
        return Ok(*ranks);
    }
    let deadline = context.job().deadline();
    let meeting = if rank.leads() { open(rank, folder, deadline)? } else { find(folder, deadline)? };
    let at = match std::env::var("GLOO_SOCKET_IFNAME") {
        Ok(interface) if !interface.is_empty() => format!("interface:{interface}"),
        _ => host(rank),
    };
    let group = Group::join(meeting, rank.number, rank.world, Backend::of(device), &at, device, deadline);
    let group = group.map_err(parted)?;
    let ranks = *JOINED.get_or_init(|| Ranks::of(group));
    context.tell_waits(move || {
        let (total, now) = ranks.waited();
        Waits { total: total.as_secs_f64(), now: now.map_or(0.0, |now| now.as_secs_f64()) }
    });
    Ok(ranks)
}

/// What it means that the processes lost each other: nobody's fault but the machine's. Another cause stays as it is.
#[must_use]
pub fn parted(error: anyhow::Error) -> anyhow::Error {
    if error.chain().any(|cause| cause.is::<Parted>()) { Fault::machine(format!("{error:#}")).into() } else { error }
}

fn open(rank: &Rank, folder: &Path, deadline: Duration) -> Result<Meeting> {
    let host = host(rank);
    let meeting = Meeting::open(&host, 0, deadline).map_err(parted)?;
    let (part, path) = (folder.join(".address"), folder.join(ADDRESS));
    std::fs::write(&part, format!("{host}\n{}\n", meeting.port())).with_context(|| part.display().to_string())?;
    std::fs::rename(&part, &path).with_context(|| path.display().to_string())?;
    Ok(meeting)
}

/// The store of the process that leads, which may be long in coming: it reads the model first, as this one does.
fn find(folder: &Path, deadline: Duration) -> Result<Meeting> {
    let (path, began) = (folder.join(ADDRESS), Instant::now());
    loop {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut lines = text.lines();
        if let (Some(host), Some(Ok(port))) = (lines.next(), lines.next().map(str::parse)) {
            return Meeting::find(host, port, deadline).map_err(parted);
        }
        if began.elapsed() > deadline {
            let words = format!("{PARTED}: the first one did not come in {:.0} s", deadline.as_secs_f64());
            return Err(Fault::machine(words).into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The name under which the others reach this machine.
fn host(rank: &Rank) -> String {
    if rank.one_host {
        return LOOPBACK.to_owned();
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let resolves = (name.as_str(), 0).to_socket_addrs().is_ok_and(|mut found| found.next().is_some());
    if resolves { name } else { LOOPBACK.to_owned() }
}
