//! One stage on the cluster, from its first job to its end: a thread that finds or submits its job, passes on what it says, and
//! submits another one where Slurm ended it before its time.

use super::ask::{self, Past, Queued, Silence, State, Submitted};
use super::judge::{Evidence, Outcome, Verdict, Why, judge};
use super::lines::{Ends, Line, Reading};
use super::profile::Profile;
use super::queue::{Look, Queue};
use super::script::{Request, ending, events, wish};
use crate::exec::{End, JobNews, Message};
use opdflow_api::cache::Store;
use opdflow_api::rank::PARTED;
use opdflow_api::{Event, FaultClass, Job, STOPPED};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// How often the file of a job is read.
const TICK: Duration = Duration::from_millis(500);

/// How long to wait between two tries to pass on that a job shall stop.
const INSIST: Duration = Duration::from_secs(5);

/// How often a job may lose its node in a row without a checkpoint in between.
const NODES: u32 = 5;

/// What the run wants of the stage.
#[derive(Debug, Default)]
pub(super) struct Wish(AtomicU8);

impl Wish {
    pub(super) const STOP: u8 = 1;
    pub(super) const KILL: u8 = 2;

    pub(super) fn raise(&self, to: u8) {
        self.0.fetch_max(to, Ordering::SeqCst);
    }
    fn is(&self, what: u8) -> bool {
        self.0.load(Ordering::SeqCst) >= what
    }
}

/// One stage.
pub(super) struct Follower {
    pub(super) profile: Arc<Profile>,
    pub(super) queue: Arc<Queue>,
    pub(super) stage: usize,
    pub(super) job: Job,
    pub(super) request: Request,
    pub(super) inbox: Sender<Message>,
    pub(super) wish: Arc<Wish>,
    pub(super) told: String,
    pub(super) progress: Progress,
}

/// How far its jobs have come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The highest step that is saved.
    saved: Option<u64>,
    /// That step when the last job ended by its time limit, if that was the last thing that happened.
    at_limit: Option<Option<u64>>,
    /// Nodes that failed since that step.
    nodes: u32,
}

impl Progress {
    fn hear(&mut self, event: &Event) {
        if let Event::Checkpointed { step } | Event::Stopped { step, .. } | Event::Started { step } = event
            && *step > 0
            && self.saved.is_none_or(|saved| saved < *step)
        {
            (self.saved, self.nodes) = (Some(*step), 0);
        }
    }

    /// Notes why another job is needed; what is wrong if one more would be of no use.
    fn again(&mut self, why: Why) -> Result<(), &'static str> {
        match why {
            Why::Limit => {
                let before = self.at_limit.replace(self.saved);
                if before == Some(self.saved) { Err("limit") } else { Ok(()) }
            }
            Why::Asked => {
                self.at_limit = None;
                Ok(())
            }
            Why::Node => {
                self.at_limit = None;
                self.nodes += 1;
                if self.nodes > NODES { Err("node") } else { Ok(()) }
            }
        }
    }
}

/// A job of the stage, as far as it was followed.
struct Followed {
    id: u64,
    files: PathBuf,
    reading: Reading,
    /// What the queue says counts if it was asked after this moment.
    since: Instant,
    begun: bool,
    /// One of its processes has said why it failed.
    failed: bool,
    ends: Option<Ends>,
    past: Option<Past>,
    looked_up: Option<Instant>,
    gone: Option<Instant>,
    insisted: Option<Instant>,
}

impl Followed {
    fn new(id: u64, files: PathBuf, since: Instant) -> Self {
        let reading = Reading::of(events(&files, id));
        let (begun, ends, past, looked_up, gone, insisted) = (false, None, None, None, None, None);
        Self { id, files, reading, since, begun, failed: false, ends, past, looked_up, gone, insisted }
    }
}

/// What comes after a job.
enum Next {
    Over(End),
    Again,
}

impl Follower {
    /// Follows the stage to its end.
    pub(super) fn run(mut self) -> End {
        loop {
            let job = match self.place() {
                Ok(job) => job,
                Err(end) => return end,
            };
            if let Next::Over(end) = self.follow(job) {
                return end;
            }
        }
    }

