//! The job of a stage as `sbatch` takes it: options, and a script of the shell. Nothing of a user's is read by the shell, except
//! what the profile has under `setup`.

use super::profile::{Ask, Profile, gres_for};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// What is to run, where, and with what.
#[derive(Clone, Debug)]
pub struct Request {
    /// The job's name, by which it is found again.
    pub name: String,
    /// The files of the job, without their endings: `FOLDER/jobs/STAGE`.
    pub files: PathBuf,
    /// What it writes beside its events.
    pub log: PathBuf,
    /// Where it begins.
    pub cwd: PathBuf,
    /// This program.
    pub opdflow: PathBuf,
    /// The stage's program and its arguments.
    pub command: Vec<OsString>,
    /// The stage's kind.
    pub kind: String,
    /// Processes of the stage; 1 unless it is spread over several GPUs.
    pub ranks: usize,
    /// Threads of each.
    pub threads: usize,
    /// Whether each has a GPU.
    pub gpu: bool,
    /// Variables that it finds in its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// What new files may be: the mask of this process, in octal digits.
    pub umask: String,
}

/// The part of a job's name before its key.
pub const PREFIX: &str = "opdflow-";

/// The name of a stage's job: letters, digits and `._-` only. `key` tells jobs apart; the stage is for people.
#[must_use]
pub fn job_name(key: &str, stage: &str) -> String {
    let plain = stage.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') { c } else { '-' });
    format!("{PREFIX}{}-{}", &key[..key.len().min(16)], plain.take(60).collect::<String>())
}

impl Request {
    fn ask(&self, profile: &Profile) -> Ask {
        profile.ask(&self.kind, self.gpu)
    }

    fn nodes(&self, profile: &Profile) -> usize {
        profile.nodes(self.ranks, self.threads, self.gpu)
    }

    /// The options of `sbatch`, and the script last.
    #[must_use]
    pub fn options(&self, profile: &Profile) -> Vec<OsString> {
        let (ask, nodes) = (self.ask(profile), self.nodes(profile));
        let on_one = self.ranks.max(1).div_ceil(nodes);
        let mut options: Vec<OsString> = vec!["--parsable".into(), "--open-mode=append".into(), "--export=ALL".into()];
        let mut put = |name: &str, value: &OsStr| {
            let mut option = OsString::from(name);
            option.push(value);
            options.push(option);
        };
        put("--job-name=", OsStr::new(&self.name));
        put("--chdir=", self.cwd.as_os_str());
        put("--output=", &output(&self.log));
        if let Some(comment) = comment(&self.files) {
            put("--comment=", OsStr::new(&comment));
        }
        let numbers = [("--nodes=", nodes), ("--ntasks=", self.ranks.max(1)), ("--cpus-per-task=", self.threads)];
        for (name, number) in numbers {
            put(name, OsStr::new(&number.to_string()));
        }
        if self.ranks > 1 {
            put("--ntasks-per-node=", OsStr::new(&on_one.to_string()));
        }
        put("--signal=", OsStr::new(&format!("B:USR1@{}", profile.warn.as_secs())));
        let gres = ask.gres.map(|one| gres_for(&one, if self.gpu { on_one } else { 1 }));
        // Slurm counts in mebibytes.
        let memory = ask.memory.map(|bytes| bytes.div_ceil(1 << 20).to_string());
        let words = [
            ("--partition=", ask.partition),
            ("--account=", ask.account),
            ("--qos=", ask.qos),
            ("--time=", ask.time),
            ("--gres=", gres),
            ("--mem=", memory),
        ];
        for (name, word) in words {
            if let Some(word) = word {
                put(name, OsStr::new(&word));
            }
        }
        options.push(self.script_path().into());
        options
    }

    /// Where the script lies.
    #[must_use]
    pub fn script_path(&self) -> PathBuf {
        ending(&self.files, "sh")
    }

