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
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot listen to signals")?;
    let handle = signals.handle();
    let forward = move || signals.forever().take_while(|_| inbox.send(Message::Interrupt).is_ok()).for_each(drop);
    std::thread::Builder::new().name("signals".to_owned()).spawn(forward).context("cannot start a thread")?;
    Ok(Listening(handle))
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.close();
    }
}
