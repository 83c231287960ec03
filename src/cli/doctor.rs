//! `opdflow doctor`: what this machine has and lacks, for which devices, rewards and recipes, and how to get it.

use super::room::{slots, too_large};
use super::{Exit, Failure, Session, args};
use crate::exec::{End, Local, run_tool};
use crate::render::bytes;
use crate::sched::Slots;
use opdflow_api::cache::Store;
use opdflow_api::{DoctorOrder, Event};
use opdflow_io::terminal::{line, message};
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq)]
struct Finding {
    /// What: `libtorch`, `store`.
    about: String,
    /// Whether it is there and works. Nothing where it is there or not, and either is well.
    ok: Option<bool>,
    /// What was found.
    found: String,
    /// How to get what is lacking.
    help: Option<String>,
}

impl Finding {
    fn new(about: &str, ok: Option<bool>, found: impl Into<String>) -> Self {
        Self { about: about.to_owned(), ok, found: found.into(), help: None }
    }

    fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    fn word(&self) -> &'static str {
        match self.ok {
            Some(true) => "ok",
            Some(false) => "LACKS",
            None => "-",
        }
    }

    fn to_json(&self) -> Value {
        json!({"about": self.about, "ok": self.ok, "found": self.found, "help": self.help})
    }

    /// As the other program says it.
    fn of_json(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let of = |name: &str| value[name].as_str().map(ToOwned::to_owned);
        Some(Self { about: of("about")?, ok: value["ok"].as_bool(), found: of("found")?, help: of("help") })
    }
}

pub(super) fn run(session: &Session, args: &args::Doctor) -> Result<Exit, Failure> {
    let machine = Slots::of_machine(None);
    let mut all = vec![Finding::new("opdflow", Some(true), crate::PROGRAM), processors(&machine)];
    all.extend(computing(&machine));
    all.push(gpus(&machine));
    all.push(store(session));
    all.push(slurm());
    let mut lacks = all.iter().any(|finding| finding.ok == Some(false));
    if let Some(path) = &args.recipe {
        let own = recipe(session, path)?;
        lacks |= own.iter().any(|finding| finding.ok == Some(false));
        all.extend(own);
    }
    session.print(
        if session.json { json!(all.iter().map(Finding::to_json).collect::<Vec<_>>()).to_string() } else { text(&all) }
            .trim_end(),
    );
    Ok(if lacks { Exit::Missing } else { Exit::Done })
}

fn text(all: &[Finding]) -> String {
    let width = all.iter().map(|f| line(&f.about).chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for finding in all {
        let about = line(&finding.about);
        out.push_str(&format!("{:<5}  {about:width$}  {}\n", finding.word(), indented(&finding.found, width)));
        if let Some(help) = &finding.help {
            out.push_str(&format!("{:<5}  {:width$}  help: {}\n", "", "", indented(help, width)));
        }
    }
    out
}

/// A message of more than one line stands below its first.
fn indented(text: &str, width: usize) -> String {
    message(text.trim_end()).replace('\n', &format!("\n{}", " ".repeat(width + 9)))
}

fn processors(machine: &Slots) -> Finding {
    let memory = machine.memory().map_or_else(String::new, |m| format!(", {} of memory", bytes(m)));
    Finding::new("machine", Some(true), format!("{} threads{memory}", machine.cpus()))
}

/// What the program that computes says of itself: whether it starts, libtorch, rewards.
fn computing(machine: &Slots) -> Vec<Finding> {
    let name = "opdflow-stage";
    if let Err(fault) = Local::is_whole() {
        let found = Finding::new(name, Some(false), fault.message);
        return vec![fault.help.map_or(found.clone(), |help| found.help(help))];
    }
    let order = DoctorOrder { devices: (0..machine.gpus()).map(|i| format!("cuda:{i}")).collect() };
    let (mut all, mut failed) = (Vec::new(), None);
    let end = run_tool("doctor", &order, machine.cpus(), |event| match event {
        Event::Said { text } => all.extend(Finding::of_json(&text)),
        Event::Failed { message, .. } => failed = Some(message),
        _ => {}
    });
    let trouble = match (failed, end) {
        (Some(message), _) => message,
        (None, Ok(End::Code(0))) => return all,
        // The loader's own words are on the standard error already.
        (None, Ok(end)) => format!("it does not start here: {end:?}"),
        (None, Err(error)) => format!("{error:#}"),
    };
    let help = "`make build`, or unpack the archive of `make dist` anew (docs/how-to/install.md)";
    all.push(Finding::new(name, Some(false), trouble).help(help));
    all
}

fn gpus(machine: &Slots) -> Finding {
    match machine.gpus() {
        0 => Finding::new("GPUs", None, "none that is seen; stages run on the CPU").help("docs/how-to/gpu.md"),
        n => {
            let memory = machine.gpu_memory().map_or_else(String::new, |m| format!(", the largest with {}", bytes(m)));
            Finding::new("GPUs", Some(true), format!("{n}{memory}"))
        }
    }
}

/// The store, which is not made here if it is not there yet.
fn store(session: &Session) -> Finding {
    let at = session.store.display();
    let another = "`--store`, or OPDFLOW_STORE, names another place";
    let room = |free: Option<u64>| free.map_or_else(String::new, |free| format!(", {} free", bytes(free)));
    if session.store.symlink_metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        let above = session.store.ancestors().skip(1).find(|folder| folder.symlink_metadata().is_ok());
        let above = above.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        return match may_write(above) {
            Ok(()) => {
                let room = room(Store::free_at(above));
                Finding::new("store", Some(true), format!("{at}, which the first run makes{room}"))
            }
            Err(error) => {
                Finding::new("store", Some(false), format!("{at} cannot be made in {}: {error}", above.display()))
                    .help(another)
            }
        };
    }
    match session.open() {
        Err(failure) => Finding::new("store", Some(false), failure.words()).help(another),
        Ok(store) => Finding::new("store", Some(true), format!("{at}{}", room(store.free()))),
    }
}

