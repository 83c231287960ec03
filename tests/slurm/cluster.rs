//! A real cluster of Slurm on this machine: a controller and two nodes, as processes that end with the test, however it ends.
#![allow(dead_code, reason = "each test program uses a part of it")]

use super::common::{TestSpace, pid, signal};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Cluster {
    folder: tempfile::TempDir,
    controller: Option<Child>,
    nodes: Vec<Child>,
}

/// Whether this machine has Slurm. A test without it says so and is done.
pub fn is_installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps the daemons where only root looks.
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.push("/usr/sbin".into());
    let there = |program: &str| folders.iter().any(|folder| folder.join(program).is_file());
    let all = ["slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol"].into_iter().all(there);
    if !all {
        println!("skipped: Slurm is not installed here (Debian: slurm-wlm)");
    }
    all
}

/// Ports that nobody uses.
fn ports() -> [u16; 3] {
    let open = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    open.map(|listener| listener.local_addr().expect("an address").port())
}

fn daemon(program: &str, arguments: &[&str]) -> Child {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: one call of the system that takes no memory.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    command.spawn().unwrap_or_else(|e| panic!("{program}: {e}"))
}

impl Cluster {
    /// Starts it. `more` are further lines of its configuration.
    pub fn start(more: &str) -> Self {
        Self::of_nodes("", more)
    }

    /// Two nodes of two GPUs each, as far as Slurm knows: it looks no further than that a device's file is there.
    pub fn with_gpus() -> Self {
        Self::of_nodes("Gres=gpu:2", "GresTypes=gpu")
    }

    /// `node`: more of each node's line.
    fn of_nodes(node: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name).display().to_string();
        for name in ["state", "spool-n1", "spool-n2"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let run = |program: &str, argument: &str| {
            let ran = Command::new(program).arg(argument).output().expect("a program");
            String::from_utf8_lossy(&ran.stdout).trim().to_owned()
        };
        let (host, user, [controller, one, two]) = (run("hostname", "-s"), run("id", "-un"), ports());
        let text = format!(
            "ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmctldPort={controller}
StateSaveLocation={}
SlurmdSpoolDir={}
SlurmctldLogFile={}
SlurmdLogFile={}
SlurmctldPidFile={}
SlurmdPidFile={}
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
SlurmdParameters=config_overrides
KillWait=5
MessageTimeout=5
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={one} CPUs=4 RealMemory=4000 {node} State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={two} CPUs=4 RealMemory=4000 {node} State=UNKNOWN
PartitionName=p Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
{more}
",
            at("state"),
            at("spool-%n"),
            at("controller.log"),
            at("node-%n.log"),
            at("controller.pid"),
            at("node-%n.pid"),
        );
        std::fs::write(folder.path().join("slurm.conf"), text).expect("a configuration");
        std::fs::write(folder.path().join("gres.conf"), "NodeName=n[1-2] Name=gpu File=/dev/null,/dev/zero\n")
            .expect("a configuration");
        let mut cluster = Self { folder, controller: None, nodes: Vec::new() };
        cluster.start_controller();
        let conf = cluster.conf().display().to_string();
        cluster.nodes = ["n1", "n2"].map(|name| daemon("slurmd", &["-D", "-f", &conf, "-N", name])).into();
        let began = Instant::now();
        while cluster.ask("sinfo", &["-h", "-N", "-o", "%t"]).matches("idle").count() < 2 {
            assert!(began.elapsed() < Duration::from_secs(40), "no cluster:\n{}", cluster.logs());
            std::thread::sleep(Duration::from_millis(100));
        }
        cluster
    }

    fn conf(&self) -> PathBuf {
        self.folder.path().join("slurm.conf")
    }

    /// What its daemons wrote.
    pub fn logs(&self) -> String {
        let text = |name: &str| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        ["controller.log", "node-n1.log", "node-n2.log"].map(text).join("\n---\n")
    }

    pub fn start_controller(&mut self) {
        let conf = self.conf().display().to_string();
        self.controller = Some(daemon("slurmctld", &["-D", "-f", &conf]));
    }

    /// Ends the controller as an administrator does, who starts it again later: it writes down what it knows.
    pub fn stop_controller(&mut self) {
        let Some(mut controller) = self.controller.take() else { return };
        signal(pid(&controller), libc::SIGTERM);
        let began = Instant::now();
        while controller.try_wait().is_ok_and(|ended| ended.is_none()) && began.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(50));
        }
        end(Some(controller));
    }

    /// Runs a program of Slurm; its standard output.
    pub fn ask(&self, program: &str, arguments: &[&str]) -> String {
        let ran = Command::new(program).args(arguments).env("SLURM_CONF", self.conf()).output().expect("a program");
        String::from_utf8_lossy(&ran.stdout).into_owned()
    }

    /// The program, with this cluster.
    pub fn opdflow(&self, space: &TestSpace, arguments: &[&str]) -> Command {
        let mut command = space.command(arguments);
        command.env("SLURM_CONF", self.conf());
        command
    }

    /// Starts it and leaves it running.
    pub fn begin(&self, space: &TestSpace, arguments: &[&str]) -> Child {
        self.opdflow(space, arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts")
    }

    /// The jobs of all times: number, state, name.
    pub fn jobs(&self) -> Vec<(String, String, String)> {
        let text = self.ask("squeue", &["-h", "-a", "-t", "all", "-o", "%i %T %j"]);
        let job = |line: &str| {
            let mut words = line.split_whitespace().map(ToOwned::to_owned);
            Some((words.next()?, words.next()?, words.next()?))
        };
        let mut jobs: Vec<_> = text.lines().filter_map(job).collect();
        jobs.sort();
        jobs
    }
}

fn end(child: Option<Child>) {
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The processes of jobs are nobody's children here.
        if self.controller.is_some() {
            for (id, state, _) in self.jobs() {
                if matches!(state.as_str(), "RUNNING" | "PENDING" | "COMPLETING" | "CONFIGURING") {
                    self.ask("scancel", &["--full", "--signal=KILL", &id]);
                    self.ask("scancel", &[&id]);
                }
            }
            let began = Instant::now();
            while self.jobs().iter().any(|job| job.1 == "COMPLETING") && began.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        self.nodes.drain(..).for_each(|node| end(Some(node)));
        end(self.controller.take());
    }
}
