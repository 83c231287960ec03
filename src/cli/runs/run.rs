//! `opdflow run`.

use crate::cli::room::{slots, too_large};
use crate::cli::{Exit, Failure, Session, args, on};
use crate::exec::slurm::Slurm;
use crate::exec::{Executor, Local, Message};
use crate::plan::history::History;
use crate::plan::{Plan, Verdict, verdicts};
use crate::recipe::Recipe;
use crate::render::{self, Mode, Render};
use crate::report::{Copied, Standing, Summary, copy_finals};
use crate::runlog::{self, FORMAT, RunEvent, RunFolder, RunLog, RunStarted, StageLine};
use crate::sched::{self, Ended, Ending, Order, Slots};
use crate::tracker::Live;
use anyhow::Context as _;
use opdflow_api::Doubt;
use opdflow_api::cache::{Digest, Store, StoreLock};
use opdflow_api::warning::gather;
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

pub(crate) fn run(session: &Session, args: &args::Run) -> Result<Exit, Failure> {
    let began = Instant::now();
    let profile = args.on.as_ref().map(|cluster| on::profile(session, &args.recipe, cluster)).transpose()?;
    let gpu = profile.as_ref().map_or(session.facts.gpu, |profile| profile.node.gpus > 0);
    let plan = session.survey_for(&args.recipe, gpu)?;
    let choice = choice(session, &plan, args)?;
    plan.whole(&choice.stages())?;
    let mut doubts = plan.doubts();
    // Nobody is warned of what is not asked for.
    doubts.iter_mut().zip(&choice.wanted).filter(|(_, wanted)| !**wanted).for_each(|(own, _)| own.clear());
    let slots = profile.as_ref().map_or_else(|| slots(&plan, args.slots), on::slots);
    let large = too_large(&plan, &slots).into_iter().filter(|(i, _)| choice.wanted[*i]);
    let large: Vec<_> = large.map(|(_, found)| found).collect();
    if args.strict {
        session.warned(&plan, &doubts, large.clone(), true)?;
    }
    session.show(&plan.recipe.diagnostics(plan.recipe.warnings.iter().cloned().chain(large).collect()));
    let wanted = choice.wanted.clone();
    let store = session.open()?;
    // As long as this lives, nobody sweeps up what this run counts on.
    let in_use = store.shared()?;
    plan.equipped(&choice.stages(), &choice.forced, &store)?;
    startable(session, &plan, &choice, &store, profile.is_some())?;

    let (folder, trouble) = open_folder(&plan, &session.overrides.files, &args.run_dir, profile.is_some())?;
    let mut view = View::new(session, args, &folder);
    view.tell(&first_event(&plan, &wanted, &slots, &store, &in_use));
    for text in trouble {
        view.tell(&RunEvent::Warned { text });
    }

    tell_doubts(&plan, &doubts, &mut view);

    let executor: Box<dyn Executor> = match profile {
        None => Box::new(Local::new(folder.clone(), session.workers.names())),
        Some(profile) => Box::new(Slurm::new(&folder, session.workers.names(), profile)?),
    };
    let ended = dispatch(&plan, &store, (executor.as_ref(), &folder), slots, choice, doubts, &mut view)
        .map_err(|e| Failure::from(e).help(&format!("what happened is in {}", folder.path().display())))?;
    let copies = copies(&plan, &wanted, &store, &folder, &ended, &mut view);
    let seconds = began.elapsed().as_secs_f64();
    view.finish(&RunEvent::RunEnded { ok: ended.ending == Ending::Complete, seconds });
    hand_over(session, &view.summary, &folder, ended.ending, &copies);
    if ended.ending == Ending::Complete && !session.quiet {
        again(&plan, &view.summary).into_iter().for_each(|text| session.note(&text));
    }
    Ok(match ended.ending {
        Ending::Complete => Exit::Done,
        Ending::Failed if view.summary.by_machine() => Exit::MachineFailed,
        Ending::Failed => Exit::StageFailed,
        Ending::Stopped => Exit::Stopped,
        Ending::Killed => Exit::Interrupted,
    })
}

