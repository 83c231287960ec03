//! One job of Slurm per stage. The scheduler's machine and the nodes share the folder of the run, the store and this program; all that
//! passes between them is files there, and Slurm is asked only for what they do not say.
//!
//! [`profile`] says what jobs are asked for and [`reading`] reads it from its file; [`script`] makes a job of it, [`ask`] hands it to
//! Slurm, [`attend`] is its first process on the node, and [`lines`] what that writes. `follow` follows a stage through its jobs, by
//! the queue (`queue`) and what [`judge`] makes of all that is known.

pub mod ask;
pub mod attend;
mod follow;
pub mod judge;
pub mod left;
pub mod lines;
pub mod profile;
mod queue;
pub mod reading;
pub mod script;

use super::launch::{thread_variables, write_job};
use super::local::STAGE_PROGRAM;
use super::{Capacity, Executor, Message, Process, ProcessId};
use crate::runlog::RunFolder;
use anyhow::{Context as _, Result};
use follow::{Follower, Progress, Wish};
use opdflow_api::{Fault, Job, rank};
use profile::Profile;
use queue::Queue;
use script::{Request, job_name};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// Runs each stage as a job of Slurm.
#[derive(Debug)]
pub struct Slurm {
    folder: RunFolder,
    own: BTreeSet<&'static str>,
    program: PathBuf,
    cwd: PathBuf,
    umask: String,
    profile: Arc<Profile>,
    queue: Arc<Queue>,
}

impl Slurm {
    /// An executor for the run with this folder. The kinds in `own` are run by this program itself.
    ///
    /// # Errors
    /// This program's own file or the present folder cannot be told.
    pub fn new(folder: &RunFolder, own: impl IntoIterator<Item = &'static str>, profile: Profile) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find the file of this program")?;
        let cwd = std::env::current_dir().context("cannot tell the present folder")?;
        // Jobs begin elsewhere, later, and find the same files.
        let path = std::path::absolute(folder.path()).context("cannot tell where the run's folder is")?;
        let queue = Arc::new(Queue::new(profile.poll));
        let own = own.into_iter().collect();
        Ok(Self { folder: RunFolder::of(path), own, program, cwd, umask: umask(), profile: Arc::new(profile), queue })
    }

    /// Whether this machine has Slurm's programs, for a run that is to begin.
    ///
    /// # Errors
    /// It has not; the message says the way out.
    pub fn is_there() -> Result<(), Fault> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let missing = ["sbatch", "squeue", "scancel"]
            .into_iter()
            .find(|program| !std::env::split_paths(&path).any(|folder| folder.join(program).is_file()));
        match missing {
            None => Ok(()),
            Some(program) => Err(Fault::machine(format!("there is no `{program}` on this machine"))
                .help("`--on slurm` is for a login node of a cluster with Slurm; without it stages run here")),
        }
    }

    fn request(&self, job: &Job, gpu: bool) -> Result<Request> {
        let path = write_job(&self.folder, job)?;
        let program = if self.own.contains(job.kind.as_str()) {
            self.program.clone()
        } else {
            let other = self.program.with_file_name(STAGE_PROGRAM);
            anyhow::ensure!(other.is_file(), Fault::machine(format!("{} is not there", other.display())));
            other
        };
        Ok(Request {
            name: job_name(&job.key.to_string(), &job.name),
            files: path.with_extension(""),
            log: self.folder.log(&job.name),
            cwd: self.cwd.clone(),
            opdflow: self.program.clone(),
            command: vec![program.into(), "__stage".into(), path.into()],
            kind: job.kind.clone(),
            ranks: job.ranks,
            threads: job.threads,
            gpu,
            environment: environment(job, gpu),
            umask: self.umask.clone(),
        })
    }
}

/// What a variable ends with that holds a secret.
const SECRET: &str = "_TOKEN";

/// What a job's script sets: what the stage needs, and whatever of this process's environment is opdflow's or says where libraries lie.
/// A secret is written into no file: it goes with the environment of `sbatch`, of which a job has a copy (`--export=ALL`).
fn environment(job: &Job, gpu: bool) -> Vec<(OsString, OsString)> {
    let ours = |name: &OsString| {
        let name = name.to_string_lossy();
        if name.ends_with(SECRET) {
            return false;
        }
        // What a launcher around this run says of itself is not of the stage's processes.
        if rank::VARIABLES.contains(&&*name) || name == rank::HALVINGS {
            return false;
        }
        name.starts_with("OPDFLOW_") || matches!(&*name, "LD_LIBRARY_PATH" | "LIBTORCH")
    };
    let kept = std::env::vars_os().filter(|(name, _)| ours(name));
    let own = job.environment.iter().filter(|(name, _)| std::env::var_os(name).is_none());
    let own = own.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let threads = thread_variables(job.threads).map(|(name, value)| (name.into(), value.into()));
    // Slurm says which GPUs a job may see; one without must not touch another's.
    let none = (!gpu).then(|| ("CUDA_VISIBLE_DEVICES".into(), OsString::new()));
    kept.chain(own).chain(threads).chain(none).collect()
}

/// The mask of new files, as the system writes it: `0022`.
fn umask() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|line| line.strip_prefix("Umask:")).map(str::trim);
    found.filter(|mask| mask.bytes().all(|b| (b'0'..=b'7').contains(&b))).unwrap_or("0022").to_owned()
}

impl Executor for Slurm {
    fn start(&self, stage: usize, job: &Job, gpu: Option<&str>, inbox: &Sender<Message>) -> Result<Box<dyn Process>> {
        let wish = Arc::new(Wish::default());
        let follower = Follower {
            profile: self.profile.clone(),
            queue: self.queue.clone(),
            stage,
            job: job.clone(),
            request: self.request(job, gpu.is_some())?,
            inbox: inbox.clone(),
            wish: wish.clone(),
            told: String::new(),
            progress: Progress::default(),
        };
        let inbox = inbox.clone();
        // Submitting waits for a controller that is away, and the scheduler must not.
        let follow = move || drop(inbox.send(Message::Ended(stage, follower.run())));
        std::thread::Builder::new()
            .name(format!("stage {}", job.name))
            .spawn(follow)
            .context("cannot start a thread")?;
        Ok(Box::new(SlurmProcess { wish }))
    }

    fn capacity(&self) -> Capacity {
        Capacity { processes: self.profile.jobs, cpus: self.profile.node.cpus.unwrap_or(usize::MAX) }
    }

    fn device(&self, gpus: Option<&str>, ranks: usize) -> String {
        let each = gpus.map_or("cpu", |_| "cuda");
        if ranks > 1 { format!("{ranks} x {each}") } else { each.to_owned() }
    }
}

/// A stage whose jobs are followed.
struct SlurmProcess {
    wish: Arc<Wish>,
}

impl Process for SlurmProcess {
    /// Where it runs is known once its job begins.
    fn id(&self) -> ProcessId {
        ProcessId { host: None, pid: 0 }
    }
    fn stop(&self) {
        self.wish.raise(Wish::STOP);
    }
    fn kill(&self) {
        self.wish.raise(Wish::KILL);
    }
}
