//! What is recorded of a run: one JSON object a line, from which progress, `status` and the summary all derive.
//!
//! A line is `{"at": SECONDS, "event": {"<name>": {...}}}`. Variants and fields may be added; a reader skips events
//! that it does not know, and every added field has a default. A change that old readers would misread raises
//! [`FORMAT`].

use opdflow_api::cache::{Digest, Host};
use opdflow_api::{FaultClass, RankState, Warning};
use opdflow_io::terminal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The format that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// One recorded event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Seconds since 1970, UTC.
    pub at: f64,
    /// What happened.
    pub event: RunEvent,
}

/// What may happen in a run. Stages go by their names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEvent {
    /// The first line.
    RunStarted(RunStarted),
    /// The key of a stage became known, for its inputs are.
    Keyed {
        /// The stage.
        stage: String,
        /// Its key.
        key: Digest,
        /// Its lineage key.
        lineage: Digest,
    },
    /// The store had the result of a stage.
    Hit {
        /// The stage.
        stage: String,
        /// What it had cost when it was computed.
        saved_seconds: f64,
        /// Digests of its outputs by port.
        outputs: BTreeMap<String, Digest>,
    },
    /// The process of a stage was started.
    Started {
        /// The stage.
        stage: String,
        /// The process; 0 if it is in a job that a cluster has yet to begin.
        pid: u32,
        /// Its host, if it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// 1, or more after a retry.
        attempt: u32,
        /// Threads, which are also the slots it takes.
        threads: usize,
        /// `cpu`, or `cuda:` and the id of its GPU.
        device: String,
    },
    /// What became of the job that a cluster has of a stage.
    Job {
        /// The stage.
        stage: String,
        /// The job's number; empty if it has none yet.
        job: String,
        /// The node on which it has just begun.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// What became of it: `waits in the queue`.
        text: String,
    },
    /// Another process computes the same thing; this one waits for it.
    Waits {
        /// The stage.
        stage: String,
        /// That process.
        pid: u32,
        /// The name of its host, if it is another one.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        host: String,
        /// What it last said of itself.
        note: String,
    },
    /// The stage's own work begins, or goes on at a checkpoint.
    Begun {
        /// The stage.
        stage: String,
        /// 0, or the step of the checkpoint.
        step: u64,
    },
    /// How far a stage is.
    Progress {
        /// The stage.
        stage: String,
        /// Steps done.
        step: u64,
        /// Steps in all.
        total: u64,
        /// A few words.
        note: String,
    },
    /// How far each of several processes of a stage is, by its rank.
    Ranks {
        /// The stage.
        stage: String,
        /// At least two.
        ranks: Vec<RankState>,
    },
    /// One number of one step; `null` if it is not finite.
    Metric {
        /// The stage.
        stage: String,
        /// The step.
        step: u64,
        /// The name.
        name: String,
        /// The value.
        value: Option<f64>,
    },
    /// A checkpoint is in the store.
    Checkpointed {
        /// The stage.
        stage: String,
        /// Its step.
        step: u64,
    },
    /// A stage said something.
    Said {
        /// The stage.
        stage: String,
        /// The line.
        text: String,
    },
    /// All outputs of a stage are in the store.
    Done {
        /// The stage.
        stage: String,
        /// Seconds that the stage took in this run.
        seconds: f64,
        /// CPU seconds of its process in this run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cpu_seconds: Option<f64>,
        /// Whether another process had computed it meanwhile.
        found: bool,
        /// Digests of its outputs by port.
        outputs: BTreeMap<String, Digest>,
    },
    /// The process of a stage was lost, and the stage is started again.
    Retried {
        /// The stage.
        stage: String,
        /// What happened to the process.
        message: String,
    },
    /// A stage stopped as asked or for a reason of its own, or was never begun because the run stopped.
    Stopped {
        /// The stage.
        stage: String,
        /// The step of its checkpoint, if its process ran.
        step: Option<u64>,
        /// Its own reason, if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// A stage failed.
    Failed {
        /// The stage.
        stage: String,
        /// Whose fault.
        class: FaultClass,
        /// All that is known.
        message: String,
    },
    /// A stage cannot run because another failed.
    Blocked {
        /// The stage.
        stage: String,
        /// The one that failed.
        by: String,
    },
    /// A result proved damaged or incomplete in the store: the stage is computed again.
    Damaged {
        /// The stage.
        stage: String,
        /// What is wrong.
        message: String,
    },
    /// Something about a stage that may mean that nothing is learned. Each is told once; with a larger count it comes
    /// again, for the log and the summary.
    Warning {
        /// The stage.
        stage: String,
        /// What, and how often.
        #[serde(flatten)]
        warning: Warning,
        /// Whether it was told before, with a smaller count.
        #[serde(default)]
        again: bool,
    },
    /// Something that the user should know and that stops nothing.
    Warned {
        /// The text.
        text: String,
    },
    /// The user asked the run to stop.
    Stopping {
        /// Whether running stages are killed instead of being asked.
        kill: bool,
    },
    /// The last line.
    RunEnded {
        /// Whether every stage that was asked for has its result.
        ok: bool,
        /// Wall-clock seconds.
        seconds: f64,
    },
}

