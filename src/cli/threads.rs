//! Threads for hashing and copying, on a machine that may not give any.

use std::sync::Once;

/// Makes sure that work in parallel has threads to run on: those that rayon starts by itself, or, where the system refuses
/// them (`EAGAIN`: a limit on processes), this one alone. Rayon would panic otherwise.
pub(super) fn ready() {
    static ASKED: Once = Once::new();
    ASKED.call_once(|| {
        // The process's own pool can be made only once, well or not. So another one is made first, to see.
        if rayon::ThreadPoolBuilder::new().build().is_err() {
            let _ = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global();
        }
    });
}
