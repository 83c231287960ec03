//! `opdflow __job FILES ID -- PROGRAM ...`, the first process of a stage's job on a cluster. Started by the job's script, not by people.

use super::args;
use crate::exec::slurm::attend::attend;
use opdflow_api::Fault;
use std::io::Write as _;

/// Runs the stage's program to its end; with which code to exit.
pub(super) fn run(args: &args::Job) -> i32 {
    match attend(&args.files, args.id, &args.command) {
        Ok(code) => code,
        Err(error) => {
            let text = opdflow_io::terminal::message(&format!("{error:#}"));
            let _ = writeln!(std::io::stderr(), "opdflow __job: {text}");
            Fault::class_of(&error).exit_code()
        }
    }
}
