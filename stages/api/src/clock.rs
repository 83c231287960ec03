//! What a stage has taken of the machine so far: wall seconds, CPU seconds, seconds in which it held a GPU.

use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Instant;

/// The file of a checkpoint that says what led to it.
const FILE: &str = "cost.json";

/// Seconds of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Wall seconds.
    pub seconds: f64,
    /// CPU seconds of the process and of its children that have ended, over all threads. Nothing if an earlier attempt did
    /// not say.
    #[serde(default)]
    pub cpu_seconds: Option<f64>,
    /// Wall seconds in which a GPU was held; nothing on a CPU.
    #[serde(default)]
    pub gpu_seconds: Option<f64>,
}

impl Cost {
    /// Keeps it in a checkpoint.
    pub(crate) fn keep(&self, folder: &Path) -> anyhow::Result<()> {
        Ok(std::fs::write(folder.join(FILE), serde_json::to_vec(self)?)?)
    }
    /// What a checkpoint says; of one that was made before these were kept, the wall seconds alone, by `seconds`.
    pub(crate) fn kept(folder: &Path, seconds: f64, gpu: bool) -> Self {
        let read = std::fs::read(folder.join(FILE)).ok().and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        let whole = |n: &f64| n.is_finite() && *n >= 0.0;
        match read {
            Some(cost) => Self {
                seconds,
                cpu_seconds: cost.cpu_seconds.filter(whole),
                gpu_seconds: cost.gpu_seconds.filter(whole),
            },
            None => Self { seconds, cpu_seconds: None, gpu_seconds: gpu.then_some(seconds) },
        }
    }
}

/// Runs from a moment on, on top of what earlier attempts took.
pub(crate) struct Clock {
    before: Cost,
    started: Instant,
    cpu: f64,
    gpu: bool,
}

impl Clock {
    /// From now on. `gpu`: whether a GPU is held.
    pub(crate) fn on_top_of(before: Cost, gpu: bool) -> Self {
        Self { before, started: Instant::now(), cpu: cpu_seconds(), gpu }
    }
    /// Nothing was before.
    pub(crate) fn fresh(gpu: bool) -> Self {
        Self::on_top_of(Cost { seconds: 0.0, cpu_seconds: Some(0.0), gpu_seconds: gpu.then_some(0.0) }, gpu)
    }
    /// What has gone by.
    pub(crate) fn read(&self) -> Cost {
        let wall = self.started.elapsed().as_secs_f64();
        let gpu = if self.gpu { Some(self.before.gpu_seconds.unwrap_or(0.0) + wall) } else { self.before.gpu_seconds };
        Cost {
            seconds: self.before.seconds + wall,
            cpu_seconds: self.before.cpu_seconds.map(|before| before + (cpu_seconds() - self.cpu).max(0.0)),
            gpu_seconds: gpu,
        }
    }
}

/// CPU seconds, user's and system's, of this process and of its children that have ended.
pub(crate) fn cpu_seconds() -> f64 {
    [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN].into_iter().map(used).sum()
}

fn used(whose: libc::c_int) -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to memory of this type, zeroed, which the call fills; all zeros is a valid value too.
    let usage = unsafe {
        libc::getrusage(whose, usage.as_mut_ptr());
        usage.assume_init()
    };
    #[expect(clippy::cast_precision_loss, reason = "seconds and microseconds of a process")]
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn work_counts_and_sleep_does_not() {
        let clock = Clock::fresh(false);
        std::thread::sleep(Duration::from_millis(200));
        let slept = clock.read();
        assert!(slept.seconds >= 0.2 && slept.cpu_seconds.unwrap() < 0.15, "{slept:?}");
        let began = Instant::now();
        let mut sum = 0_u64;
        // Until the CPU has worked, however busy the machine is.
        while clock.read().cpu_seconds.unwrap() < slept.cpu_seconds.unwrap() + 0.1 {
            assert!(began.elapsed() < Duration::from_secs(60));
            sum = std::hint::black_box((0..1_000_000_u64).fold(sum, u64::wrapping_add));
        }
        assert_eq!(clock.read().gpu_seconds, None);
    }

    #[test]
    fn earlier_attempts_count_as_far_as_they_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let before = Cost { seconds: 10.0, cpu_seconds: Some(7.0), gpu_seconds: Some(4.0) };
        before.keep(folder.path()).unwrap();
        assert_eq!(Cost::kept(folder.path(), 10.0, true), before);
        let now = Clock::on_top_of(before, true).read();
        assert!(now.seconds >= 10.0 && now.cpu_seconds.unwrap() >= 7.0 && now.gpu_seconds.unwrap() >= 4.0);
        // A checkpoint of before says nothing of the CPU: the sum is not known then, rather than too small.
        let bare = tempfile::tempdir().unwrap();
        let old = Cost::kept(bare.path(), 10.0, false);
        assert_eq!(old, Cost { seconds: 10.0, cpu_seconds: None, gpu_seconds: None });
        assert_eq!(Clock::on_top_of(old, false).read().cpu_seconds, None);
    }
}