/// Fails if a stage is sure to start that another program runs, and that program is missing. A run of hits does without it.
/// So does one without Slurm's programs, if stages are to run there.
fn startable(session: &Session, plan: &Plan, choice: &Choice, store: &Store, slurm: bool) -> Result<(), Failure> {
    let queue = if slurm { Slurm::is_there() } else { Ok(()) };
    let (Err(fault), lacks_queue) = (queue.clone().and(Local::is_whole()), queue.is_err()) else { return Ok(()) };
    let verdicts = verdicts(plan, store);
    let starts = |i: &usize| choice.forced[*i] || matches!(verdicts[*i].0, Verdict::Run | Verdict::Resume { .. });
    let kind = |i: usize| plan.stages[i].spec.kind.describe().kind;
    let cannot = |i: &usize| lacks_queue || session.workers.get(kind(*i)).is_none();
    let other = choice.stages().into_iter().filter(starts).find(cannot);
    match other {
        None => Ok(()),
        Some(i) => {
            let what = format!("the stage `{}` cannot run", plan.stages[i].spec.name);
            Err(anyhow::Error::from(fault).context(what).into())
        }
    }
}

/// What of the plan is to be run, and how.
struct Choice {
    wanted: Vec<bool>,
    forced: Vec<bool>,
    keep_going: bool,
    strict: bool,
    checkpoint_seconds: f64,
}

impl Choice {
    /// The places of the stages that are to be run.
    fn stages(&self) -> Vec<usize> {
        self.wanted.iter().enumerate().filter_map(|(i, wanted)| wanted.then_some(i)).collect()
    }
}

fn choice(session: &Session, plan: &Plan, args: &args::Run) -> Result<Choice, Failure> {
    let find = |names: &[String]| {
        names.iter().map(|n| session.stages(plan, n)).collect::<Result<Vec<_>, _>>().map(|all| all.concat())
    };
    // A lock says what it is for.
    let until = plan.recipe.locked.as_ref().filter(|_| args.until.is_empty()).map_or(&args.until, |l| &l.lock.stages);
    let (until, forced) = (find(until)?, find(&args.force)?);
    let all = 0..plan.stages.len();
    let targets = if until.is_empty() { all.clone().collect() } else { until };
    let needed = plan.needed(&targets);
    let wanted = all.clone().map(|i| needed.contains(&i)).collect::<Vec<_>>();
    if let Some(idle) = forced.iter().find(|i| !wanted[**i]) {
        let name = &plan.stages[*idle].spec.name;
        return Err(Failure::Usage(format!(
            "`--force {name}`, but `--until` leaves `{name}` out\nhelp: add `--until {name}`"
        )));
    }
    let forced = all.map(|i| forced.contains(&i)).collect();
    let (keep_going, strict, checkpoint_seconds) = (!args.fail_fast, args.strict, args.checkpoint_seconds);
    Ok(Choice { wanted, forced, keep_going, strict, checkpoint_seconds })
}

/// The folder of the run, and what the user should know of it. Records that cannot be kept are no reason not to run.
/// Unless jobs of a cluster are to find them there.
fn open_folder(
    plan: &Plan,
    vars: &[PathBuf],
    run_dir: &Path,
    cluster: bool,
) -> Result<(RunFolder, Vec<String>), Failure> {
    let mut trouble = Vec::new();
    let folder = match RunFolder::create(&RunFolder::home(run_dir), &plan.recipe.name) {
        Ok(folder) => folder,
        Err(error) if cluster => {
            let help = "jobs read and write there: begin in a folder that all nodes see, or name one with `--run-dir`";
            return Err(Failure::from(error).help(help));
        }
        Err(error) => {
            let folder = RunFolder::temporary(&plan.recipe.name)?;
            trouble.push(format!("{error:#}; this run is recorded in {} instead", folder.path().display()));
            folder
        }
    };
    let own = plan.recipe.path.parent().unwrap_or(Path::new(""));
    // A lock holds all files itself.
    let files = if plan.recipe.locked.is_some() { 1 } else { usize::MAX };
    for (i, (path, text)) in plan.recipe.sources.files().take(files).enumerate() {
        let text = if i == 0 { own_text(&plan.recipe).unwrap_or(text) } else { text };
        // An included recipe lies where the copy of the recipe looks for it, unless that is outside of the run's folder.
        let inside = |p: &&Path| p.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        let below = path.strip_prefix(own).ok().filter(inside).map(|below| folder.path().join(below));
        let copy = match (i, below) {
            (0, _) => folder.path().join("recipe.yaml"),
            (_, Some(below)) if !below.exists() => below,
            _ => folder.path().join(format!("included-{i}.yaml")),
        };
        let made = copy.parent().map_or(Ok(()), std::fs::create_dir_all);
        if let Err(error) = made.and_then(|()| keep(&copy, text)) {
            trouble.push(format!("cannot keep a copy of {}: {error}", path.display()));
        }
    }
    for (i, path) in vars.iter().enumerate() {
        if let Err(error) = std::fs::copy(path, folder.path().join(format!("vars-{}.yaml", i + 1))) {
            trouble.push(format!("cannot keep a copy of {}: {error}", path.display()));
        }
    }
    Ok((folder, trouble))
}

