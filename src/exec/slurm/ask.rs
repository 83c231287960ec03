//! Asking Slurm: its programs, each with a deadline, and their answers as they come from any version.

use opdflow_api::rank;
use std::ffi::OsString;
use std::io::{Read as _, Seek as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a program of Slurm may take. It waits 10 s for the controller by itself, and tries again.
const DEADLINE: Duration = Duration::from_secs(45);

/// Variables with which `sbatch` and `squeue` would do something else than they are asked to.
const MISLEADING: [&str; 9] = [
    "SBATCH_ARRAY_INX",
    "SBATCH_CLUSTERS",
    "SBATCH_DEPENDENCY",
    "SBATCH_JOB_NAME",
    "SBATCH_WAIT",
    "SBATCH_WAIT_ALL_NODES",
    "SLURM_CLUSTERS",
    "SLURM_HINT",
    "CUDA_VISIBLE_DEVICES",
];

/// What a program of Slurm answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it ended with 0.
    pub ok: bool,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Silence {
    /// The program is not on this machine.
    NoProgram(String),
    /// It took too long, or could not be started.
    Late(String),
}

impl std::fmt::Display for Silence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::NoProgram(text) | Self::Late(text)) = self;
        f.write_str(text)
    }
}

/// Runs a program of Slurm to its end.
///
/// # Errors
/// It gives no answer.
pub fn ask(program: &str, arguments: &[OsString]) -> Result<Answer, Silence> {
    let late = |what: &str, e: std::io::Error| Silence::Late(format!("`{program}` {what}: {e}"));
    // Files instead of pipes: nothing that it leaves behind can keep us waiting.
    let (mut out, mut err) = match (tempfile::tempfile(), tempfile::tempfile()) {
        (Ok(out), Ok(err)) => (out, err),
        (Err(e), _) | (_, Err(e)) => return Err(late("cannot be listened to", e)),
    };
    let ends = out.try_clone().and_then(|out| Ok((out, err.try_clone()?)));
    let (to_out, to_err) = ends.map_err(|e| late("cannot be listened to", e))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(to_out).stderr(to_err);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        // Within a job of Slurm, that job's own settings would count for the new one.
        let of_rank = rank::FOREIGN.contains(&&*text) || rank::VARIABLES.contains(&&*text);
        let of_job = text.starts_with("SLURM_") && text != "SLURM_CONF" && text != "SLURM_CONF_SERVER";
        if of_rank
            || of_job
            || text.starts_with("SQUEUE_")
            || text.starts_with("SACCT_")
            || MISLEADING.contains(&&*text)
        {
            command.env_remove(&name);
        }
    }
    command.env("LC_ALL", "C");
    // Ctrl-C is the run's alone to hear: a job that is being submitted would be lost sight of.
    command.process_group(0);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Silence::NoProgram(format!("there is no `{program}` on this machine")));
        }
        Err(e) => return Err(late("cannot be started", e)),
    };
    let began = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if began.elapsed() < DEADLINE => std::thread::sleep(Duration::from_millis(10)),
            ended => {
                let _ = child.kill();
                let _ = child.wait();
                let why = ended
                    .err()
                    .map_or_else(|| format!("gave no answer in {} s", DEADLINE.as_secs()), |e| e.to_string());
                return Err(Silence::Late(format!("`{program}` {why}")));
            }
        }
    };
    let text = |file: &mut std::fs::File| {
        let mut bytes = Vec::new();
        let _ = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    };
    if status.code().is_none() {
        return Err(Silence::Late(format!("`{program}` was ended before it gave an answer")));
    }
    Ok(Answer { ok: status.success(), out: text(&mut out), err: text(&mut err) })
}

/// Words of Slurm for a controller, or the way to it, that is away for a while.
const AWAY: [&str; 12] = [
    "unable to contact slurm controller",
    "socket timed out",
    "zero bytes were transmitted",
    "connection refused",
    "connection timed out",
    "connect failure",
    "communication connection failure",
    "temporarily unable",
    "in standby mode",
    "resource temporarily unavailable",
    "authentication",
    "could not establish a configuration source",
];

/// Words of Slurm for a queue that takes no more of this user for now.
const FULL: [&str; 5] = ["maxsubmit", "grpsubmit", "job limit", "too many jobs", "maxjobcount"];

