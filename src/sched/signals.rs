//! Ctrl-C and its kin, as messages.

use crate::exec::Message;
use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use std::sync::mpsc::Sender;

/// While it lives, signals that ask this process to end arrive as [`Message::Interrupt`] instead.
pub struct Listening(Handle);

/// Begins to listen.
///
/// # Errors
/// The system refuses.
pub fn listen(inbox: Sender<Message>) -> Result<Listening> {
    // Who started us under `nohup` wants the run to outlive the terminal.
    let wanted = [SIGINT, SIGTERM].into_iter().chain(Some(SIGHUP).filter(|s| !is_ignored(*s)));
    let mut signals = Signals::new(wanted).context("cannot listen to signals")?;
    let handle = signals.handle();
    let forward = move || signals.forever().take_while(|_| inbox.send(Message::Interrupt).is_ok()).for_each(drop);
    std::thread::Builder::new().name("signals".to_owned()).spawn(forward).context("cannot start a thread")?;
    Ok(Listening(handle))
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: `action` is a plain structure for the system to fill in; nothing is set.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.close();
    }
}
