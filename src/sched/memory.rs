//! How much memory the machine has for stages.

use crate::recipe::size;
use std::path::Path;

/// Bytes of memory: what `OPDFLOW_MEMORY` says (`24G`), else what the system has, or the group of processes that this one is in
/// may take. None if neither is known.
#[must_use]
pub fn of_machine() -> Option<u64> {
    if let Some(said) = std::env::var("OPDFLOW_MEMORY").ok().and_then(|text| size(text.trim())) {
        return Some(said);
    }
    let system = std::fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(total);
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let group = group.iter().filter_map(|file| limit(&std::fs::read_to_string(Path::new(file)).ok()?)).min();
    system.into_iter().chain(group).min()
}

/// The line `MemTotal` of `/proc/meminfo`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// A group's limit: a number of bytes, or a word for none.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       24605488 kB\n"), Some(24_605_488 * 1024));
        assert_eq!(total("nothing"), None);
        assert_eq!((limit("max\n"), limit("8589934592\n"), limit("0")), (None, Some(8_589_934_592), None));
        assert!(of_machine().is_some_and(|bytes| bytes > 64 << 20));
    }
}
