//! What jobs are asked for: the profile of a cluster, as the user wrote it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A profile. `reading.rs` makes it of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// The file that it came from.
    pub path: PathBuf,
    /// Most jobs of a run at once, waiting ones included.
    pub jobs: usize,
    /// What one node has.
    pub node: Node,
    /// How long before its time limit a job is asked to save a checkpoint and end. Slurm may ask up to a minute earlier.
    pub warn: Duration,
    /// How long a file that another node wrote may take to be seen here.
    pub late: Duration,
    /// How long the answer of `squeue` is good for.
    pub poll: Duration,
    /// Lines of the shell before the stage's program.
    pub setup: Vec<String>,
    /// What every job asks for.
    pub all: Ask,
    /// What jobs without a GPU ask for instead.
    pub without_gpu: Ask,
    /// What jobs of one kind of stage ask for instead.
    pub kinds: BTreeMap<String, Ask>,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            jobs: 100,
            node: Node::default(),
            warn: Duration::from_secs(300),
            late: Duration::from_secs(60),
            poll: Duration::from_secs(10),
            setup: Vec::new(),
            all: Ask::default(),
            without_gpu: Ask::default(),
            kinds: BTreeMap::new(),
        }
    }
}

/// What one node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// GPUs; stages run on the processor if there are none.
    pub gpus: usize,
    /// Processor cores, if the profile says.
    pub cpus: Option<usize>,
}

/// What a job is asked for beside its size. What is left out is Slurm's own default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// `--partition`.
    pub partition: Option<String>,
    /// `--account`.
    pub account: Option<String>,
    /// `--qos`.
    pub qos: Option<String>,
    /// `--time`, as Slurm reads it.
    pub time: Option<String>,
    /// `--gres` for one process.
    pub gres: Option<String>,
    /// Bytes of memory of a node.
    pub memory: Option<u64>,
    /// Further options, without `#SBATCH`.
    pub lines: Vec<String>,
}

impl Ask {
    /// This one, and of `other` what it does not say. Lines of both are kept, those of `other` first.
    fn over(&self, other: &Self) -> Self {
        let or = |own: &Option<String>, other: &Option<String>| own.clone().or_else(|| other.clone());
        Self {
            partition: or(&self.partition, &other.partition),
            account: or(&self.account, &other.account),
            qos: or(&self.qos, &other.qos),
            time: or(&self.time, &other.time),
            gres: or(&self.gres, &other.gres),
            memory: self.memory.or(other.memory),
            lines: other.lines.iter().chain(&self.lines).cloned().collect(),
        }
    }
}

impl Profile {
    /// What a job for a stage of this kind asks for. `gres` of all jobs is for those on a GPU.
    #[must_use]
    pub fn ask(&self, kind: &str, gpu: bool) -> Ask {
        let base = if gpu {
            let one = Ask { gres: Some("gpu:1".to_owned()), ..Ask::default() };
            self.all.over(&one)
        } else {
            self.without_gpu.over(&Ask { gres: None, ..self.all.clone() })
        };
        self.kinds.get(kind).map_or(base.clone(), |own| own.over(&base))
    }

    /// On how many nodes `ranks` processes of one stage fit, each with this many threads and perhaps a GPU.
    #[must_use]
    pub fn nodes(&self, ranks: usize, threads: usize, gpu: bool) -> usize {
        let on_one = if gpu { Some(self.node.gpus) } else { self.node.cpus.map(|cpus| cpus / threads.max(1)) };
        on_one.map_or(1, |most| ranks.max(1).div_ceil(most.max(1)))
    }
}

