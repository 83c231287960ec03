//! What of the machine is free: CPU slots, memory, and GPUs by id, whole or by memory.

use std::path::Path;
use std::process::Command;

/// More GPUs than any machine has.
const MOST_GPUS: usize = 1024;

/// What one running stage has of the machine.
#[derive(Debug, PartialEq, Eq)]
pub struct Share {
    /// CPU slots, which are also its threads.
    pub cpus: usize,
    /// The GPU that it may see, as CUDA names it.
    pub gpu: Option<String>,
    /// Bytes of that GPU's memory; none if it has the GPU to itself.
    pub gpu_memory: Option<u64>,
    /// Bytes of the machine's memory.
    pub memory: u64,
}

/// What a stage asks of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Need {
    /// CPU slots.
    pub cpus: usize,
    /// Whether it runs on a GPU where there is one.
    pub gpu: bool,
    /// Bytes of a GPU's memory, if it says: it may then share one.
    pub gpu_memory: Option<u64>,
    /// Bytes of memory that it is expected to take, on the GPU if it has one; 0 if nobody knows.
    pub memory: u64,
}

/// A GPU.
#[derive(Debug)]
struct Gpu {
    id: String,
    /// Bytes of memory, if anybody knows.
    memory: Option<u64>,
    /// Stages on it.
    users: usize,
    /// Bytes that they asked for; none if one of them has it to itself.
    taken: Option<u64>,
}

impl Gpu {
    /// Bytes that are left beside those who share it; none if nobody may join.
    fn room(&self) -> Option<u64> {
        self.memory?.checked_sub(self.taken?)
    }
}

/// The machine's slots.
#[derive(Debug)]
pub struct Slots {
    cpus: usize,
    free: usize,
    gpus: Vec<Gpu>,
    /// Bytes of the machine's memory, if anybody knows, and those that running stages are expected to take.
    memory: Option<u64>,
    held: u64,
}

impl Slots {
    /// `cpus` CPU slots, at least one, and the GPUs of these ids.
    #[must_use]
    pub fn new(cpus: usize, gpus: Vec<String>) -> Self {
        let cpus = cpus.max(1);
        let gpu = |id| Gpu { id, memory: None, users: 0, taken: Some(0) };
        Self { cpus, free: cpus, gpus: gpus.into_iter().map(gpu).collect(), memory: None, held: 0 }
    }

    /// The same, with the memory of its GPUs looked up, so that stages may share one: what `OPDFLOW_GPU_MEMORY` says of
    /// each of them (in bytes), else what `nvidia-smi` says.
    #[must_use]
    pub fn with_gpu_memory(mut self) -> Self {
        let said = std::env::var("OPDFLOW_GPU_MEMORY").ok().and_then(|text| text.trim().parse().ok());
        let listed = if self.gpus.is_empty() || said.is_some() { Vec::new() } else { listed_memory() };
        for gpu in &mut self.gpus {
            gpu.memory = said.or_else(|| listed.iter().find(|(ids, _)| ids.contains(&gpu.id)).map(|(_, bytes)| *bytes));
        }
        self
    }

    /// This machine's slots; `cpus` instead of the number of its cores.
    #[must_use]
    pub fn of_machine(cpus: Option<usize>) -> Self {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::new(cpus.unwrap_or_else(cores), gpus_here()).with_memory(super::memory::of_machine())
    }

    /// The same without GPUs: every stage runs on the processor.
    #[must_use]
    pub fn without_gpus(self) -> Self {
        Self { gpus: Vec::new(), ..self }
    }

    /// The same with this many bytes of memory for all stages together.
    #[must_use]
    pub fn with_memory(self, memory: Option<u64>) -> Self {
        Self { memory, ..self }
    }

    /// Bytes of memory for all stages together, if anybody knows.
    #[must_use]
    pub fn memory(&self) -> Option<u64> {
        self.memory
    }

    /// The largest memory of a GPU, if it was looked up.
    #[must_use]
    pub fn gpu_memory(&self) -> Option<u64> {
        self.gpus.iter().filter_map(|g| g.memory).max()
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
        self.gpus.len()
    }