    fn tell(&mut self, job: Option<u64>, host: Option<&str>, text: &str) {
        let whole = format!("{job:?} {text}");
        if self.told != whole {
            let job = job.map_or_else(String::new, |id| id.to_string());
            let news = JobNews { job, host: host.map(ToOwned::to_owned), text: text.to_owned() };
            // A run that is gone needs to know nothing.
            let _ = self.inbox.send(Message::Job(self.stage, news));
            self.told = whole;
        }
    }

    /// Waits, but not once the run wants something else than before.
    fn pause(&self, time: Duration) {
        let (began, killed, stopped) = (Instant::now(), self.wish.is(Wish::KILL), self.wish.is(Wish::STOP));
        while began.elapsed() < time && killed == self.wish.is(Wish::KILL) && stopped == self.wish.is(Wish::STOP) {
            std::thread::sleep(TICK.min(time));
        }
    }

    /// The job that works on the stage already, of this run or of an earlier one, or else a new one.
    fn place(&mut self) -> Result<Followed, End> {
        loop {
            let moment = Instant::now();
            let found = loop {
                match self.queue.named(&self.request.name, moment) {
                    Some(found) => break found,
                    None => std::thread::sleep(Duration::from_millis(100)),
                }
            };
            let wanted = !self.wish.is(Wish::STOP);
            match found {
                Err(Silence::NoProgram(why)) => return Err(no_slurm(&why)),
                Err(silence) if wanted => self.wait_for_slurm(&silence.to_string()),
                // What was submitted without an answer cannot be taken back without one; it would find the result, or leave it.
                Err(_) => return Err(End::Code(i32::from(STOPPED))),
                Ok(jobs) => match jobs.into_iter().find(|job| self.is_same_work(&job.files)) {
                    Some(job) => return Ok(self.adopt(&job, moment)),
                    None if wanted => {
                        if let Some(id) = self.submit()? {
                            return Ok(Followed::new(id, self.request.files.clone(), Instant::now()));
                        }
                    }
                    None => return Err(End::Code(i32::from(STOPPED))),
                },
            }
        }
    }

    fn wait_for_slurm(&mut self, why: &str) {
        self.tell(None, None, &format!("Slurm gives no answer, waiting ({why})"));
        self.pause(self.profile.poll);
    }

    /// Whether the job with these files computes the same into the same store.
    fn is_same_work(&self, files: &Path) -> bool {
        if files == self.request.files {
            return true;
        }
        let Ok(text) = opdflow_io::file::read(&ending(files, "json"), 256 << 20) else { return false };
        let Ok(other) = serde_json::from_slice::<Job>(&text) else { return false };
        let place = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        (other.key, other.lineage, other.force) == (self.job.key, self.job.lineage, self.job.force)
            && place(&other.store) == place(&self.job.store)
    }

    fn adopt(&mut self, job: &Queued, moment: Instant) -> Followed {
        if job.files != self.request.files {
            self.tell(Some(job.id), None, "an earlier run submitted it; this run goes on with it");
            // What it writes is shown as that of this run.
            let log = ending(&job.files, "json").file_stem().map(|name| {
                let folder = job.files.parent().and_then(Path::parent).unwrap_or(Path::new(""));
                folder.join("logs").join(name).with_added_extension("log")
            });
            if let Some(log) = log {
                let _ = std::os::unix::fs::symlink(log, &self.request.log);
            }
        }
        Followed::new(job.id, job.files.clone(), moment)
    }

    /// Submits a job. Nothing if that must be tried again.
    fn submit(&mut self) -> Result<Option<u64>, End> {
        let path = self.request.script_path();
        if let Err(e) = std::fs::write(&path, self.request.script(&self.profile)) {
            return Err(End::Failed(FaultClass::Machine, format!("cannot write {}: {e}", path.display())));
        }
        match ask::submit(&self.request.options(&self.profile)) {
            Submitted::As(id) => {
                self.tell(Some(id), None, "submitted");
                return Ok(Some(id));
            }
            Submitted::NoProgram(why) => return Err(no_slurm(&why)),
            Submitted::Refused(why) => {
                let help = format!(
                    "{} says what jobs are asked for; `sinfo` shows the partitions, `sacctmgr show assoc user=$USER` the accounts",
                    self.profile.path.display()
                );
                return Err(End::Failed(FaultClass::User, format!("Slurm refuses its job: {why}\nhelp: {help}")));
            }
            Submitted::Away(why) => self.wait_for_slurm(&why),
            Submitted::Full(why) => {
                self.tell(None, None, &format!("Slurm takes no more jobs for now, waiting ({why})"));
                self.pause(self.profile.poll);
            }
        }
        Ok(None)
    }