/// What the first line of a run says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunStarted {
    /// [`FORMAT`].
    pub format: u32,
    /// The program's version.
    pub version: String,
    /// The recipe's name.
    pub recipe: String,
    /// The recipe's path as given.
    pub path: String,
    /// Digest of the recipe's text, which is kept beside the log.
    pub text: Option<Digest>,
    /// The seed.
    pub seed: u64,
    /// The command line.
    pub argv: Vec<String>,
    /// The process of the run.
    pub pid: u32,
    /// The name of its host.
    #[serde(default)]
    pub host: String,
    /// What tells that host, in that boot, from others; empty where an older program wrote this.
    #[serde(default)]
    pub host_id: String,
    /// By what the store knows the process ([`opdflow_cache::User::token`]); empty where it does not.
    #[serde(default)]
    pub token: String,
    /// CPU slots.
    pub slots: usize,
    /// GPUs.
    pub gpus: usize,
    /// Root of the store.
    pub store: String,
    /// The stages that were asked for, in the order of the plan.
    pub stages: Vec<StageLine>,
}

/// A stage in the first line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageLine {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// The stages that it reads from.
    pub needs: Vec<String>,
}

impl RunStarted {
    /// Whether the run was started on another host, or before this one was booted: its processes are not this host's.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        !self.host_id.is_empty() && self.host_id != Host::this().id
    }
    /// The run's process, for people: `process 4711`, and where it is if not here.
    #[must_use]
    pub fn process(&self) -> String {
        process(self.pid, if self.is_elsewhere() { &self.host } else { "" })
    }
}

/// A process for people: `process 4711 on node7`, or without the host where that is empty.
#[must_use]
pub fn process(pid: u32, host: &str) -> String {
    // A log may come from anywhere: nothing in it acts on a terminal.
    let host = terminal::line(host);
    if host.is_empty() { format!("process {pid}") } else { format!("process {pid} on {host}") }
}

impl RunEvent {
    /// The stage that it is about.
    #[must_use]
    pub fn stage(&self) -> Option<&str> {
        match self {
            Self::RunStarted(_) | Self::Warned { .. } | Self::Stopping { .. } | Self::RunEnded { .. } => None,
            Self::Keyed { stage, .. }
            | Self::Hit { stage, .. }
            | Self::Started { stage, .. }
            | Self::Job { stage, .. }
            | Self::Waits { stage, .. }
            | Self::Begun { stage, .. }
            | Self::Progress { stage, .. }
            | Self::Ranks { stage, .. }
            | Self::Metric { stage, .. }
            | Self::Checkpointed { stage, .. }
            | Self::Said { stage, .. }
            | Self::Warning { stage, .. }
            | Self::Done { stage, .. }
            | Self::Retried { stage, .. }
            | Self::Stopped { stage, .. }
            | Self::Failed { stage, .. }
            | Self::Blocked { stage, .. }
            | Self::Damaged { stage, .. } => Some(stage),
        }
    }
}