    /// A share of `cpus` slots, or of all there are if that is fewer, and of a GPU if one is asked for and the
    /// machine has any. `None` if that much is not free now.
    ///
    /// A stage that says how much of a GPU's memory it needs, in bytes, may join others that said so too, where the
    /// memory is known and enough of it is left. Any other gets a GPU to itself.
    ///
    /// Of the machine's memory a stage gets what it is expected to take, if that is left beside the others; the only one that
    /// runs gets it in any case, so that no estimate keeps a stage from running at all.
    pub fn take(&mut self, need: Need) -> Option<Share> {
        let cpus = need.cpus.clamp(1, self.cpus);
        let gpu = need.gpu && !self.gpus.is_empty();
        // What a stage takes of a GPU is not the machine's.
        let memory = if gpu { 0 } else { need.memory };
        let alone = self.free == self.cpus;
        let fits = self.memory.is_none_or(|all| self.held.saturating_add(memory) <= all);
        if cpus > self.free || !(alone || fits) {
            return None;
        }
        let gpu_memory = need.gpu_memory;
        if !gpu {
            self.free -= cpus;
            self.held = self.held.saturating_add(memory);
            return Some(Share { cpus, gpu: None, gpu_memory: None, memory });
        }
        let joined = gpu_memory.and_then(|bytes| {
            // The fullest that still has room: the others stay free for those that need more.
            let open = self.gpus.iter().enumerate().filter(|(_, g)| g.users > 0);
            let open = open.filter_map(|(i, g)| g.room().filter(|room| *room >= bytes).map(|room| (room, i)));
            open.min().map(|(_, i)| i)
        });
        let at = joined.or_else(|| self.gpus.iter().position(|g| g.users == 0))?;
        let gpu = &mut self.gpus[at];
        gpu.users += 1;
        gpu.taken = gpu.taken.zip(gpu_memory).map(|(taken, bytes)| taken.saturating_add(bytes));
        self.free -= cpus;
        Some(Share { cpus, gpu: Some(gpu.id.clone()), gpu_memory, memory })
    }

    /// Gives a share back.
    pub fn give(&mut self, share: Share) {
        self.free = (self.free + share.cpus).min(self.cpus);
        self.held = self.held.saturating_sub(share.memory);
        let Some(gpu) = self.gpus.iter_mut().find(|g| Some(&g.id) == share.gpu.as_ref()) else { return };
        gpu.users = gpu.users.saturating_sub(1);
        gpu.taken = match (gpu.users, gpu.taken, share.gpu_memory) {
            (0, _, _) => Some(0),
            (_, Some(taken), Some(bytes)) => Some(taken.saturating_sub(bytes)),
            _ => None,
        };
    }
}

/// The memory of each GPU that the driver's own tool lists, under the two names that a mask may use for it.
fn listed_memory() -> Vec<([String; 2], u64)> {
    let query = ["--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"];
    let Ok(ran) = Command::new("nvidia-smi").args(query).output() else { return Vec::new() };
    memory_of(&String::from_utf8_lossy(&ran.stdout))
}

fn memory_of(listing: &str) -> Vec<([String; 2], u64)> {
    let line = |line: &str| -> Option<_> {
        let mut fields = line.split(',').map(str::trim);
        let (index, uuid, mebibytes) = (fields.next()?, fields.next()?, fields.next()?.parse::<u64>().ok()?);
        Some(([index.to_owned(), uuid.to_owned()], mebibytes.checked_mul(1 << 20)?))
    };
    listing.lines().filter_map(line).collect()
}

