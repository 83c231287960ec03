//! The processes of one stage on this host, where it has several: started together, watched, and ended together.
//!
//! The process that starts them computes nothing. So it is never caught in a call that waits for another process, and sees at once which of
//! them ended first, and how.

use super::End;
use super::local::reap;
use anyhow::{Context as _, Result};
use opdflow_api::rank::{HALVE, HALVINGS, PARTED, VARIABLES};
use opdflow_api::{Event, EventSink, FaultClass, Job, STOPPED};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the others have to say why they ended too, before they are ended.
const GRACE: Duration = Duration::from_secs(3);

/// A micro-batch of more rows than this many halvings leave is none.
const MOST_HALVINGS: u32 = 20;

/// What is heard of a process.
enum Heard {
    /// What the one that leads says to the scheduler.
    Event(Event),
    /// That one of them failed, and how.
    Failed(usize, FaultClass, String),
    /// That all of its output is read, and how it ended.
    Ended(usize, End),
    /// That the stage should stop.
    Stop,
}

/// Runs `job` in `job.ranks` processes of the program `program`, each of which is given the job in `path`. Returns the exit code of the whole.
/// `events` go to the scheduler.
///
/// # Errors
/// A process cannot be started. Those that were are ended.
pub fn run_ranks(program: &Path, path: &Path, job: &Job, events: &EventSink) -> Result<i32> {
    let (sender, inbox) = channel();
    listen_to_signals(sender.clone())?;
    for halvings in 0..=MOST_HALVINGS {
        let mut attempt = Attempt::start(program, path, job, halvings, &sender)?;
        match attempt.follow(&inbox, events) {
            Some(code) => return Ok(code),
            None => attempt.end(&inbox),
        }
    }
    let message = "memory does not suffice for a single row".to_owned();
    events.send(&Event::Failed { class: FaultClass::OutOfMemory, message });
    Ok(FaultClass::OutOfMemory.exit_code())
}

fn listen_to_signals(sender: Sender<Heard>) -> Result<()> {
    let mut signals =
        signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGUSR1]).context("cannot listen to signals")?;
    let listen = move || signals.forever().for_each(|_| drop(sender.send(Heard::Stop)));
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen).context("cannot start a thread")?;
    Ok(())
}

/// The processes of one attempt.
struct Attempt {
    /// Their numbers, until the system may give them to others.
    ids: Vec<Arc<Mutex<Option<u32>>>>,
    /// How each ended, once it has.
    ends: Vec<Option<End>>,
}