/// What Slurm reads as a time limit, in seconds; `None` within for no limit. Nothing if it is none.
#[must_use]
pub fn time_limit(text: &str) -> Option<Option<u64>> {
    if matches!(text.to_ascii_lowercase().as_str(), "infinite" | "unlimited") {
        return Some(None);
    }
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (Some(number(days)?), rest),
        None => (None, text),
    };
    let parts = rest.split(':').map(number).collect::<Option<Vec<u64>>>()?;
    // Days make the first number hours; without them a lone number, or the first of two, is minutes.
    let units: &[u64] = match (days.is_some(), parts.len()) {
        (false, 1) => &[60],
        (false, 2) => &[60, 1],
        (_, 3) => &[3600, 60, 1],
        (true, 1) => &[3600],
        (true, 2) => &[3600, 60],
        _ => return None,
    };
    let seconds = parts.iter().zip(units).try_fold(0_u64, |sum, (n, unit)| sum.checked_add(n.checked_mul(*unit)?))?;
    let seconds = days.unwrap_or(0).checked_mul(86_400)?.checked_add(seconds)?;
    // Slurm takes 0 for no limit.
    Some(Some(seconds).filter(|s| *s > 0))
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// `--gres` for several processes on a node, of what one takes: the count of its GPUs grows with them.
#[must_use]
pub fn gres_for(one: &str, processes: usize) -> String {
    if processes <= 1 {
        return one.to_owned();
    }
    let grown = |part: &str| -> String {
        if part != "gpu" && !part.starts_with("gpu:") {
            return part.to_owned();
        }
        match part.rsplit_once(':').and_then(|(head, count)| Some((head, number(count)?))) {
            Some((head, count)) => format!("{head}:{}", count.saturating_mul(processes as u64)),
            None => format!("{part}:{processes}"),
        }
    };
    one.split(',').map(grown).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_limits_are_read_as_slurm_reads_them() {
        for (text, seconds) in [
            ("90", 5400),
            ("90:30", 5430),
            ("12:00:00", 43_200),
            ("1-0", 86_400),
            ("1-12:30", 131_400),
            ("2-00:00:10", 172_810),
        ] {
            assert_eq!(time_limit(text), Some(Some(seconds)), "{text}");
        }
        assert_eq!(
            (time_limit("UNLIMITED"), time_limit("infinite"), time_limit("0")),
            (Some(None), Some(None), Some(None))
        );
        for text in ["", "2h", "1:2:3:4", "-1", "1-", "1-1:1:1:1", "1.5", "99999999999999999999", "99999999999999999-0"]
        {
            assert_eq!(time_limit(text), None, "{text}");
        }
    }

    #[test]
    fn gpus_grow_with_the_processes_and_nothing_else_does() {
        for (one, all) in [
            ("gpu", "gpu:4"),
            ("gpu:1", "gpu:4"),
            ("gpu:2", "gpu:8"),
            ("gpu:a100", "gpu:a100:4"),
            ("gpu:a100:1,tmp:10", "gpu:a100:4,tmp:10"),
            ("gpumem:3", "gpumem:3"),
        ] {
            assert_eq!(gres_for(one, 4), all);
            assert_eq!(gres_for(one, 1), one);
        }
    }

    #[test]
    fn a_kind_goes_over_the_rest_and_gres_of_all_is_for_gpus() {
        let text = |t: &str| Some(t.to_owned());
        let profile = Profile {
            all: Ask { partition: text("gpu"), gres: text("gpu:a100:1"), lines: vec!["-C x".into()], ..Ask::default() },
            without_gpu: Ask { partition: text("cpu"), ..Ask::default() },
            kinds: [("train".to_owned(), Ask { time: text("60"), lines: vec!["-p y".into()], ..Ask::default() })]
                .into(),
            node: Node { gpus: 4, cpus: Some(16) },
            ..Profile::default()
        };
        let train = profile.ask("train", true);
        assert_eq!((train.partition, train.gres, train.time), (text("gpu"), text("gpu:a100:1"), text("60")));
        assert_eq!(train.lines, ["-C x", "-p y"]);
        let table = profile.ask("table", false);
        assert_eq!((table.partition, table.gres), (text("cpu"), None));
        assert_eq!(Profile::default().ask("x", true).gres, text("gpu:1"));
        // Eight processes with a GPU each, on nodes of four; three of eight threads on nodes of sixteen.
        assert_eq!((profile.nodes(8, 4, true), profile.nodes(9, 4, true), profile.nodes(1, 4, true)), (2, 3, 1));
        assert_eq!((profile.nodes(3, 8, false), profile.nodes(2, 8, false), profile.nodes(2, 99, false)), (2, 1, 2));
        assert_eq!(Profile::default().nodes(9, 99, false), 1, "who does not say what a node has gets one");
    }
}
