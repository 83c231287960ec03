//! What of the machine is free: CPU slots, and GPUs by id.

use std::path::Path;

/// What one running stage has of the machine.
#[derive(Debug, PartialEq, Eq)]
pub struct Share {
    /// CPU slots, which are also its threads.
    pub cpus: usize,
    /// The GPU that it may see, as CUDA names it.
    pub gpu: Option<String>,
}

/// The machine's slots.
#[derive(Debug)]
pub struct Slots {
    cpus: usize,
    free: usize,
    gpus: usize,
    idle: Vec<String>,
}

impl Slots {
    /// `cpus` CPU slots, at least one, and the GPUs of these ids.
    #[must_use]
    pub fn new(cpus: usize, gpus: Vec<String>) -> Self {
        let cpus = cpus.max(1);
        Self { cpus, free: cpus, gpus: gpus.len(), idle: gpus }
    }

    /// This machine's slots; `cpus` instead of the number of its cores.
    #[must_use]
    pub fn of_machine(cpus: Option<usize>) -> Self {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::new(cpus.unwrap_or_else(cores), gpus_here())
    }

    /// All CPU slots, used or not.
    #[must_use]
    pub fn cpus(&self) -> usize {
        self.cpus
    }

    /// The free CPU slots.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free
    }

    /// All GPUs, used or not.
    #[must_use]
    pub fn gpus(&self) -> usize {
        self.gpus
    }

    /// A share of `cpus` slots, or of all there are if that is fewer, and of a GPU if one is asked for and the
    /// machine has any. `None` if that much is not free now.
    pub fn take(&mut self, cpus: usize, gpu: bool) -> Option<Share> {
        let cpus = cpus.clamp(1, self.cpus);
        let gpu = gpu && self.gpus > 0;
        if cpus > self.free || (gpu && self.idle.is_empty()) {
            return None;
        }
        self.free -= cpus;
        let gpu = if gpu { Some(self.idle.remove(0)) } else { None };
        Some(Share { cpus, gpu })
    }

    /// Gives a share back.
    pub fn give(&mut self, share: Share) {
        self.free = (self.free + share.cpus).min(self.cpus);
        self.idle.extend(share.gpu);
    }
}

/// The ids of the GPUs that this process may use. Nothing is loaded to find them: the driver's own list counts
/// them, `OPDFLOW_GPUS` overrides the count, and `CUDA_VISIBLE_DEVICES` says which.
fn gpus_here() -> Vec<String> {
    let count = match std::env::var("OPDFLOW_GPUS") {
        Ok(text) => text.trim().parse().unwrap_or(0),
        Err(_) => count_entries(Path::new("/proc/driver/nvidia/gpus")),
    };
    visible(count, std::env::var("CUDA_VISIBLE_DEVICES").ok().as_deref())
}

fn count_entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, |entries| entries.flatten().count())
}

/// As CUDA reads its mask: the list ends at the first entry that names no device.
fn visible(count: usize, mask: Option<&str>) -> Vec<String> {
    let Some(mask) = mask else { return (0..count).map(|i| i.to_string()).collect() };
    let ids = mask.split(',').map(str::trim).take_while(|id| !id.is_empty() && !id.starts_with('-'));
    ids.take(count).map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greedy_stage_gets_what_there_is() {
        let mut slots = Slots::new(2, vec![]);
        let share = slots.take(8, false).unwrap();
        assert_eq!(share.cpus, 2);
        assert!(slots.take(1, false).is_none());
        slots.give(share);
        assert_eq!(slots.free(), 2);
    }

    #[test]
    fn each_gpu_goes_to_one_stage() {
        let mut slots = Slots::new(8, visible(2, Some("3, 5")));
        let (a, b) = (slots.take(1, true).unwrap(), slots.take(1, true).unwrap());
        assert_eq!((a.gpu.as_deref(), b.gpu.as_deref()), (Some("3"), Some("5")));
        assert!(slots.take(1, true).is_none());
        assert!(slots.take(1, false).is_some());
        slots.give(b);
        assert_eq!(slots.take(1, true).unwrap().gpu.as_deref(), Some("5"));
    }

    #[test]
    fn without_gpus_a_gpu_stage_runs_on_the_cpu() {
        assert_eq!(Slots::new(1, visible(0, Some("0"))).take(1, true), Some(Share { cpus: 1, gpu: None }));
        assert!(visible(4, Some("")).is_empty());
        assert!(visible(4, Some("-1")).is_empty());
        assert_eq!(visible(4, Some("1,-1,2")), ["1"]);
        assert_eq!(visible(2, None), ["0", "1"]);
    }
}
