//! What this machine is called.

/// The name of this host, as its kernel has it.
#[must_use]
pub fn host() -> String {
    let mut name = [0_u8; 256];
    // SAFETY: the buffer is ours and its length is true; the last byte stays 0.
    let done = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    let length = name.iter().position(|b| *b == 0).unwrap_or(0);
    if done == 0 && length > 0 { String::from_utf8_lossy(&name[..length]).into_owned() } else { "unknown".to_owned() }
}
