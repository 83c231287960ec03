//! One stage of a plan, with what is known of it before anything runs.

use crate::recipe::{Diagnostic, StageSpec};
use opdflow_api::warning::IDLE_PROCESSES;
use opdflow_api::{Asset, Calls, Code, Doubt, Foreseen, Horizon, Memory, Resources, Work};
use opdflow_cache::Digest;
use std::collections::BTreeMap;

/// One stage of a plan.
#[derive(Clone)]
pub struct Planned {
    /// What the recipe says.
    pub spec: StageSpec,
    /// What it reads: by port (or `port.name`), the upstream stage's place in [`Plan::stages`](super::Plan::stages) and its port.
    pub needs: BTreeMap<String, (usize, String)>,
    /// Content from outside the store.
    pub assets: Vec<Asset>,
    /// Versions of the code that it computes with.
    pub code: Code,
    /// What is missing outside the store, at the parameters that name it. Then `assets` is empty and there is no key.
    pub missing: Vec<Diagnostic>,
    /// What it would refuse when it runs, as far as that is known before.
    pub unfit: Vec<Diagnostic>,
    /// What this machine lacks that it will need if it runs, at the parameters that call for it.
    pub lacking: Vec<Diagnostic>,
    /// What is known of its inputs before it runs, by port.
    pub foreseen: Foreseen,
    /// How much it has to do, if that can be counted before it runs.
    pub work: Option<Work>,
    /// By what the time of one run holds for another: a digest of the parameters that decide what a step costs, and of what
    /// is known of the model and the sizes that it reads.
    pub sizes: Digest,
    /// What takes memory at its peak, as far as that can be said before it runs.
    pub memory: Vec<Memory>,
    /// What it asks of servers, and how often.
    pub calls: Vec<Calls>,
    /// How long it runs, if that is a parameter of its own.
    pub horizon: Option<Horizon>,
    /// What it takes of the machine; the recipe's `resources` are in it.
    pub resources: Resources,
}

impl Planned {
    /// How many processes it has, on GPUs or not, where the machine has what it asks for.
    #[must_use]
    pub fn ranks(&self, gpu: bool) -> usize {
        let on_gpus = self.spec.gpus.filter(|_| gpu && self.resources.gpu);
        on_gpus.or(self.spec.ranks).unwrap_or(1)
    }

    /// That it asks for more processes than it has batches for them to share.
    #[must_use]
    pub fn idle(&self) -> Option<Doubt> {
        let processes = self.ranks(true) as u64;
        let batches = self.spec.kind.batches(&self.spec.params, &self.foreseen).ok()??;
        let idle = processes.saturating_sub(batches.count());
        if idle == 0 {
            return None;
        }
        let message = format!(
            "{processes} processes share {} images in batches of up to {}: {idle} of them would wait for the others all the time",
            batches.images, batches.most
        );
        let help = if batches.images < processes {
            "fewer `ranks` or `gpus`".to_owned()
        } else {
            format!(
                "`micro_batch: {}` gives each of them a part; it is not in the key",
                batches.images.div_ceil(processes)
            )
        };
        Some(Doubt::new(IDLE_PROCESSES, "micro_batch", message, help))
    }

    /// Bytes that one of its processes is expected to take at its peak; 0 if nobody knows.
    #[must_use]
    pub fn memory_needed(&self) -> u64 {
        self.memory.iter().map(|m| m.bytes).fold(0, u64::saturating_add)
    }
}
