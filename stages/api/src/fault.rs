//! Classes of failure. The class decides the exit code of the stage's process and what the scheduler may do next.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The exit code of a process that stopped at a checkpoint because it was asked to, and of a run whose stages did. Started
/// again it goes on from there. (`EX_TEMPFAIL` of BSD's sysexits.)
pub const STOPPED: u8 = 75;

/// Whose fault it is, and whether another try can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FaultClass {
    /// The user's: a file, a parameter or an input that does not fit. Another try gives the same.
    User,
    /// A number became NaN or infinite. Another try gives the same.
    NotFinite,
    /// Memory ran out.
    OutOfMemory,
    /// The machine's: disk full, store not writable, process lost.
    Machine,
    /// Ours: a bug.
    Bug,
}

impl FaultClass {
    /// The exit code of a stage's process, after BSD's sysexits where one fits.
    #[must_use]
    pub const fn exit_code(self) -> i32 {
        match self {
            Self::User => 65,
            Self::NotFinite => 66,
            Self::OutOfMemory => 71,
            Self::Machine => 74,
            Self::Bug => 70,
        }
    }
}

/// A failure with its class. Put it into the `anyhow` chain of what [`crate::Workers::with`] runs; without one a failure counts
/// as a bug of ours.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Whose it is.
    pub class: FaultClass,
    /// What was found and what was expected.
    pub message: String,
    /// The way out, if there is one to name.
    pub help: Option<String>,
}

impl Fault {
    /// A fault of the user's.
    pub fn user(message: impl Into<String>) -> Self {
        Self { class: FaultClass::User, message: message.into(), help: None }
    }
    /// What an error says about something of the user's: their fault, unless it was the machine that could not read it.
    pub fn about(error: &anyhow::Error) -> Self {
        let machine = error.chain().filter_map(|c| c.downcast_ref::<std::io::Error>()).any(is_of_machine);
        let class = if machine { FaultClass::Machine } else { FaultClass::User };
        Self { class, message: format!("{error:#}"), help: None }
    }
    /// A number that is not finite.
    pub fn not_finite(message: impl Into<String>) -> Self {
        Self { class: FaultClass::NotFinite, message: message.into(), help: None }
    }
    /// A fault of the machine's.
    pub fn machine(message: impl Into<String>) -> Self {
        Self { class: FaultClass::Machine, message: message.into(), help: None }
    }
    /// Adds the way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The class of an error from a stage: that of the first [`Fault`] in its chain; a store error is the
    /// machine's; everything else is a bug.
    #[must_use]
    pub fn class_of(error: &anyhow::Error) -> FaultClass {
        for cause in error.chain() {
            if let Some(fault) = cause.downcast_ref::<Self>() {
                return fault.class;
            }
            // A file that is written as JSON fails with an error of that, which hides the system's own.
            let json = cause.downcast_ref::<serde_json::Error>().is_some_and(serde_json::Error::is_io);
            if json
                || cause.downcast_ref::<opdflow_cache::StoreError>().is_some()
                || cause.downcast_ref::<std::io::Error>().is_some()
            {
                return FaultClass::Machine;
            }
        }
        FaultClass::Bug
    }
}

/// Whether the system lacked means (files, processes, memory, room) or a device failed, whatever was asked of it.
fn is_of_machine(error: &std::io::Error) -> bool {
    const MEANS: [i32; 9] = [
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOMEM,
        libc::EAGAIN,
        libc::ENOSPC,
        libc::EDQUOT,
        libc::EROFS,
        libc::EIO,
        libc::ESTALE,
    ];
    error.raw_os_error().is_some_and(|code| MEANS.contains(&code))
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, "\nhelp: {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;
    use std::io;

    /// The system's errors, bare or inside others, are the machine's and never a bug.
    #[test]
    fn what_the_system_refuses_is_no_bug() {
        for code in [
            libc::EMFILE,
            libc::ENFILE,
            libc::EAGAIN,
            libc::ENOMEM,
            libc::ENOSPC,
            libc::EDQUOT,
            libc::EROFS,
            libc::EIO,
            libc::EACCES,
            libc::ESTALE,
        ] {
            let system = || io::Error::from_raw_os_error(code);
            let json = serde_json::to_writer(Broken(code), &[1, 2, 3]).unwrap_err();
            let all = [
                anyhow::Error::from(system()),
                Err::<(), _>(system()).context("writing the table").context("the stage").unwrap_err(),
                anyhow::Error::from(json).context("writing the metrics"),
            ];
            for error in all {
                assert_eq!(Fault::class_of(&error), FaultClass::Machine, "{error:#}");
            }
            // A place that may not be read is one that the user named.
            let about = Fault::about(&anyhow::Error::from(system()).context("their file"));
            let expected = if code == libc::EACCES { FaultClass::User } else { FaultClass::Machine };
            assert_eq!(about.class, expected, "{about}");
        }
        let malformed = serde_json::from_str::<u8>("x").unwrap_err();
        assert_eq!(Fault::class_of(&malformed.into()), FaultClass::Bug);
        assert_eq!(Fault::about(&anyhow::anyhow!("no model")).class, FaultClass::User);
        let absent = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(Fault::about(&absent.into()).class, FaultClass::User);
    }

    /// A file that cannot be written.
    struct Broken(i32);

    impl io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(self.0))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
