//! One child process per stage, on this machine.

use super::launch::{thread_variables, write_job};
use super::{End, Executor, Message, Process, ProcessId};
use crate::runlog::RunFolder;
use anyhow::{Context as _, Result};
use opdflow_api::cache::Host;
use opdflow_api::{Event, Fault, Job, rank};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

/// The program beside this one that links libtorch.
pub(super) const STAGE_PROGRAM: &str = "opdflow-stage";

/// Runs `opdflow-stage __stage JOB` for each stage, or this very program for the kinds that it can run. Jobs and logs
/// lie in the folder of the run.
#[derive(Debug)]
pub struct Local {
    folder: RunFolder,
    own: BTreeSet<&'static str>,
    other: Result<Program, Fault>,
}

impl Local {
    /// An executor for the run with this folder. The kinds in `own` are run by this program itself.
    #[must_use]
    pub fn new(folder: RunFolder, own: impl IntoIterator<Item = &'static str>) -> Self {
        // A run of hits needs no other program, so a missing one is no error yet.
        Self { folder, own: own.into_iter().collect(), other: Program::beside_this_one() }
    }

    /// Whether the other program is there, for a run that is to begin: a missing one is told before anything starts, and not
    /// when the turn of its first stage comes.
    ///
    /// # Errors
    /// It is not there; the message says the way out.
    pub fn is_whole() -> Result<(), Fault> {
        Program::beside_this_one().map(drop)
    }

    fn program(&self, job: &Job) -> Result<PathBuf> {
        if self.own.contains(job.kind.as_str()) {
            return Ok(this_program());
        }
        Ok(self.other.as_ref().map(Program::place).map_err(Clone::clone)?)
    }

    fn command(&self, job: &Job, gpu: Option<&str>) -> Result<Command> {
        let path = write_job(&self.folder, job)?;
        let log = self.folder.log(&job.name);
        let stderr = File::options().create(true).append(true).open(&log);
        let stderr = stderr.with_context(|| format!("cannot write {}", log.display()))?;

        let mut command = Command::new(self.program(job)?);
        command.arg0("opdflow").arg("__stage").arg(path);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        command.envs(thread_variables(job.threads));
        for (name, value) in job.environment.iter().filter(|(name, _)| std::env::var_os(name).is_none()) {
            command.env(name, value);
        }
        // What a launcher around this run says of itself is not of the stage's processes.
        for name in rank::VARIABLES.iter().chain(&rank::FOREIGN).chain([&rank::HALVINGS]) {
            command.env_remove(name);
        }
        // A stage without a GPU must not touch one that another stage was given.
        command.env("CUDA_VISIBLE_DEVICES", gpu.unwrap_or(""));
        // Ctrl-C goes to the terminal's whole foreground group. Children stand apart from it, so that the scheduler
        // alone decides how they stop.
        command.process_group(0);
        Ok(command)
    }
}

/// The running program's own file. A file replaced since the start (a rebuild during a long run) is still reached
/// through the link in `/proc`, so that all stages of a run come from one and the same program.
fn this_program() -> PathBuf {
    match std::env::current_exe() {
        Ok(path) if path.exists() => path,
        _ => PathBuf::from("/proc/self/exe"),
    }
}

/// A program's file, held open: replaced since (a rebuild during a long run), it is still reached through the link
/// in `/proc`.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    file: File,
}

impl Program {
    pub(super) fn beside_this_one() -> Result<Self, Fault> {
        let fault = |e: std::io::Error, what: String| Fault::about(&anyhow::Error::from(e).context(what));
        let here = std::env::current_exe().map_err(|e| fault(e, "cannot find the file of this program".into()))?;
        let path = here.with_file_name(STAGE_PROGRAM);
        // Enough to start it, and all that a file needs to allow.
        match File::options().read(true).custom_flags(libc::O_PATH).open(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(e) => {
                let help = format!(
                    "`opdflow` and `{STAGE_PROGRAM}` are installed side by side, from one build; a build without libtorch \
                     (`--no-default-features`) has no `{STAGE_PROGRAM}`: it checks and plans, and stages run where one with \
                     libtorch is"
                );
                Err(fault(e, format!("cannot start {}", path.display())).help(help))
            }
        }
    }

