//! What the end of a stage's process means.

use crate::exec::End;
use opdflow_api::{FaultClass, STOPPED};

/// What became of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its outputs are in the store.
    Published,
    /// It stopped as asked.
    Stopped,
    /// It failed. [`FaultClass::Machine`] also means that its process was lost: another try may help.
    Failed(FaultClass, String),
}

/// Reads the end of a process. `failure` is what it said of itself before, `stopping` whether it was asked to end.
pub(super) fn of(end: &End, published: bool, failure: Option<(FaultClass, String)>, stopping: bool) -> Fate {
    // A library that crashes while the process winds down takes nothing back.
    if published {
        return Fate::Published;
    }
    match (end, failure) {
        (End::Code(0), _) => Fate::Published,
        (End::Code(code), _) if *code == i32::from(STOPPED) => Fate::Stopped,
        (End::Code(_), Some((class, message))) => Fate::Failed(class, message),
        (End::Code(code), None) => {
            Fate::Failed(class_of(*code), format!("its process ended with code {code} and said nothing"))
        }
        // The process may be hit before it listens to signals.
        (End::Signal(libc::SIGTERM | libc::SIGINT | libc::SIGKILL), _) if stopping => Fate::Stopped,
        (End::Signal(signal), _) => signalled(*signal),
        (End::Failed(class, message), _) => Fate::Failed(*class, message.clone()),
        (End::Unknown(why), _) => Fate::Failed(FaultClass::Machine, format!("its process is gone: {why}")),
    }
}

fn class_of(code: i32) -> FaultClass {
    use FaultClass::{Bug, Machine, NotFinite, OutOfMemory, User};
    [User, NotFinite, OutOfMemory, Machine].into_iter().find(|class| class.exit_code() == code).unwrap_or(Bug)
}

fn signalled(signal: i32) -> Fate {
    let (name, class, note) = match signal {
        libc::SIGKILL => ("SIGKILL", FaultClass::Machine, "; the system does this when memory runs out"),
        libc::SIGTERM => ("SIGTERM", FaultClass::Machine, ""),
        libc::SIGINT => ("SIGINT", FaultClass::Machine, ""),
        libc::SIGHUP => ("SIGHUP", FaultClass::Machine, ""),
        libc::SIGBUS => ("SIGBUS", FaultClass::Machine, "; a file was cut short, or the disk is failing"),
        libc::SIGSEGV => ("SIGSEGV", FaultClass::Bug, "; it crashed"),
        libc::SIGABRT => ("SIGABRT", FaultClass::Bug, "; it crashed"),
        libc::SIGILL => ("SIGILL", FaultClass::Bug, "; the program was built for another processor"),
        libc::SIGFPE => ("SIGFPE", FaultClass::Bug, "; it crashed"),
        _ => ("unnamed", FaultClass::Machine, ""),
    };
    Fate::Failed(class, format!("its process was ended by signal {signal} ({name}){note}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_own_code_back() {
        for class in
            [FaultClass::User, FaultClass::NotFinite, FaultClass::OutOfMemory, FaultClass::Machine, FaultClass::Bug]
        {
            let Fate::Failed(read, _) = of(&End::Code(class.exit_code()), false, None, false) else {
                panic!("{class:?}")
            };
            assert_eq!(read, class);
        }
    }

    #[test]
    fn a_killed_process_is_lost_unless_we_killed_it() {
        assert!(matches!(of(&End::Signal(9), false, None, false), Fate::Failed(FaultClass::Machine, _)));
        assert_eq!(of(&End::Signal(9), false, None, true), Fate::Stopped);
        assert!(matches!(of(&End::Signal(libc::SIGSEGV), false, None, true), Fate::Failed(FaultClass::Bug, _)));
    }

    #[test]
    fn what_is_published_stays_published() {
        assert_eq!(of(&End::Signal(libc::SIGABRT), true, None, false), Fate::Published);
    }
}