/// What became of a job that was handed to `sbatch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// It has this number.
    As(u64),
    /// The controller is away: whether it took the job is not known.
    Away(String),
    /// There are as many jobs as the user may have.
    Full(String),
    /// It does not take this job.
    Refused(String),
    /// This machine has no Slurm.
    NoProgram(String),
}

/// Hands a job to `sbatch`.
#[must_use]
pub fn submit(options: &[OsString]) -> Submitted {
    match ask("sbatch", options) {
        Ok(answer) => submitted(&answer),
        Err(Silence::NoProgram(why)) => Submitted::NoProgram(why),
        Err(Silence::Late(why)) => Submitted::Away(why),
    }
}

/// What an answer of `sbatch` means.
#[must_use]
pub fn submitted(answer: &Answer) -> Submitted {
    // What a site's own wrapper prints stands before the number.
    let number = |line: &str| line.trim().split(';').next().and_then(|id| id.parse().ok());
    if answer.ok
        && let Some(id) = answer.out.lines().rev().find_map(number)
    {
        return Submitted::As(id);
    }
    let text = words(&answer.err, &answer.out);
    let lower = text.to_lowercase();
    let has = |all: &[&str]| all.iter().any(|words| lower.contains(words));
    match () {
        () if has(&FULL) => Submitted::Full(text),
        () if has(&AWAY) => Submitted::Away(text),
        () => Submitted::Refused(text),
    }
}

/// What a program said, without its own name before each line.
fn words(err: &str, out: &str) -> String {
    let bare = |line: &str| {
        let line = line.trim();
        let line = line.split_once(": error: ").map_or(line, |(_, rest)| rest);
        line.strip_prefix("Batch job submission failed: ").unwrap_or(line).to_owned()
    };
    let lines = |text: &str| text.lines().map(bare).filter(|l| !l.is_empty()).collect::<Vec<_>>();
    let said = lines(err);
    let said = if said.is_empty() { lines(out) } else { said };
    if said.is_empty() { "it said nothing".to_owned() } else { said.join("; ") }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In the queue, or between two starts.
    Waiting,
    /// On its nodes.
    Running,
    /// Its end is being cleared up; it may go back to the queue.
    Completing,
    /// It ended with 0.
    Completed,
    /// It ended with another code, or by a signal.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// Its time was up.
    TimedOut,
    /// It had to give way to another.
    Preempted,
    /// Its node failed.
    NodeFailed,
    /// It took more memory than it had asked for.
    OutOfMemory,
    /// A word that is not known here.
    Unknown,
}

impl State {
    /// Reads the word of `squeue`, `sacct` or `scontrol`: `CANCELLED by 1000`, `COMPLETED+`.
    #[must_use]
    pub fn of(word: &str) -> Self {
        let word = word.trim().split([' ', '+']).next().unwrap_or_default();
        match word {
            "PENDING" | "REQUEUED" | "REQUEUE_FED" | "REQUEUE_HOLD" | "SPECIAL_EXIT" | "RESV_DEL_HOLD" => Self::Waiting,
            "RUNNING" | "CONFIGURING" | "SUSPENDED" | "STOPPED" | "SIGNALING" | "RESIZING" | "POWER_UP_NODE" => {
                Self::Running
            }
            "COMPLETING" | "STAGE_OUT" => Self::Completing,
            "COMPLETED" => Self::Completed,
            "FAILED" | "LAUNCH_FAILED" | "RECONFIG_FAIL" => Self::Failed,
            "CANCELLED" | "REVOKED" => Self::Cancelled,
            "TIMEOUT" | "DEADLINE" => Self::TimedOut,
            "PREEMPTED" => Self::Preempted,
            "NODE_FAIL" | "BOOT_FAIL" => Self::NodeFailed,
            "OUT_OF_MEMORY" => Self::OutOfMemory,
            _ => Self::Unknown,
        }
    }

    /// Whether the job may still do something.
    #[must_use]
    pub fn lives(self) -> bool {
        matches!(self, Self::Waiting | Self::Running | Self::Completing | Self::Unknown)
    }
}

/// A job in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// Its number.
    pub id: u64,
    /// Where it stands.
    pub state: State,
    /// Slurm's own word for that.
    pub word: String,
    /// Why it waits, or why it ended.
    pub reason: String,
    /// Its nodes.
    pub nodes: String,
    /// Its name.
    pub name: String,
    /// The files of the stage, from its comment.
    pub files: PathBuf,
}

