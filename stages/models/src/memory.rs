//! Whether memory ran out, which libtorch says in words alone.

use anyhow::Result;
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Once;

/// What libtorch says when memory runs out, on a GPU and on a CPU.
const WORDS: [&str; 4] = ["out of memory", "can't allocate memory", "not enough memory", "bad_alloc"];

/// What oneDNN says of whatever stopped it. It is memory if there is none left at that moment.
const PRIMITIVE: &str = "could not create a primitive";

/// Bytes of a block that memory has room for, unless it has run out. Above what an allocator keeps for itself.
const ROOM: usize = 256 << 20;

/// That memory ran out, in libtorch's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfMemory(pub String);

/// Does `work`; `Ok(Err(..))` if memory ran out meanwhile. libtorch throws then, and its binding panics: all tensors of `work` are dropped
/// on the way out, and gradients are on again.
///
/// # Errors
/// What else `work` says. Another panic goes on.
pub fn attempt<T>(work: impl FnOnce() -> Result<T>) -> Result<Result<T, OutOfMemory>> {
    without_frames();
    SHORT.set(false);
    ATTEMPTS.set(ATTEMPTS.get() + 1);
    let end = catch_unwind(AssertUnwindSafe(|| tch::with_grad(work)));
    ATTEMPTS.set(ATTEMPTS.get() - 1);
    let said = match &end {
        Ok(Ok(_)) => return end.unwrap_or_else(|panic| resume_unwind(panic)).map(Ok),
        Ok(Err(error)) => format!("{error:#}"),
        Err(panic) => words(panic.as_ref()).to_owned(),
    };
    if ran_out(&said) || (said.contains(PRIMITIVE) && SHORT.get()) {
        return Ok(Err(OutOfMemory(said)));
    }
    end.unwrap_or_else(|panic| resume_unwind(panic)).map(Ok)
}

thread_local! {
    /// How many attempts this thread is in.
    static ATTEMPTS: Cell<usize> = const { Cell::new(0) };
    /// Whether memory had run out when this thread's last attempt panicked, its tensors not yet dropped.
    static SHORT: Cell<bool> = const { Cell::new(false) };
}

/// What a panic of the binding prints is pages of frames. Of memory that runs out in an attempt nothing is printed: who attempts says it.
fn without_frames() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let attempted = ATTEMPTS.try_with(|n| n.get() > 0).unwrap_or(false);
            let said = words(panic.payload());
            let short = attempted && said.contains(PRIMITIVE) && !has_room();
            // A thread that ends has no such value any more, and is in no attempt.
            let _ = SHORT.try_with(|s| s.set(short));
            if !(attempted && (short || ran_out(said))) {
                before(panic);
            }
        }));
    });
}

fn ran_out(said: &str) -> bool {
    WORDS.iter().any(|w| said.contains(w))
}

fn has_room() -> bool {
    let mut block = Vec::<u8>::new();
    let made = block.try_reserve_exact(ROOM).is_ok();
    // Else the compiler may leave the block out, and say that it was made.
    std::hint::black_box(&block);
    made
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn memory_that_runs_out_is_told_from_any_other_end() {
        assert_eq!(attempt(|| Ok(3)).unwrap(), Ok(3));
        let huge = || Ok(tch::no_grad(|| Tensor::zeros([1 << 50], (Kind::Float, Device::Cpu))).numel());
        assert!(attempt(huge).unwrap().unwrap_err().0.contains("memory"));
        // Gradients are on again for the next try.
        let x = Tensor::ones([1], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        assert!(attempt(|| Ok((&x * 2.0).requires_grad())).unwrap().unwrap());
        assert_eq!(
            attempt(|| -> Result<()> { anyhow::bail!("no such file") }).unwrap_err().to_string(),
            "no such file"
        );
        assert!(attempt(|| -> Result<()> { anyhow::bail!("CUDA out of memory") }).unwrap().is_err());
        assert!(catch_unwind(|| attempt(|| -> Result<()> { panic!("a fault") })).is_err());
    }

    #[test]
    fn what_onednn_says_of_any_fault_is_memory_only_where_none_is_left() {
        assert!(has_room());
        let said = || -> Result<()> { panic!("Torch(\"{PRIMITIVE}\")") };
        assert!(catch_unwind(|| attempt(said)).is_err());
        // A process of its own, whose address space ends where the attempt begins.
        if std::env::var_os("OPDFLOW_TEST_SHORT").is_some() {
            let now = std::fs::read_to_string("/proc/self/statm").unwrap();
            let pages: u64 = now.split(' ').next().unwrap().parse().unwrap();
            let limit = libc::rlimit { rlim_cur: pages * 4096 + (16 << 20), rlim_max: libc::RLIM_INFINITY };
            // SAFETY: one call of the system on a value of this frame.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
            assert!(attempt(said).unwrap().unwrap_err().0.contains(PRIMITIVE));
            return;
        }
        let own = "memory::tests::what_onednn_says_of_any_fault_is_memory_only_where_none_is_left";
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", own]).env("OPDFLOW_TEST_SHORT", "1").env("MALLOC_ARENA_MAX", "1");
        let ended = again.output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
}
