//! Whether what a process holds is still its own.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::hosts::claims::{Claim, Claims};
use crate::hosts::host::random;
use crate::{Digest, StoreError};

/// Whether a lease is still held. It can be kept, and asked, beyond the lease.
#[derive(Debug)]
pub struct Tenure {
    key: Digest,
    claims: Claims,
    /// The number and the mark of the claim; nothing where none could be made, and the lock of the system must do.
    claim: Option<(u64, String)>,
    /// The name of the work folder, which no other lease has.
    folder: String,
    lost: AtomicBool,
    /// It was given back, or is about to be.
    over: AtomicBool,
}

impl Tenure {
    /// Of the claim of this number and mark.
    pub(crate) fn of(key: &Digest, claims: Claims, claim: Option<(u64, String)>) -> Tenure {
        let folder = claim.as_ref().map_or_else(random, |(_, mark)| mark.clone());
        Tenure { key: *key, claims, claim, folder, lost: AtomicBool::default(), over: AtomicBool::default() }
    }

    /// The key.
    pub fn key(&self) -> &Digest {
        &self.key
    }

    /// Whether it was found that another host has taken the lease over. Every heartbeat looks.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }

    /// As [`crate::Lease::check`].
    ///
    /// # Errors
    /// As there.
    pub fn check(&self) -> Result<(), StoreError> {
        // Without a claim there is nothing to look at: the lock of the system holds as long as the process lives.
        let Some((number, mark)) = &self.claim else { return Ok(()) };
        let by = match self.claims.top()? {
            Some((n, Claim::Held(held))) if n == *number && held.mark == *mark => return Ok(()),
            Some((_, Claim::Held(held))) => held.user.named(),
            _ => "another host".to_owned(),
        };
        if self.over.load(Ordering::SeqCst) && !self.is_lost() {
            return Ok(());
        }
        self.lost.store(true, Ordering::SeqCst);
        Err(StoreError::LeaseLost { key: self.key, by })
    }

    /// The name of the work folder.
    pub(crate) fn folder(&self) -> &str {
        &self.folder
    }

    /// Gives it back. False if another host has it; also if that cannot be told or done, as on a full disk: it is free all
    /// the same, by the lock, or once no sign comes any more.
    pub(crate) fn give_back(&self) -> bool {
        self.over.store(true, Ordering::SeqCst);
        let Some((number, mark)) = &self.claim else { return true };
        match self.claims.free(*number, mark) {
            Ok(held) => {
                self.lost.fetch_or(!held, Ordering::SeqCst);
                held
            }
            Err(_) => false,
        }
    }
}