/// The ids of the GPUs that this process may use. Nothing is loaded to find them: the driver's own list counts
/// them, `OPDFLOW_GPUS` overrides the count, and `CUDA_VISIBLE_DEVICES` says which.
fn gpus_here() -> Vec<String> {
    let count = match std::env::var("OPDFLOW_GPUS") {
        Ok(text) => text.trim().parse().unwrap_or(0).min(MOST_GPUS),
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

    fn need(cpus: usize, gpu: bool, gpu_memory: Option<u64>) -> Need {
        Need { cpus, gpu, gpu_memory, memory: 0 }
    }

    #[test]
    fn no_second_stage_starts_whose_memory_does_not_fit() {
        let mut slots = Slots::new(8, visible(1, None)).with_memory(Some(100));
        let of = |memory, gpu| Need { cpus: 1, gpu, gpu_memory: None, memory };
        let a = slots.take(of(60, false)).unwrap();
        assert!(slots.take(of(41, false)).is_none());
        let b = slots.take(of(40, false)).unwrap();
        assert!(slots.take(of(1, false)).is_none());
        // One of which nothing is known waits for nothing, and one on a GPU takes that one's.
        let (c, d) = (slots.take(of(0, false)).unwrap(), slots.take(of(500, true)).unwrap());
        for share in [a, b, c, d] {
            slots.give(share);
        }
        // Alone it may take more than there is: an estimate is none to fail by.
        let large = slots.take(of(500, false)).unwrap();
        assert!(slots.take(of(1, false)).is_none());
        slots.give(large);
        assert!(slots.take(of(100, false)).is_some());
    }

    #[test]
    fn a_greedy_stage_gets_what_there_is() {
        let mut slots = Slots::new(2, vec![]);
        let share = slots.take(need(8, false, None)).unwrap();
        assert_eq!(share.cpus, 2);
        assert!(slots.take(need(1, false, None)).is_none());
        slots.give(share);
        assert_eq!(slots.free(), 2);
    }

    #[test]
    fn each_gpu_goes_to_one_stage() {
        let mut slots = Slots::new(8, visible(2, Some("3, 5")));
        let (a, b) = (slots.take(need(1, true, None)).unwrap(), slots.take(need(1, true, None)).unwrap());
        assert_eq!((a.gpu.as_deref(), b.gpu.as_deref()), (Some("3"), Some("5")));
        assert!(slots.take(need(1, true, None)).is_none());
        assert!(slots.take(need(1, false, None)).is_some());
        slots.give(b);
        assert_eq!(slots.take(need(1, true, None)).unwrap().gpu.as_deref(), Some("5"));
    }

    #[test]
    fn those_that_say_what_they_need_share_a_gpu() {
        let mut slots = Slots::new(8, visible(2, None));
        slots.gpus.iter_mut().for_each(|g| g.memory = Some(80));
        let take = |slots: &mut Slots, memory| slots.take(need(1, true, memory));
        let id = |share: &Option<Share>| share.as_ref().and_then(|s| s.gpu.clone());
        let a = take(&mut slots, Some(30));
        let b = take(&mut slots, Some(40));
        assert_eq!((id(&a), id(&b)), (Some("0".into()), Some("0".into())));
        // 10 are left there: this one needs the other, and whoever wants one alone has to wait.
        let c = take(&mut slots, Some(20));
        assert_eq!(id(&c), Some("1".into()));
        assert!(take(&mut slots, None).is_none());
        assert_eq!(id(&take(&mut slots, Some(10))), Some("0".into()), "the fullest with room");
        slots.give(c.unwrap());
        let alone = take(&mut slots, None);
        assert_eq!(id(&alone), Some("1".into()));
        assert!(take(&mut slots, Some(1)).is_none(), "nobody joins one that has it to itself");
        slots.give(a.unwrap());
        assert_eq!(id(&take(&mut slots, Some(30))), Some("0".into()));
        // More than there is: alone, as the first.
        slots.give(alone.unwrap());
        assert_eq!(id(&take(&mut slots, Some(500))), Some("1".into()));
    }

    #[test]
    fn memory_is_known_by_number_and_by_uuid() {
        let listed = memory_of("0, GPU-aa, 81559\n1, GPU-bb, 24564\nnot a line\n");
        assert_eq!(listed[1], (["1".to_owned(), "GPU-bb".to_owned()], 24564 << 20));
        assert_eq!(listed.len(), 2);
    }

    #[test]
    fn without_gpus_a_gpu_stage_runs_on_the_cpu() {
        assert_eq!(
            Slots::new(1, visible(0, Some("0"))).take(need(1, true, None)),
            Some(Share { cpus: 1, gpu: None, gpu_memory: None, memory: 0 })
        );
        assert!(visible(4, Some("")).is_empty());
        assert!(visible(4, Some("-1")).is_empty());
        assert_eq!(visible(4, Some("1,-1,2")), ["1"]);
        assert_eq!(visible(2, None), ["0", "1"]);
    }
}