impl Attempt {
    fn start(program: &Path, path: &Path, job: &Job, halvings: u32, sender: &Sender<Heard>) -> Result<Self> {
        let gpus = std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default();
        let gpus: Vec<&str> = gpus.split(',').map(str::trim).filter(|id| !id.is_empty()).collect();
        let nonce = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |t| t.as_nanos());
        let name = format!("{}x{nonce:x}x{halvings}", std::process::id());
        let mut attempt = Self { ids: Vec::new(), ends: vec![None; job.ranks] };
        for rank in 0..job.ranks {
            let mut command = Command::new(program);
            command.arg0("opdflow").arg("__stage").arg(path).stdin(Stdio::null()).stdout(Stdio::piped());
            if rank > 0 {
                command.stderr(Stdio::piped());
            }
            let values = [rank.to_string(), job.ranks.to_string(), name.clone()];
            command.envs(VARIABLES.into_iter().zip(values)).env(HALVINGS, halvings.to_string());
            if !gpus.is_empty() {
                command.env("CUDA_VISIBLE_DEVICES", gpus[rank % gpus.len()]);
            }
            // SAFETY: between fork and exec only a system call is made, which takes no memory.
            unsafe {
                command.pre_exec(|| {
                    // They end with this process, however it ends.
                    if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0 {
                        return Ok(());
                    }
                    Err(std::io::Error::last_os_error())
                });
            }
            let started = command.spawn().context("cannot start a process of the stage");
            match started.and_then(|child| attempt.watch(rank, child, sender.clone())) {
                Ok(()) => {}
                Err(error) => {
                    attempt.kill();
                    return Err(error);
                }
            }
        }
        Ok(attempt)
    }

    /// Reads what a process says, each stream in a thread of its own, and its end.
    fn watch(&mut self, rank: usize, mut child: Child, sender: Sender<Heard>) -> Result<()> {
        let alive = Arc::new(Mutex::new(Some(child.id())));
        self.ids.push(alive.clone());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let log = stderr.map(|stderr| {
            move || {
                for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                    let words = String::from_utf8_lossy(&line).into_owned();
                    let _ = writeln!(std::io::stderr(), "[rank {rank}] {words}");
                }
            }
        });
        let log = log.map(|log| std::thread::Builder::new().name(format!("log {rank}")).spawn(log)).transpose();
        let log = log.context("cannot start a thread")?;
        let listen = move || {
            for line in stdout.into_iter().flat_map(|out| BufReader::new(out).split(b'\n')).map_while(Result::ok) {
                // What is no event is a stray print.
                let heard = match serde_json::from_slice(&line) {
                    Ok(Event::Failed { class, message }) => Heard::Failed(rank, class, message),
                    Ok(event) if rank == 0 => Heard::Event(event),
                    _ => continue,
                };
                let _ = sender.send(heard);
            }
            log.map(std::thread::JoinHandle::join);
            let _ = sender.send(Heard::Ended(rank, reap(child, &alive)));
        };
        std::thread::Builder::new().name(format!("rank {rank}")).spawn(listen).context("cannot start a thread")?;
        Ok(())
    }

    /// Hears of the processes until the stage has ended; gives its exit code, or nothing where it should begin anew.
    fn follow(&mut self, inbox: &Receiver<Heard>, events: &EventSink) -> Option<i32> {
        let mut failures: Vec<(usize, FaultClass, String)> = Vec::new();
        // The first process that ended as it should not, and since when its end is known.
        let mut fallen: Option<(usize, Instant)> = None;
        loop {
            let wait = fallen.map_or(Duration::from_secs(3600), |(_, since)| GRACE.saturating_sub(since.elapsed()));
            match inbox.recv_timeout(wait) {
                Ok(Heard::Event(event)) => events.send(&event),
                Ok(Heard::Failed(rank, class, message)) => failures.push((rank, class, message)),
                Ok(Heard::Stop) => self.ids.iter().take(1).for_each(|id| signal(id, SIGTERM)),
                Ok(Heard::Ended(rank, end)) => {
                    self.ends[rank] = Some(end.clone());
                    match end {
                        End::Code(HALVE) => return None,
                        // The work is done, or kept: the others have nothing to add.
                        End::Code(code) if rank == 0 && (code == 0 || code == i32::from(STOPPED)) => {
                            self.end(inbox);
                            return Some(code);
                        }
                        End::Code(0) => {}
                        _ => drop(fallen.get_or_insert((rank, Instant::now()))),
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Some(FaultClass::Bug.exit_code()),
            }
            let all = self.ends.iter().all(Option::is_some);
            if let Some((first, since)) = fallen
                && (all || since.elapsed() >= GRACE)
            {
                // Before they are all ended by us.
                let (class, message) = cause(first, &self.ends, &failures);
                self.end(inbox);
                let _ = writeln!(std::io::stderr(), "failed: {}", opdflow_io::terminal::message(&message));
                events.send(&Event::Failed { class, message });
                return Some(class.exit_code());
            }
        }
    }

    /// Ends what still runs, and hears of its end.
    fn end(&mut self, inbox: &Receiver<Heard>) {
        self.kill();
        while self.ends.iter().any(Option::is_none) {
            if let Ok(Heard::Ended(rank, end)) = inbox.recv() {
                self.ends[rank] = Some(end);
            }
        }
    }

    fn kill(&self) {
        self.ids.iter().for_each(|id| signal(id, libc::SIGKILL));
    }
}

fn signal(id: &Mutex<Option<u32>>, signal: i32) {
    let alive = id.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(id) = alive.and_then(|id| i32::try_from(id).ok()) {
        // SAFETY: no memory is involved; the lock keeps the number ours.
        unsafe { libc::kill(id, signal) };
    }
}

/// What brought a stage down: what a process says that did not merely lose the others; else that one was killed; else what is said first.
fn cause(first: usize, ends: &[Option<End>], failures: &[(usize, FaultClass, String)]) -> (FaultClass, String) {
    let world = ends.len();
    let named = |rank: usize, words: &str| format!("process {rank} of {world}: {words}");
    let own = failures.iter().find(|(_, _, message)| !message.contains(PARTED));
    if let Some((rank, class, message)) = own {
        return (*class, named(*rank, message));
    }
    let killed = ends.iter().enumerate().find_map(|(rank, end)| match end {
        Some(End::Signal(signal)) => Some((rank, signal)),
        _ => None,
    });
    if let Some((rank, signal)) = killed {
        return (FaultClass::Machine, named(rank, &format!("it was ended by signal {signal}")));
    }
    if let Some((rank, class, message)) = failures.first() {
        let help = "help: a process that is slower than the others by more than the deadline counts as lost: `resources: {deadline: SECONDS}`";
        return (*class, format!("{}\n{help}", named(*rank, message)));
    }
    let how = match ends.get(first) {
        Some(Some(End::Code(code))) => format!("it ended with code {code} and said nothing"),
        _ => "it ended, and said nothing".to_owned(),
    };
    (FaultClass::Machine, named(first, &how))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// How a stage of `ranks` processes ends whose process is this script, and what the scheduler hears.
    fn run(ranks: usize, script: &str) -> (i32, Vec<Event>, Duration) {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("stage");
        std::fs::write(&program, format!("#!/bin/sh\ncd {}\n{script}\n", folder.path().display())).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        let job = serde_json::json!({
            "name": "s", "kind": "s", "params": {}, "inputs": {}, "seed": 0, "key": "0".repeat(64), "lineage": "0".repeat(64),
            "manifest": {}, "threads": 1, "ranks": ranks, "device": "cpu", "folder": "/", "store": "/", "checkpoint_seconds": 60.0,
            "force": false,
        });
        let job: Job = serde_json::from_value(job).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let sink = heard.clone();
        let events = EventSink::new(move |event| sink.lock().unwrap().push(event.clone()));
        let began = Instant::now();
        let code = run_ranks(&program, Path::new("job"), &job, &events).unwrap();
        let heard = heard.lock().unwrap().clone();
        (code, heard, began.elapsed())
    }

    fn failure(events: &[Event]) -> (FaultClass, &str) {
        let failures: Vec<_> = events
            .iter()
            .filter_map(
                |e| if let Event::Failed { class, message } = e { Some((*class, message.as_str())) } else { None },
            )
            .collect();
        assert_eq!(failures.len(), 1, "{events:?}");
        failures[0]
    }

    const SAYS: &str = r#"says() { printf '{"event":"failed","class":"%s","message":"%s"}\n' "$1" "$2"; }"#;

    #[test]
    fn the_first_one_s_events_and_end_are_the_stage_s() {
        let said = r#"[ "$OPDFLOW_WORLD" = 3 ] && [ "$1" = __stage ] && [ "$2" = job ] || exit 9
            printf '{"event":"said","text":"%s"}\n' "$OPDFLOW_RANK"; echo no event; [ "$OPDFLOW_RANK" = 0 ] || exec sleep 60"#;
        let (code, events, took) = run(3, said);
        assert_eq!((code, events), (0, vec![Event::Said { text: "0".into() }]));
        assert!(took < Duration::from_secs(30), "those that follow end with the first one: {took:?}");
        assert_eq!(run(2, r#"[ "$OPDFLOW_RANK" = 0 ] && exit 75; exec sleep 60"#).0, 75);
    }

    #[test]
    fn what_one_says_of_its_end_is_the_cause_and_not_that_others_lost_it() {
        let script = format!(
            "{SAYS}\nif [ $OPDFLOW_RANK = 1 ]; then sleep 0.3; says not_finite 'the loss is NaN'; exit 66; fi\n\
             says machine '{PARTED}: connection closed'; exit 74"
        );
        let (code, events, _) = run(3, &script);
        assert_eq!(failure(&events), (FaultClass::NotFinite, "process 1 of 3: the loss is NaN"));
        assert_eq!(code, 66);
    }

    #[test]
    fn one_that_is_killed_is_named_and_the_others_are_ended_soon() {
        let script = format!(
            "{SAYS}\nif [ $OPDFLOW_RANK = 2 ]; then kill -9 $$; fi\n\
             if [ $OPDFLOW_RANK = 0 ]; then says machine '{PARTED}: connection closed'; exit 74; fi\nexec sleep 60"
        );
        let (code, events, took) = run(3, &script);
        assert_eq!(failure(&events), (FaultClass::Machine, "process 2 of 3: it was ended by signal 9"));
        assert_eq!(code, 74);
        assert!(took < Duration::from_secs(10), "{took:?}");
    }

    #[test]
    fn the_deadline_is_named_where_nothing_else_explains_it() {
        let script =
            format!("{SAYS}\nsays machine '{PARTED}: timed out'; [ $OPDFLOW_RANK = 1 ] && exec sleep 60; exit 74");
        let (_, events, _) = run(2, &script);
        let (class, message) = failure(&events);
        assert_eq!(class, FaultClass::Machine);
        assert!(message.contains("timed out") && message.contains("resources: {deadline: SECONDS}"), "{message}");
        let (_, events, _) = run(2, "[ $OPDFLOW_RANK = 1 ] && exit 3; exec sleep 60");
        assert_eq!(failure(&events).1, "process 1 of 2: it ended with code 3 and said nothing");
    }

    #[test]
    fn all_begin_anew_with_half_the_micro_batch_where_memory_ran_out_in_one() {
        let script = r#"if [ $OPDFLOW_RANK = 1 ] && [ $OPDFLOW_HALVINGS -lt 2 ]; then exit 79; fi
            if [ $OPDFLOW_RANK = 0 ] && [ $OPDFLOW_HALVINGS -lt 2 ]; then exec sleep 60; fi
            printf '{"event":"said","text":"%s"}\n' $OPDFLOW_HALVINGS"#;
        let (code, events, _) = run(2, script);
        assert_eq!((code, events), (0, vec![Event::Said { text: "2".into() }]));
        let (code, events, _) = run(2, "exit 79");
        assert_eq!(
            (code, failure(&events)),
            (71, (FaultClass::OutOfMemory, "memory does not suffice for a single row"))
        );
    }
}
