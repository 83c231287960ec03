//! What a stage has to do, and what it takes of the machine.

use serde::Serialize;
use std::collections::BTreeMap;

/// What a stage has to do from its start to its end, counted before it runs. It is no part of any key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Work {
    /// Floating-point operations (a multiplication and an addition are two), or bytes for a stage that moves them and
    /// computes nothing. By these, the time of one model or size is scaled to another.
    pub operations: f64,
    /// Bytes of its results, as far as they can be counted.
    pub bytes: Option<u64>,
}

/// Variables of a process's environment, by name.
pub type Environment = BTreeMap<String, String>;

/// The work that several processes of a stage share, which is whole batches of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batches {
    /// Images that are made together: of a round, or of the largest set of prompts.
    pub images: u64,
    /// The most of them in one batch.
    pub most: u64,
}

impl Batches {
    /// `images` in batches of at most `most`.
    #[must_use]
    pub const fn new(images: u64, most: usize) -> Self {
        Self { images, most: most as u64 }
    }

    /// How many there are.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.images.div_ceil(if self.most == 0 { 1 } else { self.most })
    }
}

/// What takes memory while a stage runs, in bytes, at the stage's peak. An estimate, made before anything runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// What takes it: `weights`, `activations`, `optimizer`.
    pub of: &'static str,
    /// How much.
    pub bytes: u64,
}

impl Memory {
    /// `bytes` taken by `of`.
    #[must_use]
    pub const fn of(of: &'static str, bytes: u64) -> Self {
        Self { of, bytes }
    }
}

/// Requests that a stage makes to a server, counted before it runs. An answer that is there already is not asked for again, so that
/// there may be fewer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Calls {
    /// What is asked, such as a reward.
    pub of: String,
    /// The most that there are; nothing if that cannot be counted.
    pub most: Option<u64>,
}

/// What a stage takes of the machine while it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Resources {
    /// Threads of a process; also the slots it takes.
    pub cpus: usize,
    /// Whether it runs on a GPU when there is one.
    pub gpu: bool,
    /// Whether several processes can share its work.
    pub several: bool,
}

impl Default for Resources {
    fn default() -> Self {
        Self { cpus: 1, gpu: false, several: false }
    }
}
