//! The command line: arguments become a [`Session`], a command does its work with it, its end becomes an exit code.

pub mod args;
mod doctor;
mod environment;
mod generate;
mod help;
mod job;
pub(crate) mod on;
mod output;
mod recipes;
mod reward_server;
mod room;
mod runs;
mod score;
mod session;
mod stage;
mod store;
mod threads;
mod tool;

use crate::exec::Local;
use crate::plan::NumericFacts;
use crate::recipe::{Overrides, colour_wanted, is_terminal};
use crate::sched::Slots;
use clap::Parser as _;
use clap::error::{ContextKind, ContextValue};
use opdflow_api::{Registry, Workers};
use opdflow_cache::Store;
use opdflow_io::terminal;
pub use output::Output;
pub(crate) use session::find_run;
pub use session::{Exit, Failure, Session};
pub use stage::stage_main;
use std::io::Write as _;
use std::process::ExitCode;

/// The whole program: arguments in, exit code out.
#[must_use]
pub fn main(registry: Registry, workers: Workers, mut facts: NumericFacts) -> ExitCode {
    let args = match args::Opdflow::try_parse() {
        Ok(args) => args,
        Err(e) if e.use_stderr() => {
            complain(&e);
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2));
        }
        // `--help` and `--version`.
        Err(e) => {
            let out = Output::default();
            out.by(|| e.print());
            return ExitCode::from(whole(&out, 0));
        }
    };
    if Local::is_whole().is_err() {
        facts.elsewhere = registry.names().filter(|kind| workers.get(kind).is_none()).collect();
    }
    facts.gpu = Slots::of_machine(None).gpus() > 0;
    let session = Session {
        registry,
        workers,
        facts,
        store: args.global.store.clone().unwrap_or_else(Store::default_root),
        json: args.global.json,
        quiet: args.global.quiet,
        overrides: Overrides {
            files: args.global.vars.clone(),
            vars: args.global.set.iter().cloned().collect(),
            seed: args.global.seed,
        },
        colour: colour_wanted(),
        moving: is_terminal(),
        out: Output::default(),
    };
    let known = environment::check(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()));
    let code = match known.and_then(|()| command(&session, &args.command)) {
        Ok(exit) => exit.code(),
        Err(failure) => session.explain_failure(&failure),
    };
    ExitCode::from(whole(&session.out, code))
}

/// The exit code of a command that did its work and would end with `code`, now that all was printed. One that ended badly
/// anyhow keeps its code.
fn whole(out: &Output, code: u8) -> u8 {
    let Some(why) = out.failure() else { return code };
    let _ = writeln!(std::io::stderr(), "error: the output could not be written whole: {why}");
    if code == 0 || code == Exit::WorkToDo.code() { Exit::Damaged.code() } else { code }
}

/// Flags of `generate` under the names of earlier versions.
const FORMER_FLAGS: [(&str, &str); 4] = [
    ("steps", "num-inference-steps"),
    ("guidance", "guidance-scale"),
    ("negative", "negative-prompt"),
    ("count", "num-images-per-prompt"),
];

/// What to say of a flag that has another name now.
fn former_flag(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return None };
    let name = flag.strip_prefix("--")?.split('=').next()?;
    let (old, now) = FORMER_FLAGS.iter().find(|(old, _)| *old == name)?;
    let generate = std::env::args().any(|word| word == "generate");
    generate.then(|| format!("error: `--{old}` is called `--{now}` now\nhelp: write `--{now}`"))
}

/// What is wrong with the arguments. They may hold anything, and then there are no colours.
fn complain(error: &clap::Error) {
    let text = former_flag(error).unwrap_or_else(|| error.to_string());
    if text == terminal::shown(&text) && former_flag(error).is_none() {
        let _ = error.print();
    } else {
        let _ = writeln!(std::io::stderr(), "{}", terminal::message(text.trim_end()));
    }
}

fn command(session: &Session, command: &args::Command) -> Result<Exit, Failure> {
    match command {
        args::Command::Run(args) => runs::run::run(session, args),
        args::Command::Generate(args) => generate::run(session, args),
        args::Command::RewardServer(args) => reward_server::run(session, args),
        args::Command::Doctor(args) => doctor::run(session, args),
        args::Command::Score(args) => score::run(session, args),
        args::Command::Check(args) => recipes::check::run(session, args),
        args::Command::Plan(args) => recipes::plan::run(session, args),
        args::Command::Explain(args) => recipes::explain::run(session, args),
        args::Command::Get(args) => store::get::run(session, args),
        args::Command::Report(args) => runs::report::run(session, args),
        args::Command::Lineage(args) => store::lineage::run(session, args),
        args::Command::Export(args) => store::export::run(session, args),
        args::Command::Import(args) => store::import::run(session, args),
        args::Command::Status(args) => runs::status::run(session, args),
        args::Command::Watch(args) => runs::watch::run(session, args),
        args::Command::Stop(args) => runs::stop::run(session, args),
        args::Command::Logs(args) => runs::logs::run(session, args),
        args::Command::Graph(args) => recipes::graph::run(session, args),
        args::Command::Stages(args) => recipes::stages::run(session, args),
        args::Command::Schema => Ok(recipes::schema::run(session)),
        args::Command::Du => store::du::run(session),
        args::Command::Gc(args) => store::gc::run(session, args),
        args::Command::Verify(args) => store::verify::run(session, args),
        args::Command::Pin(args) => store::pin::run(session, args),
        args::Command::Unpin(args) => store::pin::take_away(session, args),
        args::Command::Help(args) => help::run(session, args),
        args::Command::Man(args) => help::manual(session, args),
        args::Command::Completions(args) => Ok(help::completions(session, args)),
        args::Command::Stage(args) => {
            Ok(Exit::Stage(u8::try_from(stage::run(&args.job, &session.workers)).unwrap_or(70)))
        }
        args::Command::Job(args) => Ok(Exit::Stage(u8::try_from(job::run(args)).unwrap_or(70))),
    }
}