    pub(super) fn place(&self) -> PathBuf {
        let same = match (self.path.metadata(), self.file.metadata()) {
            (Ok(there), Ok(ours)) => (there.dev(), there.ino()) == (ours.dev(), ours.ino()),
            _ => false,
        };
        // The child resolves this before it closes the descriptor.
        if same { self.path.clone() } else { format!("/proc/self/fd/{}", self.file.as_raw_fd()).into() }
    }
}

impl Executor for Local {
    fn start(&self, stage: usize, job: &Job, gpu: Option<&str>, inbox: &Sender<Message>) -> Result<Box<dyn Process>> {
        let mut command = self.command(job, gpu)?;
        let alive = Arc::new(Mutex::new(None));
        let (inbox, shared) = (inbox.clone(), alive.clone());
        let (hand_over, take_over) = std::sync::mpsc::channel::<Child>();
        let listen = move || {
            let Ok(mut child) = take_over.recv() else { return };
            if let Some(stdout) = child.stdout.take() {
                forward(stage, stdout, &inbox);
            }
            // The scheduler may be gone already; then nobody needs to know.
            let _ = inbox.send(Message::Ended(stage, reap(child, &shared)));
        };
        // The thread first: a child that nobody listens to could not be stopped, and its end would never be heard of.
        std::thread::Builder::new()
            .name(format!("stage {}", job.name))
            .spawn(listen)
            .context("cannot start a thread")?;
        let child = command.spawn().context("cannot start a process of opdflow")?;
        let id = child.id();
        *alive.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
        hand_over.send(child).context("the thread of a stage is gone")?;
        Ok(Box::new(LocalProcess { id, alive }))
    }
}

/// Passes the child's events on until it closes its end. What is no event (a newer kind, a stray print) is skipped.
fn forward(stage: usize, stdout: ChildStdout, inbox: &Sender<Message>) {
    let mut lines = BufReader::new(stdout);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
        if let Ok(event) = serde_json::from_slice::<Event>(&line) {
            let _ = inbox.send(Message::Event(stage, event));
        }
        line.clear();
    }
}

/// Waits for the child. Its number is withdrawn before the system may give it to another process, so that a signal
/// never hits a stranger.
pub(super) fn reap(mut child: Child, alive: &Mutex<Option<u32>>) -> End {
    wait_without_reaping(child.id());
    let mut id = alive.lock().unwrap_or_else(PoisonError::into_inner);
    *id = None;
    match child.wait() {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => End::Code(code),
            (None, Some(signal)) => End::Signal(signal),
            (None, None) => End::Unknown(status.to_string()),
        },
        Err(e) => End::Unknown(e.to_string()),
    }
}

pub(super) fn wait_without_reaping(id: u32) {
    loop {
        // SAFETY: `info` is a plain structure for the system to fill in, and nobody reads it.
        let result = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            libc::waitid(libc::P_PID, id, &raw mut info, libc::WEXITED | libc::WNOWAIT)
        };
        if result == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return;
        }
    }
}

/// A child that leads a process group of its own.
pub(super) struct LocalProcess {
    pub(super) id: u32,
    /// Its number, until it is reaped.
    pub(super) alive: Arc<Mutex<Option<u32>>>,
}

impl LocalProcess {
    fn signal(&self, signal: i32, whole_group: bool) {
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = alive.and_then(|id| i32::try_from(id).ok()) {
            // SAFETY: no memory is involved; the lock keeps the number ours.
            unsafe { libc::kill(if whole_group { -id } else { id }, signal) };
        }
    }
}

impl Process for LocalProcess {
    fn id(&self) -> ProcessId {
        ProcessId { host: Some(Host::this().name.clone()), pid: self.id }
    }
    fn stop(&self) {
        self.signal(libc::SIGTERM, false);
    }
    fn kill(&self) {
        self.signal(libc::SIGKILL, true);
    }
}