    fn follow(&mut self, mut job: Followed) -> Next {
        loop {
            for line in job.reading.news() {
                self.hear(&mut job, line);
            }
            if self.wish.is(Wish::KILL) {
                return Next::Over(self.kill(&job));
            }
            let look = self.queue.look(job.id, &self.request.name, job.since);
            self.describe(&job, &look);
            match (&look, look.seen()) {
                (Look::At(Some(queued)), _) if queued.state.lives() => job.gone = None,
                (Look::At(_), _) => drop(job.gone.get_or_insert_with(Instant::now)),
                _ => {}
            }
            self.pass_on_stop(&mut job, &look);
            let quiet = job.gone.map_or(Duration::ZERO, |since| since.elapsed());
            let evidence = Evidence {
                result: job.gone.is_some() && job.ends.is_none() && self.has_result(),
                begun: job.begun,
                ends: job.ends.as_ref(),
                queue: look.seen(),
                past: job.past.as_ref(),
                quiet,
                late: self.profile.late,
                asked: self.wish.is(Wish::STOP),
            };
            match judge(&evidence) {
                Verdict::Wait => self.pause(TICK),
                Verdict::LookUp => {
                    if job.looked_up.is_none_or(|at| at.elapsed() >= self.profile.poll) {
                        job.past = ask::past(job.id, &self.request.name);
                        job.looked_up = Some(Instant::now());
                    }
                    self.pause(TICK);
                }
                Verdict::Again(why) => return self.again(job.id, why),
                Verdict::Over(outcome) => return Next::Over(self.over(job.id, outcome)),
            }
        }
    }

    fn hear(&mut self, job: &mut Followed, line: Line) {
        match line {
            // Of several processes those that lost the others say so too, before or after the one that has the cause.
            Line::Event(Event::Failed { message, .. }) if job.failed && message.contains(PARTED) => {}
            Line::Event(event) => {
                job.failed |= matches!(event, Event::Failed { .. });
                self.progress.hear(&event);
                let _ = self.inbox.send(Message::Event(self.stage, event));
            }
            Line::Begins(begins) => {
                (job.begun, job.ends, job.past, job.gone) = (true, None, None, None);
                job.failed = false;
                // What the queue said before is over.
                job.since = Instant::now();
                self.tell(Some(job.id), Some(&begins.host), &format!("runs on {}", begins.host));
            }
            Line::Ends(ends) => {
                job.ends = Some(ends);
                job.since = Instant::now();
            }
        }
    }

    /// Says where the job stands, when that changes.
    fn describe(&mut self, job: &Followed, look: &Look) {
        match look {
            Look::Silent(why) => self.tell(Some(job.id), None, &format!("Slurm gives no answer, waiting ({why})")),
            Look::At(Some(queued)) => match queued.state {
                State::Waiting => {
                    // These change with every look, and mean no more than that it is not its turn.
                    let usual = ["None", "Priority", "Resources", "BeginTime", "Cleaning", ""];
                    let (id, reason) = (job.id, queued.reason.as_str());
                    let text = match () {
                        () if usual.contains(&reason) => "waits in the queue".to_owned(),
                        () if reason.to_lowercase().contains("held") => {
                            format!("is held in the queue ({reason}): `scontrol release {id}` lets it go on")
                        }
                        () => format!("waits in the queue ({reason})"),
                    };
                    self.tell(Some(job.id), None, &text);
                }
                State::Running if queued.word == "SUSPENDED" => self.tell(Some(job.id), None, "is suspended"),
                State::Running if job.begun && job.ends.is_none() && self.told.contains("gives no answer") => {
                    self.tell(Some(job.id), None, "Slurm answers again; it goes on");
                }
                _ => {}
            },
            Look::NotYet | Look::At(None) => {}
        }
    }

    /// Passes on that the stage shall stop: by a file, which needs no Slurm, and by a signal, which is quicker.
    fn pass_on_stop(&self, job: &mut Followed, look: &Look) {
        if !self.wish.is(Wish::STOP) || job.insisted.is_some_and(|at| at.elapsed() < INSIST) {
            return;
        }
        let first = job.insisted.replace(Instant::now()).is_none();
        if first {
            let _ = std::fs::write(wish(&job.files, job.id), "");
        }
        match look.seen() {
            super::judge::Seen::At(State::Running) if !first => {}
            super::judge::Seen::At(state) if !state.lives() => {}
            _ => {
                // Of two starts of one job the next must not come.
                ask::withdraw(job.id);
                if job.ends.is_none() {
                    ask::signal(job.id);
                }
            }
        }
    }