/// Whether this process may make files in a folder. Nothing is made.
fn may_write(folder: &Path) -> std::io::Result<()> {
    if !folder.is_dir() {
        return Err(std::io::Error::from(std::io::ErrorKind::NotADirectory));
    }
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes())?;
    // SAFETY: the path outlives the call.
    if unsafe { libc::access(path.as_ptr(), libc::W_OK | libc::X_OK) } == 0 {
        return Ok(());
    }
    Err(std::io::Error::last_os_error())
}

fn slurm() -> Finding {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let lacking: Vec<&str> = ["sbatch", "squeue", "scancel"]
        .into_iter()
        .filter(|program| !std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
        .collect();
    if lacking.is_empty() {
        return Finding::new("Slurm", Some(true), "sbatch, squeue and scancel are there: `opdflow run --on slurm`");
    }
    Finding::new("Slurm", None, format!("{} not in PATH; `--on slurm` needs them", lacking.join(", ")))
        .help("docs/how-to/slurm.md")
}

/// What the stages of a recipe lack here, and what they would refuse.
fn recipe(session: &Session, path: &Path) -> Result<Vec<Finding>, Failure> {
    let plan = session.survey_quietly(path)?;
    let mut found = Vec::new();
    for stage in &plan.stages {
        let all = stage.missing.iter().chain(&stage.lacking).chain(&stage.unfit).cloned().collect::<Vec<_>>();
        if !all.is_empty() {
            let words = plan.recipe.diagnostics(all).render(false);
            found.push(Finding::new(&stage.spec.name, Some(false), words));
        }
    }
    let large = too_large(&plan, &slots(&plan, None)).into_iter();
    found.extend(large.map(|(i, warning)| {
        let words = plan.recipe.diagnostics(vec![warning]).render(false);
        Finding::new(&plan.stages[i].spec.name, Some(false), words)
    }));
    if found.is_empty() {
        let words = format!("{}: nothing that its {} stages need is lacking here", path.display(), plan.stages.len());
        found.push(Finding::new("recipe", Some(true), words));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lacks_says_so_in_a_word_and_how_to_get_it() {
        let all = [
            Finding::new("opdflow", Some(true), "0.1.0"),
            Finding::new("a\u{1b}[2J", Some(false), "one\ntwo").help("do this"),
        ];
        let text = text(&all);
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(
            text.starts_with("ok     opdflow") && text.contains("\nLACKS  a") && text.contains("help: do this"),
            "{text}"
        );
        assert_eq!(Finding::of_json(&all[0].to_json().to_string()), Some(all[0].clone()));
        assert_eq!(Finding::of_json("a stray line"), None);
    }
}
