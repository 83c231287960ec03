//! Which of several processes of one stage this is.
//!
//! All of them have the same job. The first one, rank 0, leads: it holds the lease, writes outputs and checkpoints, reports and
//! decides when to stop. The others follow: they read the inputs that it has placed and the checkpoint that it has chosen, and what
//! they write goes to a folder of their own, which nobody keeps.

use crate::Fault;

/// The variables by which this program tells the processes that it starts which of them is which.
pub const VARIABLES: [&str; 3] = ["OPDFLOW_RANK", "OPDFLOW_WORLD", "OPDFLOW_ATTEMPT"];

/// How often this program has begun anew with half the micro-batch, because memory ran out in one of the processes.
pub const HALVINGS: &str = "OPDFLOW_HALVINGS";

/// The exit code of a process that asks for that.
pub const HALVE: i32 = 79;

/// How the message of a process begins that has lost the others. The cause is elsewhere then.
pub const PARTED: &str = "the processes of the stage have lost each other";

/// How long a process waits for the others where nobody says. One may be at a checkpoint of many gigabytes meanwhile, or at a
/// reward model.
pub const DEADLINE_SECONDS: f64 = 1800.0;

/// Variables of launchers that say the same as [`VARIABLES`]: what they said of this process does not hold for those that it starts.
pub const FOREIGN: [&str; 5] = ["RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"];

/// One of the processes of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rank {
    /// Its number, from 0.
    pub number: usize,
    /// How many there are, at least 2.
    pub world: usize,
    /// Its number among those of this host: which of several GPUs is its own.
    pub local: usize,
    /// Whether all are on this host.
    pub one_host: bool,
    /// What tells this attempt at the stage from any other: letters and digits alone.
    pub attempt: String,
}

impl Rank {
    /// Reads which one this is: from this program's own variables, from those of `torchrun`, or from those of `srun`. Nothing where none of
    /// them says that there are several.
    ///
    /// # Errors
    /// Variables that contradict each other, or are no numbers.
    pub fn of_environment(var: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Fault> {
        let number = |name: &str| -> Result<Option<usize>, Fault> {
            let Some(text) = var(name) else { return Ok(None) };
            let found = text.trim().parse();
            found.map(Some).map_err(|_| Fault::user(format!("{name} is {text:?}; it should be a number")))
        };
        let words = |names: &[&str]| names.iter().filter_map(|n| var(n)).collect::<Vec<_>>().join("-");
        let plain = |text: String| -> String { text.chars().filter(char::is_ascii_alphanumeric).collect() };
        let both = |rank: &str, world: &str| -> Result<Option<(usize, usize)>, Fault> {
            match (number(rank)?, number(world)?) {
                (Some(rank), Some(world)) if world > 1 => Ok(Some((rank, world))),
                _ => Ok(None),
            }
        };
        let ours = both("OPDFLOW_RANK", "OPDFLOW_WORLD")?;
        let (torchrun, srun) = (both("RANK", "WORLD_SIZE")?, both("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")?);
        let found = if let Some((rank, world)) = ours {
            // This program shows each process its own GPU and no other.
            Self { number: rank, world, local: 0, one_host: true, attempt: plain(words(&["OPDFLOW_ATTEMPT"])) }
        } else if let Some((rank, world)) = torchrun {
            let attempt = words(&["TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_ADDR", "MASTER_PORT"]);
            let here = number("LOCAL_WORLD_SIZE")?.unwrap_or(world);
            let local = number("LOCAL_RANK")?.unwrap_or(rank);
            Self { number: rank, world, local, one_host: here == world, attempt: plain(attempt) }
        } else if let Some((rank, world)) = srun {
            let attempt = words(&["SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"]);
            let local = number("SLURM_LOCALID")?.unwrap_or(rank);
            let one_host = number("SLURM_STEP_NUM_NODES")? == Some(1);
            Self { number: rank, world, local, one_host, attempt: plain(attempt) }
        } else {
            return Ok(None);
        };
        if found.number >= found.world {
            let what = format!("this process is number {} of {}", found.number, found.world);
            return Err(Fault::user(what).help("numbers begin at 0: see the variables of the launcher"));
        }
        Ok(Some(found))
    }

    /// Whether it is the one that writes and decides.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.number == 0
    }
}

/// The error that a process returns where memory ran out, and all of them should begin anew with half the micro-batch.
#[derive(Debug)]
pub(crate) struct Halve;

impl std::fmt::Display for Halve {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("memory ran out: half the micro-batch is asked for")
    }
}

impl std::error::Error for Halve {}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<Rank>, Fault> {
        Rank::of_environment(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn each_launcher_s_variables_say_which_one_it_is() {
        assert_eq!(of(&[]).unwrap(), None);
        let ours = of(&[
            ("OPDFLOW_RANK", "1"),
            ("OPDFLOW_WORLD", "2"),
            ("OPDFLOW_ATTEMPT", "a1"),
            ("RANK", "0"),
            ("WORLD_SIZE", "4"),
        ]);
        let ours = ours.unwrap().unwrap();
        assert_eq!((ours.number, ours.world, ours.one_host, ours.attempt.as_str()), (1, 2, true, "a1"));
        let torchrun = [
            ("RANK", "5"),
            ("WORLD_SIZE", "8"),
            ("LOCAL_RANK", "1"),
            ("LOCAL_WORLD_SIZE", "4"),
            ("TORCHELASTIC_RUN_ID", "x/../y"),
        ];
        let found = of(&torchrun).unwrap().unwrap();
        assert_eq!((found.number, found.local, found.one_host, found.attempt.as_str()), (5, 1, false, "xy"));
        let srun = [
            ("SLURM_PROCID", "1"),
            ("SLURM_STEP_NUM_TASKS", "2"),
            ("SLURM_STEP_NUM_NODES", "2"),
            ("SLURM_LOCALID", "0"),
            ("SLURM_JOB_ID", "7"),
            ("SLURM_STEP_ID", "0"),
        ];
        let found = of(&srun).unwrap().unwrap();
        assert_eq!((found.number, found.world, found.local, found.one_host), (1, 2, 0, false));
        // A batch script has a number of its own and is no step of several tasks; nor is a single one.
        assert_eq!(of(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "2")]).unwrap(), None);
        assert_eq!(of(&[("RANK", "0"), ("WORLD_SIZE", "1")]).unwrap(), None);
    }

    #[test]
    fn what_contradicts_itself_is_told() {
        assert!(of(&[("RANK", "2"), ("WORLD_SIZE", "2")]).unwrap_err().message.contains("number 2 of 2"));
        assert!(of(&[("RANK", "two"), ("WORLD_SIZE", "2")]).unwrap_err().message.contains("RANK"));
    }
}