/// The text of the recipe itself, or of the lock that holds it.
fn own_text(recipe: &Recipe) -> Option<&str> {
    let own = recipe.sources.files().next().map(|(_, text)| text);
    recipe.locked.as_ref().map(|locked| locked.text.as_str()).or(own)
}

/// Writes a copy where nothing lies yet.
fn keep(path: &Path, text: &str) -> std::io::Result<()> {
    std::fs::File::create_new(path)?.write_all(text.as_bytes())
}

fn first_event(plan: &Plan, wanted: &[bool], slots: &Slots, store: &Store, in_use: &StoreLock) -> RunEvent {
    RunEvent::RunStarted(RunStarted {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        recipe: plan.recipe.name.clone(),
        path: plan.recipe.path.display().to_string(),
        text: own_text(&plan.recipe).map(|text| Digest::of(text.as_bytes())),
        seed: plan.recipe.seed,
        argv: std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect(),
        pid: std::process::id(),
        host: store.setting().host.name.clone(),
        host_id: store.setting().host.id.clone(),
        token: in_use.user().map(|user| user.token.clone()).unwrap_or_default(),
        slots: slots.cpus(),
        gpus: slots.gpus(),
        store: std::path::absolute(store.root()).unwrap_or_else(|_| store.root().to_owned()).display().to_string(),
        stages: (0..plan.stages.len()).filter(|i| wanted[*i]).map(|i| stage_line(plan, i)).collect(),
    })
}

/// A stage of a plan as a run's first event has it.
pub(super) fn stage_line(plan: &Plan, i: usize) -> StageLine {
    let spec = &plan.stages[i].spec;
    let needs = plan.upstream(i).into_iter().map(|u| plan.stages[u].spec.name.clone()).collect();
    StageLine { name: spec.name.clone(), kind: spec.kind.describe().kind.to_owned(), needs }
}

/// Each doubt once, before anything runs: with its place, which the words of a stage would not have.
fn tell_doubts(plan: &Plan, doubts: &[Vec<Doubt>], view: &mut View) {
    for (stage, own) in plan.stages.iter().zip(doubts) {
        let mut told = Vec::new();
        for doubt in own {
            let again = !gather(&mut told, &doubt.warning()).1;
            view.tell(&RunEvent::Warning { stage: stage.spec.name.clone(), warning: doubt.warning(), again });
        }
    }
}

fn dispatch(
    plan: &Plan,
    store: &Store,
    (executor, folder): (&dyn Executor, &RunFolder),
    slots: Slots,
    choice: Choice,
    doubts: Vec<Vec<Doubt>>,
    view: &mut View,
) -> anyhow::Result<Ended> {
    let (inbox, messages) = mpsc::channel();
    let _signals = sched::listen(inbox.clone())?;
    hear_requests(folder.clone(), inbox.clone())?;
    // What stages took before says how long the path to the end is. Unknown ones count a second.
    let urgency = || {
        let history = History::of(store);
        plan.critical(|i| {
            let planned = &plan.stages[i];
            let known = history.seconds(planned, plan.on_gpu(i)).map(|(seconds, _)| seconds);
            known.or_else(|| history.roughly(planned)).unwrap_or(1.0)
        })
    };
    let order = Order {
        plan,
        wanted: choice.wanted,
        forced: choice.forced,
        urgency: &urgency,
        keep_going: choice.keep_going,
        strict: choice.strict,
        doubts: doubts.iter().map(|own| own.iter().map(Doubt::warning).collect()).collect(),
        checkpoint_seconds: choice.checkpoint_seconds,
        store,
        executor,
        slots,
    };
    sched::run(order, (inbox, &messages), &mut |event| view.tell(event))
}

/// `opdflow stop` on another host has no signals for this one: it leaves a file.
fn hear_requests(folder: RunFolder, inbox: Sender<Message>) -> anyhow::Result<()> {
    let look = move || {
        let mut heard = 0;
        while heard < 2 {
            std::thread::sleep(Duration::from_secs(1));
            let asked = runlog::asked_to_stop(&folder);
            if (heard..asked).any(|_| inbox.send(Message::Interrupt).is_err()) {
                return;
            }
            heard = heard.max(asked);
        }
    };
    std::thread::Builder::new().name("requests".to_owned()).spawn(look).context("cannot start a thread")?;
    Ok(())
}

