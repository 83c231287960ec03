//! A profile from its file, with every mistake at its place.

use super::profile::{Ask, Node, Profile, time_limit};
use crate::recipe::text::bound::Bound;
use crate::recipe::text::shape::{any_map, bytes, map_with, text, whole, wrong};
use crate::recipe::text::tree::{self, Data, Entry, Node as Value, shown};
use crate::recipe::{Diagnostic, Diagnostics, Level, MOST_THREADS, hint};
use std::path::Path;
use std::time::Duration;

/// Most bytes of a profile.
const MOST: u64 = 1 << 20;

/// Most jobs of one run at once.
const MOST_JOBS: u64 = 10_000;

/// By how many seconds the signal may come before its time, as `sbatch`'s manual says of `--signal`. (slurmctld looks at limits every 30 s,
/// and sends what would be due before its next look, `send_job_warn_signal` in job_mgr.c.)
const EARLIER: u64 = 60;

/// What a job may be asked for, for all of them, for those without a GPU, and for those of one kind.
const ASKS: [&str; 7] = ["partition", "account", "qos", "time", "gres", "memory", "lines"];

/// What only the profile as a whole has.
const WHOLE: [&str; 8] =
    ["jobs", "node", "warn_seconds", "late_seconds", "poll_seconds", "setup", "without_gpu", "kinds"];

/// Options of `sbatch` that opdflow gives itself, and what to write instead.
const OWN: [(&str, &str, &str); 25] = [
    ("--partition", "-p", "write `partition:`"),
    ("--account", "-A", "write `account:`"),
    ("--qos", "-q", "write `qos:`"),
    ("--time", "-t", "write `time:`"),
    ("--gres", "", "write `gres:`"),
    ("--mem", "", "write `memory:`"),
    ("--gpus", "-G", "write `gres:`, as in `gpu:a100:1`"),
    ("--cpus-per-task", "-c", "a stage says it in the recipe: `resources: {cpus: N}`"),
    ("--ntasks", "-n", "a stage of several processes says it in the recipe"),
    ("--ntasks-per-node", "", "`node:` says how many fit on one"),
    ("--nodes", "-N", "`node:` says how many processes fit on one"),
    ("--job-name", "-J", "jobs are found again by their names"),
    ("--comment", "", "jobs are found again by their comments"),
    ("--output", "-o", "`opdflow logs STAGE` shows what a job writes"),
    ("--error", "-e", "`opdflow logs STAGE` shows what a job writes"),
    ("--open-mode", "", "logs are always added to"),
    ("--chdir", "-D", "jobs begin where `opdflow run` was started"),
    ("--signal", "", "write `warn_seconds:`"),
    ("--array", "-a", "each stage is a job of its own; `jobs:` bounds how many there are at once"),
    ("--export", "", "jobs get the environment of `opdflow run`; write `setup:` for more"),
    ("--clusters", "-M", "run opdflow on a login node of that cluster"),
    ("--wait", "-W", "opdflow waits by itself"),
    ("--parsable", "", "opdflow reads the number itself"),
    ("--test-only", "", "`opdflow plan` says what would run"),
    ("--wrap", "", "the stage's program is what a job runs"),
];

/// Reads a profile. `kinds` are the kinds of stage that there are.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(path: &Path, kinds: &[&str]) -> Result<Profile, Box<Diagnostics>> {
    let fail = |source: &str, found: Vec<Diagnostic>| Err(Box::new(Diagnostics::new(path, source, found)));
    let source = match opdflow_io::file::read_text(path, MOST) {
        Ok(source) => source,
        Err(e) => {
            let found = Diagnostic::error("E060", "the profile of the cluster cannot be read", 0..0, e.to_string());
            return fail("", vec![found.help("name a YAML file, such as one that holds `partition: gpu`")]);
        }
    };
    let mut faults = Vec::new();
    let root = tree::parse(&source, &mut Bound::default(), &mut faults);
    let Some(root) = root else {
        if faults.is_empty() {
            let found = Diagnostic::error("E060", "the profile of the cluster is empty", 0..0, "nothing here");
            faults.push(found.help("write what jobs are asked for, such as `partition: gpu`; `{}` asks for nothing"));
        }
        return fail(&source, faults);
    };
    let mut reader = Reader { faults: &mut faults, kinds };
    let profile = reader.profile(path, &root);
    match profile {
        Some(profile) if !faults.iter().any(|d| d.level == Level::Error) => Ok(profile),
        _ => fail(&source, faults),
    }
}

