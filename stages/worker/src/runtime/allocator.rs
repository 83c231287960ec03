//! How the process keeps memory that libtorch lets go.

/// Lets the C library keep freed memory for what is allocated next, within bounds.
///
/// libtorch frees every intermediate result on a CPU by `free`. As glibc comes, large ones are mapped and unmapped each time
/// and the heap's end is given back whenever 128 KiB of it are free, so that a small network spends part of its time in page
/// faults. Here up to 32 MiB come from the heap (glibc's own bound; larger ones, as the weights of a large model are, still go
/// back at once), and the heap gives memory back from 256 MiB on. Other C libraries are left as they are.
pub(crate) fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (option, bytes) in
        [(libc::M_MMAP_THRESHOLD, 32 << 20), (libc::M_TRIM_THRESHOLD, 256 << 20), (libc::M_TOP_PAD, 16 << 20)]
    {
        // SAFETY: it sets one number of the allocator's; one that it does not take it leaves as it was.
        let _ = unsafe { libc::mallopt(option, bytes) };
    }
}