fn copies(
    plan: &Plan,
    wanted: &[bool],
    store: &Store,
    folder: &RunFolder,
    ended: &Ended,
    view: &mut View,
) -> Vec<Copied> {
    let mut copies = Vec::new();
    for copy in copy_finals(plan, wanted, &ended.records, store, folder) {
        match copy {
            Ok(copied) => copies.push(copied),
            Err(error) => view.tell(&RunEvent::Warned { text: error.to_string() }),
        }
    }
    copies
}

/// The end of a run, for the user: results on the standard output, the rest as notes.
fn hand_over(session: &Session, summary: &Summary, folder: &RunFolder, ending: Ending, copies: &[Copied]) {
    if !session.quiet {
        for stage in summary.stages.iter().filter(|s| s.state == Standing::Failed) {
            session.note(&format!("log of {}: {}", stage.name, folder.log(&stage.name).display()));
        }
        if matches!(ending, Ending::Stopped | Ending::Killed) {
            session.note("run the same command again to go on");
        }
        if let Some(outputs) = copies.first().and_then(|copied| copied.path.parent()) {
            let name = |copied: &Copied| copied.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let names: Vec<String> = copies.iter().map(name).collect();
            session.note(&format!("results in {}: {}", outputs.display(), names.join(", ")));
        }
        if ending == Ending::Complete && summary.stages.iter().any(|s| !s.metrics.is_empty()) {
            session.note("`opdflow report` writes a page of this run, with its curves and images");
        }
    }
    if session.json {
        let mut json = summary.to_json(&folder.name());
        let files = copies.iter().map(|c| (format!("{}.{}", c.stage, c.port), c.path.display().to_string().into()));
        json["files"] = serde_json::Value::Object(files.collect());
        session.print(&json.to_string());
    } else {
        let width = session.out.width();
        for text in copies.iter().filter_map(|c| c.markdown.as_deref()) {
            let text = width.map_or_else(|| text.to_owned(), |width| render::fit(text, width));
            session.print(text.trim_end());
        }
    }
}

/// Of a lock, whether its output is the one that it was made for.
fn again(plan: &Plan, summary: &Summary) -> Option<String> {
    let lock = &plan.recipe.locked.as_ref()?.lock;
    let (stage, port) = lock.output.rsplit_once('.')?;
    let found = summary.stage(stage)?.outputs.get(port)?;
    let (own, made) = (crate::PROGRAM, &lock.program);
    Some(if *found == lock.digest {
        format!("{}: the bytes of the lock", lock.output)
    } else if own == made {
        format!(
            "{}: other bytes than those of the lock, {found} instead of {}: another kind of processor or GPU rounds otherwise",
            lock.output, lock.digest
        )
    } else {
        format!("{}: other bytes than those of the lock, which {made} made, and this is {own}", lock.output)
    })
}

/// Everybody who hears of events: the log, the screen, the summary and TensorBoard's files.
struct View {
    log: Option<RunLog>,
    screen: Box<dyn Render>,
    summary: Summary,
    curves: Option<Live>,
}

impl View {
    fn new(session: &Session, args: &args::Run, folder: &RunFolder) -> Self {
        let mode = Mode::of(session.quiet, args.plain, session.moving);
        let screen = render::screen(mode, session.colour);
        let mut view = Self { log: None, screen, summary: Summary::default(), curves: None };
        match RunLog::create(folder) {
            Ok(log) => view.log = Some(log),
            Err(error) => view.tell(&RunEvent::Warned { text: format!("{error:#}; the run goes on without its log") }),
        }
        match Live::start(folder, session.store.clone(), session.registry.clone()) {
            Ok(curves) => view.curves = Some(curves),
            Err(error) => view.tell(&RunEvent::Warned { text: format!("{error:#}") }),
        }
        view
    }

    fn tell(&mut self, event: &RunEvent) {
        let at = runlog::now();
        self.summary.take(at, event);
        self.screen.show(event, &self.summary);
        if let Some(error) = self.log.as_mut().and_then(|log| log.write_at(at, event).err()) {
            self.screen.show(&RunEvent::Warned { text: format!("{error:#}") }, &self.summary);
        }
        if let Some(curves) = &self.curves {
            curves.hear(at, event);
            if let Some(text) = curves.trouble() {
                self.curves = None;
                self.tell(&RunEvent::Warned { text });
            }
        }
    }

    /// Tells the last event.
    fn finish(&mut self, event: &RunEvent) {
        if let Some(text) = self.curves.take().and_then(|mut curves| curves.finish()) {
            self.tell(&RunEvent::Warned { text });
        }
        self.tell(event);
        self.screen.finish();
    }
}