    fn kill(&mut self, job: &Followed) -> End {
        let _ = std::fs::write(wish(&job.files, job.id), "");
        if !ask::kill(job.id) && job.ends.is_none() {
            let text = format!("could not be cancelled; it stops at its next checkpoint, or by `scancel {}`", job.id);
            self.tell(Some(job.id), None, &text);
        }
        End::Signal(libc::SIGKILL)
    }

    fn again(&mut self, id: u64, why: Why) -> Next {
        if self.wish.is(Wish::STOP) {
            return Next::Over(End::Code(i32::from(STOPPED)));
        }
        let saved = self.progress.saved;
        if let Err(what) = self.progress.again(why) {
            let at = saved
                .map_or_else(|| "before its first checkpoint".to_owned(), |s| format!("at the checkpoint of step {s}"));
            let end = match what {
                "limit" => {
                    let path = self.profile.path.display();
                    let message = format!(
                        "two of its jobs in a row ended by their time limit {at}: another would come no further\nhelp: raise `time` in {path}, for this kind of stage under `kinds`, or save checkpoints more often (`--checkpoint-seconds`)"
                    );
                    End::Failed(FaultClass::User, message)
                }
                _ => End::Unknown(format!("its node failed more than {NODES} times in a row {at}")),
            };
            return Next::Over(end);
        }
        let why = match why {
            Why::Limit => "its time was nearly up",
            Why::Asked => "it had to give way",
            Why::Node => "its node failed",
        };
        let from = saved.map_or_else(|| "from the start".to_owned(), |s| format!("from the checkpoint of step {s}"));
        self.tell(Some(id), None, &format!("{why}; another job goes on {from}"));
        Next::Again
    }

    fn over(&mut self, id: u64, outcome: Outcome) -> End {
        match outcome {
            Outcome::Cancelled => {
                self.tell(Some(id), None, "was cancelled; the same command goes on from its checkpoint");
                End::Code(i32::from(STOPPED))
            }
            Outcome::As(end) => {
                if end == End::Code(0) {
                    self.wait_for_result();
                }
                end
            }
        }
    }

    /// Whether the store has the result. Of one that is computed once more it had it before.
    fn has_result(&self) -> bool {
        let there = || Store::reopen(&self.job.store).ok()?.action(&self.job.key).ok()?;
        !self.job.force && there().is_some()
    }

    /// The job ended well: its record is there, and a file system may show it late.
    fn wait_for_result(&self) {
        let began = Instant::now();
        while !self.job.force && !self.has_result() && began.elapsed() < self.profile.late && !self.wish.is(Wish::KILL)
        {
            std::thread::sleep(TICK);
        }
    }
}

fn no_slurm(why: &str) -> End {
    End::Failed(FaultClass::Machine, format!("{why}\nhelp: `--on slurm` is for a login node of a cluster with Slurm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_jobs_that_come_no_further_are_enough() {
        let mut progress = Progress::default();
        assert!(progress.again(Why::Limit).is_ok(), "the first may have begun late");
        progress.hear(&Event::Checkpointed { step: 5 });
        assert!(progress.again(Why::Limit).is_ok());
        progress.hear(&Event::Started { step: 5 });
        progress.hear(&Event::Stopped { step: 5, why: None });
        assert_eq!(progress.again(Why::Limit), Err("limit"));
    }

    #[test]
    fn giving_way_is_never_too_often_and_nodes_fail_a_few_times() {
        let mut progress = Progress::default();
        assert!((0..100).all(|_| progress.again(Why::Asked).is_ok()));
        assert!(
            progress.again(Why::Limit).is_ok()
                && progress.again(Why::Asked).is_ok()
                && progress.again(Why::Limit).is_ok()
        );
        assert_eq!((0..10).take_while(|_| progress.again(Why::Node).is_ok()).count(), 5);
        progress.hear(&Event::Checkpointed { step: 1 });
        assert!(progress.again(Why::Node).is_ok());
    }
}
