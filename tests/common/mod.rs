//! A place to run the real program in: a temporary folder with recipes, and a store of its own.
#![allow(dead_code, missing_docs, reason = "each test program uses a part of it")]

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct TestSpace {
    dir: tempfile::TempDir,
}

/// What a finished command left.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }

    /// The one JSON object at the end of the standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        let last = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(last)
            .unwrap_or_else(|e| panic!("{e}\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr))
    }

    /// The verdict on each stage.
    #[track_caller]
    pub fn verdicts(&self) -> BTreeMap<String, String> {
        let json = self.json();
        let stages = json["stages"].as_object().expect("stages");
        stages.iter().map(|(n, s)| (n.clone(), s["verdict"].as_str().expect("verdict").to_owned())).collect()
    }

    /// The digests of all outputs of all stages, except those that say how a run went.
    #[track_caller]
    pub fn outputs(&self) -> BTreeMap<String, String> {
        let json = self.json();
        let mut outputs = BTreeMap::new();
        for (stage, facts) in json["stages"].as_object().expect("stages") {
            for (port, digest) in facts["outputs"].as_object().expect("outputs") {
                outputs.insert(format!("{stage}.{port}"), digest.as_str().expect("digest").to_owned());
            }
        }
        outputs
    }
}

impl TestSpace {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("write");
    }

    /// Writes a recipe whose stages are `stages`, each line below `stages:`.
    pub fn recipe(&self, name: &str, stages: &str) {
        let stages: String =
            stages.lines().filter(|l| !l.trim().is_empty()).map(|l| format!("  {}\n", l.trim())).collect();
        self.write(name, &format!("opdflow: 1\nname: test\nseed: 7\nstages:\n{stages}"));
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_opdflow"));
        command.args(args).current_dir(self.dir.path());
        command
            .env("OPDFLOW_STORE", self.store())
            .env("OPDFLOW_FAKE_STAGES", "1")
            .env("OPDFLOW_GPUS", "0")
            .env("NO_COLOR", "1");
        command.env_remove("CUDA_VISIBLE_DEVICES").env_remove("OPDFLOW_CHECKPOINT_SECONDS").stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        finish(self.start(args))
    }

    /// Starts a command and leaves it running.
    pub fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
    }

    /// The events of the newest run, as far as they are written; none if there is no run yet.
    pub fn events(&self) -> Vec<Value> {
        let Ok(text) = std::fs::read_to_string(self.path(".opdflow/runs/latest/events.jsonl")) else {
            return Vec::new();
        };
        text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()).map(|l| l["event"].clone()).collect()
    }

    /// The events of this kind in the newest run.
    pub fn events_of(&self, kind: &str) -> Vec<Value> {
        self.events().into_iter().filter_map(|e| e.get(kind).cloned()).collect()
    }

    /// Waits until the newest run has an event for which `wanted` holds, and gives it.
    #[track_caller]
    pub fn wait_for(&self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            if let Some(found) = self.events_of(kind).into_iter().find(|e| wanted(e)) {
                return found;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "no `{kind}` in {:#?}", self.events());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The processes of stages that the newest run has started and that are still there. A number that the system
    /// has given to another process since is left out.
    pub fn children(&self) -> Vec<i32> {
        let here = self.dir.path().canonicalize().expect("a folder");
        let pid = |e: &Value| i32::try_from(e["pid"].as_i64()?).ok();
        let ours = |pid: &i32| {
            let proc = PathBuf::from(format!("/proc/{pid}"));
            std::fs::read_link(proc.join("cwd")).is_ok_and(|cwd| cwd == here)
                && std::fs::read(proc.join("cmdline")).is_ok_and(|c| c.windows(7).any(|w| w == b"__stage"))
        };
        self.events_of("started").iter().filter_map(pid).filter(ours).collect()
    }

    /// The store's blobs of this content.
    pub fn blobs(&self, content: &str) -> Vec<PathBuf> {
        files(&self.store().join("blobs"))
            .into_iter()
            .filter(|p| std::fs::read(p).is_ok_and(|b| b == content.as_bytes()))
            .collect()
    }

    /// Replaces the bytes of a blob, which is read-only, by others.
    pub fn damage(&self, blob: &Path, bytes: &[u8]) {
        std::fs::remove_file(blob).expect("remove");
        std::fs::write(blob, bytes).expect("write");
    }
}

pub fn finish(child: Child) -> Ran {
    let output = child.wait_with_output().expect("the program ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    // A program ended by a signal has no code; shells give it 128 and the signal.
    let code = std::os::unix::process::ExitStatusExt::signal(&output.status)
        .map_or_else(|| output.status.code().unwrap_or(-1), |s| 128 + s);
    Ran { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

pub fn signal(pid: i32, signal: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(pid, signal) };
}

pub fn pid(child: &Child) -> i32 {
    i32::try_from(child.id()).expect("a process number")
}

/// The names of the runs in a folder, the oldest first.
pub fn runs(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder of runs");
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name != "latest");
    names.sort();
    names
}

pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// A copy of a folder in which every file is a link, as a download cache lays it out.
pub fn links(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            links(&entry.path(), &target);
        } else {
            std::os::unix::fs::symlink(entry.path(), target).unwrap();
        }
    }
}

#[track_caller]
pub fn wait_until(what: &str, mut there: impl FnMut() -> bool) {
    let began = Instant::now();
    while !there() {
        assert!(began.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process has said what it does on a signal. One that has just started would only die of it.
pub fn catches(pid: i32, signal: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask =
        status.lines().find_map(|l| l.strip_prefix("SigCgt:")).and_then(|m| u64::from_str_radix(m.trim(), 16).ok());
    mask.is_some_and(|m| m >> (signal - 1) & 1 == 1)
}
