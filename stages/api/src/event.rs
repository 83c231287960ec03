//! What a stage's process says while it runs: one JSON object a line.

use serde::{Deserialize, Serialize};
use std::io::Write;
use std::sync::{Arc, Mutex};

/// One line from a stage's process to the scheduler. New variants may come; a reader skips what it does not know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Another process computes the same lineage; this one waits for it.
    Waiting {
        /// That process.
        pid: u32,
        /// The name of its host, if it is another one.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        host: String,
        /// What it said of itself last, such as `step 40 of 120`.
        note: String,
    },
    /// The stage begins, at this step (0, or where a checkpoint left it).
    Started {
        /// The step of the checkpoint that it continues from.
        step: u64,
    },
    /// How far it is.
    Progress {
        /// Steps done.
        step: u64,
        /// Steps in all.
        total: u64,
        /// A few words: `rollout`, `scoring`.
        note: String,
    },
    /// How far each of several processes of the stage is, by its rank.
    Ranks {
        /// At least two.
        ranks: Vec<RankState>,
    },
    /// One number of one step.
    Metric {
        /// The step.
        step: u64,
        /// Its name, such as `reward`.
        name: String,
        /// Its value. Not finite values arrive as `null` in JSON and read back as NaN.
        #[serde(with = "finite")]
        value: f64,
    },
    /// A checkpoint is safely in the store.
    Checkpointed {
        /// Its step.
        step: u64,
    },
    /// A line for the log.
    Said {
        /// The line.
        text: String,
    },
    /// Something that may mean that nothing is learned: when it is found first, and again at the end if it held more
    /// often.
    Warning(crate::Warning),
    /// All outputs are in the store.
    Published {
        /// Seconds of work, earlier attempts included.
        seconds: f64,
        /// Whether the work was already done when the lease came.
        found: bool,
        /// CPU seconds of this process from its start to its end, and of the others that shared its work.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        process_cpu_seconds: Option<f64>,
    },
    /// It stopped with a checkpoint, where it was asked to or for a reason of its own.
    Stopped {
        /// The step of that checkpoint.
        step: u64,
        /// The reason, if it is its own: what it waited for in vain.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// It failed.
    Failed {
        /// Whose fault.
        class: crate::FaultClass,
        /// The whole chain, one cause a line.
        message: String,
    },
}

/// How far one of several processes of a stage is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankState {
    /// Steps done.
    pub step: u64,
    /// Of the time since it met the others, the share in which it waited for them, 0 to 1.
    pub waited: f64,
    /// Seconds of the wait that it is in; 0 while it works.
    pub waits: f64,
    /// Seconds without a sign of life, if they are many; else 0.
    pub silent: f64,
}

mod finite {
    use serde::{Deserialize, Deserializer, Serializer};
    pub fn serialize<S: Serializer>(value: &f64, s: S) -> Result<S::Ok, S::Error> {
        if value.is_finite() { s.serialize_some(value) } else { s.serialize_none() }
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
        Ok(Option::<f64>::deserialize(d)?.unwrap_or(f64::NAN))
    }
}

/// Who hears of an event.
type Listener = Box<dyn FnMut(&Event) + Send>;

/// Where events go. A scheduler that died must not take its stage with it: a sink whose other end is gone
/// swallows what it is given.
#[derive(Clone)]
pub struct EventSink(Arc<Mutex<Listener>>);

impl EventSink {
    /// A sink that calls `f`.
    pub fn new(f: impl FnMut(&Event) + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Box::new(f))))
    }
    /// A sink that writes JSON lines to `out`, each at once.
    pub fn lines(mut out: impl Write + Send + 'static) -> Self {
        Self::new(move |event| {
            if let Ok(mut line) = serde_json::to_vec(event) {
                line.push(b'\n');
                let _ = out.write_all(&line).and_then(|()| out.flush());
            }
        })
    }
    /// A sink that drops everything.
    #[must_use]
    pub fn silent() -> Self {
        Self::new(|_| {})
    }
    /// Sends one event.
    pub fn send(&self, event: &Event) {
        if let Ok(mut f) = self.0.lock() {
            f(event);
        }
    }
}