    /// The script.
    #[must_use]
    pub fn script(&self, profile: &Profile) -> Vec<u8> {
        let mut text: Vec<u8> = b"#!/bin/bash\n".to_vec();
        for line in self.ask(profile).lines {
            text.extend(format!("#SBATCH {line}\n").bytes());
        }
        if !takes_patterns(&self.log) {
            text.extend([b"exec >>".as_slice(), &quoted(self.log.as_os_str()), b" 2>&1\n"].concat());
        }
        // Slurm begins in /tmp where the folder cannot be entered.
        text.extend([b"cd -- ".as_slice(), &quoted(self.cwd.as_os_str()), b" || exit 74\n"].concat());
        text.extend(format!("umask {}\n", self.umask).bytes());
        for (name, value) in self.environment.iter().filter(|(name, _)| is_name(name)) {
            text.extend([b"export ".as_slice(), name.as_bytes(), b"=", &quoted(value), b"\n"].concat());
        }
        if !profile.setup.is_empty() {
            text.extend(format!("set -e\n{}\nset +e\n", profile.setup.join("\n")).bytes());
        }
        text.extend([b"exec ".as_slice(), &quoted(self.opdflow.as_os_str()), b" __job "].concat());
        text.extend([quoted(self.files.as_os_str()), b" \"$SLURM_JOB_ID\" --".to_vec()].concat());
        for word in self.spread(profile).into_iter().chain(self.command.iter().cloned()) {
            text.push(b' ');
            text.extend(quoted(&word));
        }
        text.push(b'\n');
        text
    }

    /// What starts the stage's processes on their nodes; on a single one the stage's program does so itself. Those that end first
    /// must not take the others with them before their checkpoint is written.
    fn spread(&self, profile: &Profile) -> Vec<OsString> {
        let (ranks, nodes, threads) = (self.ranks, self.nodes(profile), self.threads);
        if nodes <= 1 {
            return Vec::new();
        }
        [
            "srun".to_owned(),
            format!("--ntasks={ranks}"),
            format!("--nodes={nodes}"),
            format!("--cpus-per-task={threads}"),
        ]
        .into_iter()
        .chain(["--mpi=none", "--kill-on-bad-exit=0", "--wait=120", "--export=ALL"].map(str::to_owned))
        .map(OsString::from)
        .collect()
    }
}

/// `files` with an ending behind its name, which may hold dots.
pub(super) fn ending(files: &Path, ending: &str) -> PathBuf {
    let mut path = files.as_os_str().to_owned();
    path.push(".");
    path.push(ending);
    path.into()
}

/// The events of one job of a stage.
pub(super) fn events(files: &Path, id: u64) -> PathBuf {
    ending(files, &format!("{id}.events"))
}

/// What a running job looks for, to see that it shall stop.
pub(super) fn wish(files: &Path, id: u64) -> PathBuf {
    ending(files, &format!("{id}.stop"))
}

/// The comment of the job, which leads from the queue to the files. A path that a line of `squeue` cannot hold leads nowhere.
pub(super) fn comment(files: &Path) -> Option<String> {
    let text = files.to_str()?;
    (text.len() < 900 && !text.chars().any(char::is_control) && text.trim() == text).then(|| text.to_owned())
}

/// Whether a path can be given as `--output`: after a backslash Slurm reads it in its own way.
fn takes_patterns(log: &Path) -> bool {
    !log.as_os_str().as_bytes().contains(&b'\\')
}

fn output(log: &Path) -> OsString {
    if !takes_patterns(log) {
        return "/dev/null".into();
    }
    // `%` begins what Slurm puts in.
    let bytes = log.as_os_str().as_bytes().iter();
    OsString::from_vec(bytes.flat_map(|b| if *b == b'%' { vec![b'%', b'%'] } else { vec![*b] }).collect())
}

