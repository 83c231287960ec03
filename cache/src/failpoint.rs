//! Places where a test can make the world end.
//!
//! `OPDFLOW_FAILPOINT=name[:kill|:error|:nospace]` makes the step of that name kill the process (the default),
//! fail, or find the disk full. In an ordinary build there is nothing here.

use std::io;

#[cfg(any(test, feature = "failpoints"))]
pub(crate) fn failpoint(name: &str) -> io::Result<()> {
    use std::sync::OnceLock;
    static ARMED: OnceLock<Option<String>> = OnceLock::new();
    let Some(armed) = ARMED.get_or_init(|| std::env::var("OPDFLOW_FAILPOINT").ok()) else {
        return Ok(());
    };
    let (point, how) = armed.split_once(':').unwrap_or((armed, "kill"));
    if point != name {
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

#[cfg(not(any(test, feature = "failpoints")))]
#[inline(always)]
pub(crate) fn failpoint(_name: &str) -> io::Result<()> {
    Ok(())
}
