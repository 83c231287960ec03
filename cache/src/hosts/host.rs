//! Hosts, and processes on them.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Where numbers of processes mean the same thing: one boot of one machine, seen from one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// For people: the host's name.
    pub name: String,
    /// Tells apart two hosts of one name, two boots of one, and two containers on it.
    pub id: String,
    /// For names of temporary files: eight digits that stay the same over boots.
    pub tag: String,
}

/// A process, as hosts know each other's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Random: no other process ever has it.
    pub token: String,
    /// Its host's name.
    pub host: String,
    /// [`Host::id`] of its host.
    pub host_id: String,
    /// Its number there.
    pub pid: u32,
    /// When it began, in the system's ticks since the boot; 0 where the system does not say. With it a number is one process.
    pub start: u64,
    /// When it came, by its host's clock, for people: RFC 3339, UTC.
    pub since: String,
}

/// What a host knows of a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Lives,
    Dead,
    /// The system does not let us see.
    Unsure,
}

impl Host {
    /// This host.
    #[must_use]
    pub fn this() -> Host {
        let text = |path: &str| fs::read_to_string(path).map(|t| t.trim().to_owned()).unwrap_or_default();
        let name = text("/proc/sys/kernel/hostname");
        let boot = text("/proc/sys/kernel/random/boot_id");
        let space = fs::read_link("/proc/self/ns/pid").map(|p| p.display().to_string()).unwrap_or_default();
        let machine = text("/etc/machine-id");
        // Without these nothing tells this host from another: then every process is a host of its own, and is judged by
        // its heartbeat alone.
        let known = !boot.is_empty() && !space.is_empty();
        let odd = if known { String::new() } else { random() };
        let tag = Host::made_of(&name, &[&machine]).tag;
        Host { tag, ..Host::made_of(&name, &[&machine, &boot, &space, &odd]) }
    }

    /// A host of this name that is like no other whose parts differ. For tests of what several hosts do.
    #[must_use]
    pub fn made_of(name: &str, parts: &[&str]) -> Host {
        let name = if name.is_empty() { "unknown" } else { name };
        let id = Digest::of(format!("{name}\n{}", parts.join("\n")).as_bytes()).to_string();
        Host { name: name.to_owned(), id: id[..16].to_owned(), tag: id[16..24].to_owned() }
    }

    /// This process, as one of this host.
    pub(crate) fn process(&self) -> User {
        let pid = std::process::id();
        User {
            token: random(),
            host: self.name.clone(),
            host_id: self.id.clone(),
            pid,
            start: started(pid).unwrap_or(0),
            since: crate::utc_now(),
        }
    }
}

impl User {
    /// For people: `process 4711 on node7`.
    #[must_use]
    pub fn named(&self) -> String {
        format!("process {} on {}", self.pid, self.host)
    }

    /// Whether it lives, if it is of this very host.
    pub(crate) fn known(&self) -> Known {
        let Ok(pid) = i32::try_from(self.pid) else { return Known::Dead };
        // SAFETY: signal 0 reaches nobody; no memory is involved.
        let there = pid > 0 && unsafe { libc::kill(pid, 0) } == 0;
        if !there && io::Error::last_os_error().raw_os_error() != Some(libc::EPERM) {
            return Known::Dead;
        }
        match started(self.pid) {
            // It has ended, and nobody has asked about it yet; or the number is another process' by now.
            Some(0) => Known::Dead,
            Some(start) if start == self.start => Known::Lives,
            Some(_) if self.start != 0 => Known::Dead,
            _ => Known::Unsure,
        }
    }
}

/// When a process began, in ticks since the boot; 0 if it has ended and is only not forgotten yet.
fn started(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let mut words = text.rsplit_once(')')?.1.split_whitespace();
    if matches!(words.next()?, "Z" | "X" | "x") {
        return Some(0);
    }
    // The state was field 3; the start is field 22.
    words.nth(18)?.parse().ok()
}

/// Sixteen hex digits that nobody else has.
pub(crate) fn random() -> String {
    let mut bytes = [0_u8; 32];
    // SAFETY: the buffer is ours and as long as is said.
    let read = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    let mut seed = bytes.to_vec();
    if usize::try_from(read).ok() != Some(bytes.len()) {
        use std::sync::atomic::{AtomicU64, Ordering};
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        seed.extend(format!("{now:?} {} {count}", std::process::id()).bytes());
    }
    Digest::of(&seed).to_string()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_is_known_by_its_number_and_its_start() {
        let me = Host::this().process();
        assert_eq!(me.known(), Known::Lives);
        assert_ne!(me.token, Host::this().process().token);
        assert_eq!(User { start: me.start + 1, ..me.clone() }.known(), Known::Dead, "a later process of this number");
        assert_eq!(User { pid: u32::MAX, ..me.clone() }.known(), Known::Dead);
        assert_eq!(User { pid: 0, ..me.clone() }.known(), Known::Dead);
        assert_eq!(User { start: 0, ..me.clone() }.known(), Known::Unsure);
        let mut child = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap();
        let of_child = User { pid: child.id(), start: started(child.id()).unwrap(), ..me };
        assert_eq!(of_child.known(), Known::Lives);
        child.kill().unwrap();
        // Nobody has waited for it: its number is still taken.
        while started(child.id()) != Some(0) {
            std::thread::yield_now();
        }
        assert_eq!(of_child.known(), Known::Dead);
        child.wait().unwrap();
        assert_eq!(of_child.known(), Known::Dead);
    }

    #[test]
    fn hosts_of_one_name_and_boots_of_one_host_are_told_apart() {
        assert_eq!(Host::this(), Host::this());
        let of = |name, parts: [&str; 3]| Host::made_of(name, &parts).id;
        let one = of("node", ["machine", "boot", "pid:[1]"]);
        assert_eq!(one.len(), 16);
        assert_ne!(one, of("node2", ["machine", "boot", "pid:[1]"]));
        assert_ne!(one, of("node", ["machine2", "boot", "pid:[1]"]));
        assert_ne!(one, of("node", ["machine", "boot2", "pid:[1]"]));
        assert_ne!(one, of("node", ["machine", "boot", "pid:[2]"]), "two containers of one host");
    }
}