/// Whether the shell takes it as the name of a variable.
fn is_name(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    !bytes.is_empty() && !bytes[0].is_ascii_digit() && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

/// As the shell reads it back, whatever it holds.
fn quoted(text: &OsStr) -> Vec<u8> {
    let mut out = vec![b'\''];
    for byte in text.as_bytes() {
        if *byte == b'\'' { out.extend(b"'\\''") } else { out.push(*byte) }
    }
    out.push(b'\'');
    out
}

#[cfg(test)]
mod tests {
    use super::super::profile::Node;
    use super::*;

    fn request(ranks: usize, gpu: bool) -> Request {
        Request {
            name: job_name("0123456789abcdef0123", "t[seed=1,x='ü\n$(id)']"),
            files: "/runs/a b/jobs/t'1".into(),
            log: "/runs/a b/100%/t.log".into(),
            cwd: "/home/$USER".into(),
            opdflow: "/opt/op flow/opdflow".into(),
            command: ["/opt/op flow/opdflow-stage", "__stage", "/runs/a b/jobs/t'1.json"].map(OsString::from).to_vec(),
            kind: "train".into(),
            ranks,
            threads: 4,
            gpu,
            environment: vec![
                ("OMP_NUM_THREADS".into(), "4".into()),
                ("A".into(), "`id` \"$B\"\n'".into()),
                ("BASH_FUNC_x%%".into(), "() {".into()),
            ],
            umask: "0027".into(),
        }
    }

    fn profile() -> Profile {
        Profile {
            node: Node { gpus: 4, cpus: Some(32) },
            setup: vec!["module load cuda".into()],
            all: Ask {
                partition: Some("gpu".into()),
                time: Some("1-0".into()),
                memory: Some(32_000_000_000),
                lines: vec!["--constraint=\"a100&nvlink\"".into()],
                ..Ask::default()
            },
            ..Profile::default()
        }
    }

    fn words(options: &[OsString]) -> String {
        options.iter().map(|o| o.to_string_lossy().into_owned()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_stage_of_one_process_is_a_job_of_one_task() {
        let (request, profile) = (request(1, true), profile());
        let expected = "--parsable\n--open-mode=append\n--export=ALL\n--job-name=opdflow-0123456789abcdef-t-seed-1-x------id---\n\
                        --chdir=/home/$USER\n--output=/runs/a b/100%%/t.log\n--comment=/runs/a b/jobs/t'1\n--nodes=1\n--ntasks=1\n\
                        --cpus-per-task=4\n--signal=B:USR1@300\n--partition=gpu\n--time=1-0\n--gres=gpu:1\n--mem=30518\n/runs/a b/jobs/t'1.sh";
        assert_eq!(words(&request.options(&profile)), expected);
        let expected = r#"#!/bin/bash
#SBATCH --constraint="a100&nvlink"
cd -- '/home/$USER' || exit 74
umask 0027
export OMP_NUM_THREADS='4'
export A='`id` "$B"
'\'''
set -e
module load cuda
set +e
exec '/opt/op flow/opdflow' __job '/runs/a b/jobs/t'\''1' "$SLURM_JOB_ID" -- '/opt/op flow/opdflow-stage' '__stage' '/runs/a b/jobs/t'\''1.json'
"#;
        assert_eq!(String::from_utf8(request.script(&profile)).unwrap(), expected);
    }

    #[test]
    fn more_gpus_than_a_node_has_are_several_nodes() {
        let (request, profile) = (request(6, true), profile());
        let options = words(&request.options(&profile));
        for wanted in ["--nodes=2", "--ntasks=6", "--ntasks-per-node=3", "--gres=gpu:3", "--cpus-per-task=4"] {
            assert!(options.lines().any(|o| o == wanted), "{wanted}\n{options}");
        }
        let script = String::from_utf8(request.script(&profile)).unwrap();
        let srun = "-- 'srun' '--ntasks=6' '--nodes=2' '--cpus-per-task=4' '--mpi=none' '--kill-on-bad-exit=0' '--wait=120' '--export=ALL' '/opt/op flow/opdflow-stage' '__stage'";
        assert!(script.contains(srun), "{script}");
        // On one node the stage's program starts its processes itself.
        let four = super::tests::request(4, true);
        let options = words(&four.options(&profile));
        assert!(options.contains("--nodes=1\n--ntasks=4\n") && options.contains("--gres=gpu:4"), "{options}");
        assert!(!String::from_utf8(four.script(&profile)).unwrap().contains("srun"));
        let cpu = words(&super::tests::request(6, false).options(&profile));
        assert!(!cpu.contains("gres") && cpu.contains("--nodes=1"), "{cpu}");
    }

    /// What the shell makes of the script's words is what was put in.
    #[test]
    fn the_shell_reads_back_what_was_written() {
        let nasty = "a'b\"c$(id)`id`\\\n\t*?[x]{1,2}~!#&;|<>%ü";
        let mut line = b"printf %s ".to_vec();
        line.extend(quoted(OsStr::new(nasty)));
        let ran = std::process::Command::new("bash").arg("-c").arg(OsString::from_vec(line)).output().unwrap();
        assert_eq!(String::from_utf8(ran.stdout).unwrap(), nasty);
    }

    #[test]
    fn a_path_that_slurm_would_read_in_its_own_way_is_opened_by_the_script() {
        let mut request = request(1, false);
        request.log = "/runs/a\\b/t.log".into();
        assert!(words(&request.options(&profile())).contains("--output=/dev/null"));
        assert!(String::from_utf8(request.script(&profile())).unwrap().contains("exec >>'/runs/a\\b/t.log' 2>&1\n"));
        request.files = "/runs/a\nb/t".into();
        assert!(!words(&request.options(&profile())).contains("--comment"));
    }
}