/// All jobs of this user that have opdflow's names, those that ended lately too.
///
/// # Errors
/// `squeue` gives no answer: nothing is known then.
pub fn queue() -> Result<Vec<Queued>, Silence> {
    // SAFETY: it takes nothing and cannot fail.
    let user = unsafe { libc::getuid() };
    let options = ["--noheader", "--all", "--states=all", "--format=%i|%T|%r|%N|%j|%k"].map(OsString::from);
    let options = [options.to_vec(), vec![format!("--user={user}").into()]].concat();
    let answer = ask("squeue", &options)?;
    if !answer.ok {
        return Err(Silence::Late(format!("`squeue` gives no answer: {}", words(&answer.err, ""))));
    }
    Ok(answer.out.lines().filter_map(queued).collect())
}

/// A line of `squeue`. The comment comes last, because it may hold anything.
fn queued(line: &str) -> Option<Queued> {
    let mut fields = line.splitn(6, '|');
    let mut next = || fields.next();
    let (id, word, reason) = (next()?.trim().parse().ok()?, next()?.trim(), next()?.trim());
    let (nodes, name, comment) = (next()?.trim(), next()?.trim(), next()?.trim());
    name.starts_with(super::script::PREFIX).then(|| Queued {
        id,
        state: State::of(word),
        word: word.to_owned(),
        reason: reason.trim_matches(['(', ')']).to_owned(),
        nodes: nodes.to_owned(),
        name: name.to_owned(),
        files: comment.into(),
    })
}

/// How a job ended that is in the queue no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// Where it stands.
    pub state: State,
    /// Its exit code, and the signal that ended it, 0 for none.
    pub code: (i32, i32),
}

/// What the accounts say of a job, if they are kept, and else what the controller remembers of it. Nothing if neither knows it under
/// this name: numbers are used again.
#[must_use]
pub fn past(id: u64, name: &str) -> Option<Past> {
    accounted(id, name).or_else(|| remembered(id, name))
}

/// From the beginning of all times: `sacct` would look no further back than midnight.
fn accounted(id: u64, name: &str) -> Option<Past> {
    let options =
        ["--noheader", "--parsable2", "--allocations", "--format=State,ExitCode,JobName", "--starttime=1970-01-01"];
    let options = options.map(OsString::from).to_vec();
    let answer = ask("sacct", &[options, vec![format!("--jobs={id}").into()]].concat()).ok()?;
    let line = |line: &str| {
        let mut fields = line.trim().splitn(3, '|');
        let (state, code) = (State::of(fields.next()?), exit_code(fields.next()?)?);
        (fields.next()? == name).then_some(Past { state, code })
    };
    // The newest of those that had the number comes last.
    answer.out.lines().filter_map(line).next_back().filter(|_| answer.ok)
}

fn remembered(id: u64, name: &str) -> Option<Past> {
    let options = ["--oneliner", "show", "job"].map(OsString::from).to_vec();
    let answer = ask("scontrol", &[options, vec![id.to_string().into()]].concat()).ok()?;
    shown(&answer.out, name).filter(|_| answer.ok)
}

/// A line of `scontrol show job`.
fn shown(text: &str, name: &str) -> Option<Past> {
    let field = |name: &str| text.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    (field("JobName")? == name).then_some(())?;
    Some(Past { state: State::of(field("JobState")?), code: exit_code(field("ExitCode")?)? })
}

/// `75:0`.
fn exit_code(text: &str) -> Option<(i32, i32)> {
    let (code, signal) = text.trim().split_once(':')?;
    Some((code.parse().ok()?, signal.parse().ok()?))
}

/// Asks the batch process of a job to stop at a checkpoint, if it has begun.
pub fn signal(id: u64) {
    cancel(id, &["--batch", "--signal=TERM"]);
}

/// Takes a job out of the queue if it has not begun.
pub fn withdraw(id: u64) {
    cancel(id, &["--state=PENDING"]);
}

/// Ends a job now, with all its processes. Whether Slurm has been told.
#[must_use]
pub fn kill(id: u64) -> bool {
    // The second takes it out of the queue; alone it would leave half a minute to its processes.
    let killed = cancel(id, &["--full", "--signal=KILL"]);
    cancel(id, &[]) || killed
}