/// What profiles of other tools have under another name.
const ELSEWHERE: [(&str, &str); 4] = [
    ("mem", "write `memory: 32G`"),
    ("walltime", "write `time: 12:00:00`"),
    ("queue", "write `partition:`"),
    ("array", "each stage is a job of its own; `jobs:` bounds how many there are at once"),
];

fn map<'n>(node: &'n Value, what: &str, known: &[&str], faults: &mut Vec<Diagnostic>) -> Option<&'n Value> {
    map_with(node, what, known, &ELSEWHERE, faults)
}

struct Reader<'a> {
    faults: &'a mut Vec<Diagnostic>,
    kinds: &'a [&'a str],
}

impl Reader<'_> {
    fn profile(&mut self, path: &Path, root: &Value) -> Option<Profile> {
        let known: Vec<&str> = WHOLE.iter().chain(&ASKS).copied().collect();
        let root = map(root, "the profile of a cluster", &known, self.faults)?;
        let mut profile = Profile { path: path.to_owned(), ..Profile::default() };
        profile.all = self.ask(root);
        if let Some(entry) = root.get("jobs") {
            profile.jobs = self.count(entry, 1, MOST_JOBS)?;
        }
        if let Some(entry) = root.get("node") {
            let node = map(&entry.value, "`node`", &["gpus", "cpus"], self.faults)?;
            let gpus = node.get("gpus").map(|e| self.count(e, 0, 1024));
            let cpus = node.get("cpus").map(|e| self.count(e, 1, MOST_THREADS as u64));
            profile.node = Node { gpus: gpus.flatten().unwrap_or(0), cpus: cpus.flatten() };
        }
        for (name, seconds) in [
            ("warn_seconds", &mut profile.warn),
            ("late_seconds", &mut profile.late),
            ("poll_seconds", &mut profile.poll),
        ] {
            if let Some(found) = root.get(name).and_then(|entry| self.count(entry, 1, 86_400)) {
                *seconds = Duration::from_secs(found as u64);
            }
        }
        if let Some(entry) = root.get("setup") {
            profile.setup = self.texts(entry)?.into_iter().map(|(line, _)| line).collect();
        }
        if let Some(entry) = root.get("without_gpu") {
            let node = map(&entry.value, "`without_gpu`", &ASKS, self.faults)?;
            profile.without_gpu = self.ask(node);
        }
        if let Some(entry) = root.get("kinds") {
            any_map(&entry.value, "`kinds`", self.faults)?;
            for own in entry.value.entries() {
                self.kind(own, &mut profile);
            }
        }
        self.in_time(root, &profile);
        Some(profile)
    }

    fn kind(&mut self, entry: &Entry, profile: &mut Profile) {
        if !self.kinds.contains(&entry.key.as_str()) {
            let title = format!("there is no kind of stage {}", shown(&entry.key));
            let found = Diagnostic::error("E031", title, entry.key_span.clone(), "not known");
            let help = hint(&entry.key, self.kinds.iter().copied());
            self.faults.push(found.help(help.unwrap_or_else(|| "`opdflow stages` lists them".to_owned())));
        }
        if let Some(node) = map(&entry.value, &format!("kind {}", shown(&entry.key)), &ASKS, self.faults) {
            let ask = self.ask(node);
            profile.kinds.insert(entry.key.clone(), ask);
        }
    }

    fn ask(&mut self, node: &Value) -> Ask {
        let mut word = |name: &str| node.get(name).and_then(|entry| self.word(entry));
        let mut ask = Ask {
            partition: word("partition"),
            account: word("account"),
            qos: word("qos"),
            time: word("time"),
            gres: word("gres"),
            ..Ask::default()
        };
        if let (Some(time), Some(entry)) = (&ask.time, node.get("time"))
            && time_limit(time).is_none()
        {
            let expected = "a time limit of Slurm: minutes, `HH:MM:SS` or `D-HH:MM:SS`";
            self.faults.push(wrong(&entry.value, "`time`", expected));
        }
        ask.memory = node.get("memory").and_then(|entry| bytes(entry, self.faults));
        if let Some(entry) = node.get("lines") {
            for (line, span) in self.texts(entry).unwrap_or_default() {
                ask.lines.extend(self.line(&line, span));
            }
        }
        ask
    }

    /// One word, as an option of `sbatch` takes it.
    fn word(&mut self, entry: &Entry) -> Option<String> {
        let found = text(entry, self.faults)?;
        if found.chars().any(|c| c.is_whitespace() || c.is_control()) {
            self.faults.push(wrong(&entry.value, &shown(&entry.key), "one word, without spaces"));
            return None;
        }
        Some(found)
    }

    fn count(&mut self, entry: &Entry, least: u64, most: u64) -> Option<usize> {
        let found = whole(entry, least, self.faults)?;
        if found > most {
            self.faults.push(wrong(
                &entry.value,
                &shown(&entry.key),
                &format!("a whole number from {least} to {most}"),
            ));
            return None;
        }
        usize::try_from(found).ok()
    }

    /// Lines and their places.
    fn texts(&mut self, entry: &Entry) -> Option<Vec<(String, crate::recipe::Span)>> {
        let Data::List(items) = &entry.value.data else {
            self.faults.push(wrong(&entry.value, &shown(&entry.key), "a list of texts"));
            return None;
        };
        let mut lines = Vec::new();
        for item in items {
            match &item.data {
                Data::Scalar(serde_json::Value::String(line)) => lines.push((line.clone(), item.span.clone())),
                _ => self.faults.push(wrong(item, &format!("a line of {}", shown(&entry.key)), "a text")),
            }
        }
        Some(lines)
    }

    /// A further option, without `#SBATCH`. What opdflow gives itself would be overruled without a word.
    fn line(&mut self, line: &str, span: crate::recipe::Span) -> Option<String> {
        let bare = line.trim();
        let bare = bare.strip_prefix("#SBATCH").unwrap_or(bare).trim();
        let refuse = |label: &str, help: &str| {
            Diagnostic::error("E061", "a line of `lines` is no further option of `sbatch`", span.clone(), label)
                .help(help)
        };
        if !bare.starts_with('-') || bare.chars().any(char::is_control) {
            let help = "write one option a line, such as `--constraint=a100`; lines of the shell belong under `setup`";
            self.faults.push(refuse("found no option", help));
            return None;
        }
        let long = bare.split(['=', ' ', '\t']).next().unwrap_or(bare);
        // `sbatch` takes any beginning of a long name that is no other's, and a short one with its value behind it.
        let is = |(name, short, _): &&(&str, &str, &str)| match long.starts_with("--") {
            true => *name == long || long.len() > 5 && name.starts_with(long),
            false => !short.is_empty() && long.starts_with(short),
        };
        if let Some((name, _, help)) = OWN.iter().find(is) {
            self.faults.push(refuse(&format!("opdflow gives `{name}` itself"), help));
            return None;
        }
        Some(bare.to_owned())
    }

    /// A signal at the beginning of a job would end each before it has done anything.
    fn in_time(&mut self, root: &Value, profile: &Profile) {
        let nodes = [Some(root), root.get("without_gpu").map(|e| &e.value)];
        let kinds = root.get("kinds").map(|e| e.value.entries()).unwrap_or_default().iter().map(|e| &e.value);
        for entry in nodes.into_iter().flatten().chain(kinds).filter_map(|node| node.get("time")) {
            let limit = match &entry.value.data {
                Data::Scalar(serde_json::Value::String(text)) => time_limit(text),
                Data::Scalar(value) => time_limit(&value.to_string()),
                _ => None,
            };
            let warn = profile.warn.as_secs();
            if let Some(Some(limit)) = limit
                && limit < warn + EARLIER
            {
                let title = "a job could be asked to end before it has begun";
                let label =
                    format!("{limit} s, and Slurm asks it to end {warn} s before, or up to {EARLIER} s earlier");
                let found = Diagnostic::error("E061", title, entry.value.span.clone(), label);
                self.faults.push(found.help("a longer `time`, or fewer `warn_seconds` (300 if it is left out)"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Profile, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slurm.yaml");
        std::fs::write(&path, text).unwrap();
        read(&path, &["train", "table"]).map_err(|d| d.render(false))
    }

    #[test]
    fn a_whole_profile_is_read() {
        let profile = of("partition: gpu\naccount: 2026\ntime: 12:00:00\nmemory: 32G\njobs: 7\nnode: {gpus: 4, cpus: 64}\n\
             warn_seconds: 120\nlate_seconds: 5\npoll_seconds: 1\nsetup: ['module load cuda']\nlines: ['#SBATCH --constraint=a100', '-x n7']\n\
             without_gpu: {partition: cpu}\nkinds: {train: {time: 2-0, gres: gpu:a100:1}}\n")
        .unwrap();
        assert_eq!((profile.jobs, profile.node), (7, Node { gpus: 4, cpus: Some(64) }));
        assert_eq!(profile.warn.as_secs() + profile.late.as_secs() + profile.poll.as_secs(), 126);
        let ask = profile.ask("train", true);
        assert_eq!(ask.account.as_deref(), Some("2026"));
        assert_eq!((ask.time.as_deref(), ask.gres.as_deref()), (Some("2-0"), Some("gpu:a100:1")));
        assert_eq!(
            (ask.memory, ask.lines),
            (Some(32_000_000_000), vec!["--constraint=a100".to_owned(), "-x n7".to_owned()])
        );
        assert_eq!(profile.ask("table", false).partition.as_deref(), Some("cpu"));
        assert_eq!(of("{}").unwrap().jobs, 100);
    }

    #[test]
    fn mistakes_have_codes_places_and_ways_out() {
        for (text, code, words) in [
            ("", "E060", "empty"),
            ("partitions: gpu", "E010", "`partition`"),
            ("kinds: {trian: {time: 60}}", "E031", "`train`"),
            ("kinds: {train: {jobs: 3}}", "E010", "kind `train` has no `jobs`"),
            ("time: 2h", "E012", "D-HH:MM:SS"),
            ("time: 5", "E061", "300 s before"),
            ("{time: 2, warn_seconds: 61}", "E061", "61 s before, or up to 60 s earlier"),
            ("partition: 'a b'", "E012", "one word"),
            ("partition: [a]", "E012", "a text"),
            ("jobs: 0", "E012", "from 1"),
            ("jobs: 99999", "E012", "to 10000"),
            ("node: {gpu: 4}", "E010", "`gpus`"),
            ("lines: --exclusive", "E012", "a list of texts"),
            ("lines: ['--output=x']", "E061", "opdflow logs"),
            ("lines: ['#SBATCH -J x']", "E061", "by their names"),
            ("lines: ['-Jx']", "E061", "`--job-name`"),
            ("lines: ['--job-na=x']", "E061", "`--job-name`"),
            ("lines: ['module load x']", "E061", "`setup`"),
            ("lines: [\"--a\\n#SBATCH --b\"]", "E061", "one option a line"),
            ("setup: [3]", "E012", "a text"),
            ("memory: lots", "E012", "a size"),
            ("a: &x 1", "E005", "an anchor"),
        ] {
            let found = of(text).unwrap_err();
            assert!(found.contains(code) && found.contains(words), "{text}\n{found}");
        }
        assert!(of("{time: 2, warn_seconds: 60}").is_ok() && of("{time: 0, warn_seconds: 60}").is_ok());
        // One that opdflow does not give stays the user's.
        assert!(of("lines: ['--exclusive', '--gpu-bind=none', '--mem-bind=local', '--nice', '-w n1']").is_ok());
        let none = read(Path::new("/nonexistent/slurm.yaml"), &[]).unwrap_err();
        assert!(none.render(false).contains("E060"));
    }
}
