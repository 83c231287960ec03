//! Places where a test can make the world end.
//!
//! `OPDFLOW_FAILPOINT=name[:kill|:error|:nospace[:n]]` makes the step of that name, when it is reached for the `n`th
//! time (the first by default), kill the process (the default), fail, or find the disk full. In an ordinary build
//! there is nothing here.

use std::io;

#[cfg(any(test, feature = "failpoints"))]
pub(crate) fn failpoint(name: &str) -> io::Result<()> {
    #[cfg(test)]
    burn()?;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};
    static ARMED: OnceLock<Option<String>> = OnceLock::new();
    static REACHED: AtomicUsize = AtomicUsize::new(0);
    let Some(armed) = ARMED.get_or_init(|| std::env::var("OPDFLOW_FAILPOINT").ok()) else {
        return Ok(());
    };
    let mut words = armed.split(':');
    if words.next() != Some(name) {
        return Ok(());
    }
    let how = words.next().unwrap_or("kill");
    let when = words.next().and_then(|n| n.parse().ok()).unwrap_or(1);
    if REACHED.fetch_add(1, Ordering::SeqCst) + 1 != when {
        return Ok(());
    }
    match how {
        "error" => Err(io::Error::other(format!("failpoint {name}"))),
        "nospace" => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
        _ => {
            // SAFETY: a signal to this very process; no memory is involved.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            // The signal is on its way; do nothing more.
            loop {
                std::thread::park();
            }
        }
    }
}

#[cfg(test)]
thread_local! {
    /// How many more steps this thread comes through, for tests in one process; nothing: all.
    pub(crate) static FUSE: std::cell::Cell<Option<usize>> = const { std::cell::Cell::new(None) };
}

/// Ends what is being done, once, when the fuse has burned down.
#[cfg(test)]
fn burn() -> io::Result<()> {
    match FUSE.get() {
        Some(0) => {
            FUSE.set(None);
            Err(io::Error::other("the process is dead"))
        }
        steps => {
            FUSE.set(steps.map(|n| n - 1));
            Ok(())
        }
    }
}

#[cfg(not(any(test, feature = "failpoints")))]
#[inline(always)]
pub(crate) fn failpoint(_name: &str) -> io::Result<()> {
    Ok(())
}
