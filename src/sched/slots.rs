//! What of the machine is free: CPU slots, memory, and GPUs by id, whole or by memory.

use crate::recipe::size;
use std::path::Path;
use std::process::Command;

/// More GPUs than any machine has.
const MOST_GPUS: usize = 1024;

/// What one running stage has of the machine.
#[derive(Debug, PartialEq, Eq)]
pub struct Share {
    /// CPU slots.
    pub cpus: usize,
    /// How many processes it has.
    pub ranks: usize,
    /// The GPUs that it may see, as CUDA names them: one for each process, or none at all.
    pub gpus: Vec<String>,
    /// Bytes of its GPU's memory; none if it has its GPUs to itself.
    pub gpu_memory: Option<u64>,
    /// Bytes of the machine's memory.
    pub memory: u64,
}

/// What a stage asks of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Need {
    /// CPU slots of each process.
    pub cpus: usize,
    /// Processes that share its work, at least 1.
    pub ranks: usize,
    /// GPUs that it runs on where there are so many, a process on each; 0 for none.
    pub gpus: usize,
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
    /// each of them (`80G`), else what `nvidia-smi` says.
    #[must_use]
    pub fn with_gpu_memory(mut self) -> Self {
        let said = std::env::var("OPDFLOW_GPU_MEMORY").ok().and_then(|text| size(text.trim()));
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

    /// How many processes a stage would have, and on how many GPUs: one on each of those that it asks for, as far as there are so
    /// many; where there are none, as many as it asks for on CPUs.
    #[must_use]
    pub fn ranks(&self, need: &Need) -> (usize, usize) {
        let gpus = need.gpus.min(self.gpus.len());
        (if gpus > 0 { gpus } else { need.ranks.max(1) }, gpus)
    }

    /// A share of the slots of all its processes, or of all there are if that is fewer, and of GPUs if they are asked for and the
    /// machine has any. `None` if that much is not free now.
    ///
    /// A stage that says how much of a GPU's memory it needs, in bytes, may join others that said so too, where the
    /// memory is known and enough of it is left. Any other gets GPUs to itself.
    ///
    /// Of the machine's memory a stage gets what its processes are expected to take, if that is left beside the others; the only one that
    /// runs gets it in any case, so that no estimate keeps a stage from running at all.
    pub fn take(&mut self, need: Need) -> Option<Share> {
        let (ranks, gpus) = self.ranks(&need);
        let cpus = need.cpus.saturating_mul(ranks).clamp(1, self.cpus);
        // What a stage takes of a GPU is not the machine's.
        let memory = if gpus > 0 { 0 } else { need.memory.saturating_mul(ranks as u64) };
        let alone = self.free == self.cpus;
        let fits = self.memory.is_none_or(|all| self.held.saturating_add(memory) <= all);
        if cpus > self.free || !(alone || fits) {
            return None;
        }
        let gpu_memory = need.gpu_memory.filter(|_| gpus == 1);
        let at = self.open(gpus, gpu_memory)?;
        for gpu in &at {
            let gpu = &mut self.gpus[*gpu];
            gpu.users += 1;
            gpu.taken = gpu.taken.zip(gpu_memory).map(|(taken, bytes)| taken.saturating_add(bytes));
        }
        self.free -= cpus;
        self.held = self.held.saturating_add(memory);
        let gpus = at.into_iter().map(|i| self.gpus[i].id.clone()).collect();
        Some(Share { cpus, ranks, gpus, gpu_memory, memory })
    }

    /// The places of `count` GPUs that are free, or of one that can be joined.
    fn open(&self, count: usize, gpu_memory: Option<u64>) -> Option<Vec<usize>> {
        let joined = gpu_memory.and_then(|bytes| {
            // The fullest that still has room: the others stay free for those that need more.
            let open = self.gpus.iter().enumerate().filter(|(_, g)| g.users > 0);
            let open = open.filter_map(|(i, g)| g.room().filter(|room| *room >= bytes).map(|room| (room, i)));
            open.min().map(|(_, i)| i)
        });
        if let Some(joined) = joined {
            return Some(vec![joined]);
        }
        let free: Vec<usize> = (0..self.gpus.len()).filter(|i| self.gpus[*i].users == 0).take(count).collect();
        (free.len() == count).then_some(free)
    }

    /// Gives a share back.
    pub fn give(&mut self, share: Share) {
        self.free = (self.free + share.cpus).min(self.cpus);
        self.held = self.held.saturating_sub(share.memory);
        for gpu in self.gpus.iter_mut().filter(|g| share.gpus.contains(&g.id)) {
            gpu.users = gpu.users.saturating_sub(1);
            gpu.taken = match (gpu.users, gpu.taken, share.gpu_memory) {
                (0, _, _) => Some(0),
                (_, Some(taken), Some(bytes)) => Some(taken.saturating_sub(bytes)),
                _ => None,
            };
        }
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
        Need { cpus, ranks: 1, gpus: gpu.into(), gpu_memory, memory: 0 }
    }

    #[test]
    fn no_second_stage_starts_whose_memory_does_not_fit() {
        let mut slots = Slots::new(8, visible(1, None)).with_memory(Some(100));
        let of = |memory, gpu: bool| Need { cpus: 1, ranks: 1, gpus: gpu.into(), gpu_memory: None, memory };
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
    fn several_processes_take_their_slots_together() {
        let mut slots = Slots::new(4, vec![]).with_memory(Some(100));
        let several = |ranks, cpus, memory| Need { cpus, ranks, gpus: 0, gpu_memory: None, memory };
        let two = slots.take(several(2, 1, 30)).unwrap();
        assert_eq!((two.cpus, two.ranks, two.memory, slots.free()), (2, 2, 60, 2));
        assert!(slots.take(several(3, 1, 0)).is_none(), "three slots are not free");
        assert!(slots.take(several(2, 1, 30)).is_none(), "their memory is not");
        slots.give(two);
        // More processes than slots share those that there are.
        let eight = slots.take(several(8, 2, 0)).unwrap();
        assert_eq!((eight.cpus, eight.ranks), (4, 8));
    }

    #[test]
    fn several_gpus_have_a_process_each() {
        let mut slots = Slots::new(8, visible(4, None));
        let on = |gpus| Need { cpus: 1, ranks: 1, gpus, gpu_memory: None, memory: 9 };
        let three = slots.take(on(3)).unwrap();
        assert_eq!((three.ranks, three.cpus, three.gpus.join(","), three.memory), (3, 3, "0,1,2".to_owned(), 0));
        assert!(slots.take(on(2)).is_none());
        let one = slots.take(on(1)).unwrap();
        assert_eq!(one.gpus, ["3"]);
        slots.give(three);
        assert_eq!(slots.take(on(2)).unwrap().gpus, ["0", "1"]);
        // As many as the machine has, where more are asked for; none of them where it has none.
        assert_eq!(Slots::new(8, visible(2, None)).take(on(8)).unwrap().ranks, 2);
        let bare = Slots::new(8, vec![]).take(Need { ranks: 2, ..on(8) }).unwrap();
        assert_eq!((bare.ranks, bare.gpus.len()), (2, 0));
    }

    #[test]
    fn each_gpu_goes_to_one_stage() {
        let mut slots = Slots::new(8, visible(2, Some("3, 5")));
        let (a, b) = (slots.take(need(1, true, None)).unwrap(), slots.take(need(1, true, None)).unwrap());
        assert_eq!((a.gpus, b.gpus.clone()), (vec!["3".to_owned()], vec!["5".to_owned()]));
        assert!(slots.take(need(1, true, None)).is_none());
        assert!(slots.take(need(1, false, None)).is_some());
        slots.give(b);
        assert_eq!(slots.take(need(1, true, None)).unwrap().gpus, ["5"]);
    }

    #[test]
    fn those_that_say_what_they_need_share_a_gpu() {
        let mut slots = Slots::new(8, visible(2, None));
        slots.gpus.iter_mut().for_each(|g| g.memory = Some(80));
        let take = |slots: &mut Slots, memory| slots.take(need(1, true, memory));
        let id = |share: &Option<Share>| share.as_ref().and_then(|s| s.gpus.first().cloned());
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
            Some(Share { cpus: 1, ranks: 1, gpus: vec![], gpu_memory: None, memory: 0 })
        );
        assert!(visible(4, Some("")).is_empty());
        assert!(visible(4, Some("-1")).is_empty());
        assert_eq!(visible(4, Some("1,-1,2")), ["1"]);
        assert_eq!(visible(2, None), ["0", "1"]);
    }
}