fn cancel(id: u64, options: &[&str]) -> bool {
    let mut options: Vec<OsString> = options.iter().map(OsString::from).collect();
    options.push(id.to_string().into());
    ask("scancel", &options).is_ok_and(|answer| answer.ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sbatch(ok: bool, out: &str, err: &str) -> Submitted {
        submitted(&Answer { ok, out: out.into(), err: err.into() })
    }

    /// Answers of Slurm 22.05 and 23.11.
    #[test]
    fn what_sbatch_says_is_understood() {
        assert_eq!(sbatch(true, "12\n", ""), Submitted::As(12));
        assert_eq!(sbatch(true, "Your project has 3 h left.\n4711;gpucluster\n", "sbatch: note"), Submitted::As(4711));
        for (err, full) in [
            (
                "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)\n",
                false,
            ),
            ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n", false),
            ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n", false),
            ("sbatch: error: Batch job submission failed: Protocol authentication error\n", false),
            (
                "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)\n",
                true,
            ),
            (
                "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy (...)\n",
                true,
            ),
        ] {
            let found = sbatch(false, "", err);
            assert!(
                matches!(found, Submitted::Full(_)) == full && matches!(found, Submitted::Away(_)) != full,
                "{found:?}"
            );
        }
        let refused = sbatch(
            false,
            "",
            "sbatch: error: invalid partition specified: nope\nsbatch: error: Batch job submission failed: Invalid partition name specified\n",
        );
        assert_eq!(
            refused,
            Submitted::Refused("invalid partition specified: nope; Invalid partition name specified".into())
        );
        assert_eq!(
            sbatch(false, "", "sbatch: error: Invalid generic resource (gres) specification\n"),
            Submitted::Refused("Invalid generic resource (gres) specification".into())
        );
        let wall = "sbatch: error: AssocMaxWallDurationPerJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)";
        assert!(matches!(sbatch(false, "", wall), Submitted::Refused(_)), "a limit that no waiting lifts");
        assert_eq!(sbatch(false, "", ""), Submitted::Refused("it said nothing".into()));
        assert!(matches!(sbatch(true, "no number\n", ""), Submitted::Refused(_)));
    }

    #[test]
    fn lines_of_the_queue_are_read_and_others_jobs_passed_over() {
        let job = queued("12|PENDING|Resources||opdflow-0123-t|/runs/a|b/jobs/t").unwrap();
        assert_eq!((job.id, job.state, job.reason.as_str(), job.nodes.as_str()), (12, State::Waiting, "Resources", ""));
        assert_eq!(job.files, PathBuf::from("/runs/a|b/jobs/t"));
        let job = queued("     7|RUNNING|None|n[1-2]|opdflow-0123-t|(null)").unwrap();
        assert_eq!((job.state, job.nodes.as_str()), (State::Running, "n[1-2]"));
        for line in
            ["", "9|RUNNING|None|n1|mine|x", "12_3|RUNNING|None|n1|opdflow-x|x", "12|RUNNING", "slurm_load_jobs error"]
        {
            assert_eq!(queued(line), None, "{line}");
        }
    }

    #[test]
    fn states_of_all_programs_are_known_and_others_are_no_end() {
        for (word, state) in [
            ("CANCELLED by 1000", State::Cancelled),
            ("COMPLETED+", State::Completed),
            ("OUT_OF_MEMORY", State::OutOfMemory),
            ("SPECIAL_EXIT", State::Waiting),
            ("FROM_THE_FUTURE", State::Unknown),
            ("", State::Unknown),
        ] {
            assert_eq!(State::of(word), state, "{word}");
        }
        assert!(State::Unknown.lives() && State::Completing.lives() && !State::Preempted.lives());
    }

    #[test]
    fn a_job_of_another_name_is_not_ours() {
        let text = "JobId=4 JobName=opdflow-a UserId=root(0) JobState=CANCELLED Reason=None Requeue=1 ExitCode=75:0 RunTime=00:00:10";
        assert_eq!(shown(text, "opdflow-a"), Some(Past { state: State::Cancelled, code: (75, 0) }));
        assert_eq!(shown(text, "opdflow-b"), None);
        assert_eq!(shown("slurm_load_jobs error: Invalid job id specified", "opdflow-a"), None);
    }
}
