//! The states of a stage during one run, and the one function that changes them.

use std::fmt;

/// Where a stage stands in this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// An input is not there yet.
    Waiting,
    /// All inputs are there; it is not yet known to be a hit, or no slot is free.
    Ready,
    /// Its process runs.
    Running,
    /// The store had its result.
    Hit,
    /// It ran to its end.
    Done,
    /// It was asked to stop, running or not. The same command goes on from there.
    Stopped,
    /// It ran and failed.
    Failed,
    /// It cannot run: the stage `by`, somewhere upstream, failed.
    Blocked {
        /// The stage that failed.
        by: usize,
    },
    /// Nobody asked for it.
    Skipped,
}

/// What may happen to a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// The last missing input came.
    Release,
    /// An input proved damaged before the stage began.
    Withdraw,
    /// The store has its result.
    Hit,
    /// Its process was started.
    Start,
    /// Its process published all outputs.
    Finish,
    /// Its process was lost; it will be started again.
    Requeue,
    /// It was asked to stop.
    Stop,
    /// It failed.
    Fail,
    /// A stage upstream failed.
    Block {
        /// That stage.
        by: usize,
    },
    /// Nobody asked for it.
    Skip,
    /// Its result proved damaged in the store.
    Revoke,
}

/// A move that makes no sense in a state: always a bug of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Illegal {
    /// The state.
    pub from: State,
    /// What was tried.
    pub tried: Move,
}

impl fmt::Display for Illegal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a stage that is {:?} cannot take the move {:?}: this is a bug in opdflow", self.from, self.tried)
    }
}

impl std::error::Error for Illegal {}

impl State {
    /// The state after `m`. Every change of state goes through here.
    ///
    /// # Errors
    /// The move makes no sense in this state.
    pub fn after(self, m: Move) -> Result<Self, Illegal> {
        use State::{Blocked, Done, Failed, Ready, Running, Skipped, Stopped, Waiting};
        Ok(match (self, m) {
            (Waiting, Move::Release) | (Running, Move::Requeue) | (Self::Hit | Done, Move::Revoke) => Ready,
            (Ready, Move::Withdraw) => Waiting,
            (Ready, Move::Hit) => Self::Hit,
            (Ready, Move::Start) => Running,
            (Running, Move::Finish) => Done,
            (Waiting | Ready | Running, Move::Stop) => Stopped,
            // A stage that cannot even be started fails out of Ready.
            (Ready | Running, Move::Fail) => Failed,
            (Waiting | Ready, Move::Block { by }) => Blocked { by },
            (Waiting, Move::Skip) => Skipped,
            (from, tried) => return Err(Illegal { from, tried }),
        })
    }

    /// Whether its outputs are in the store.
    #[must_use]
    pub const fn provides(self) -> bool {
        matches!(self, Self::Hit | Self::Done)
    }

    /// Whether nothing more happens to it, unless its result proves damaged.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Waiting | Self::Ready | Self::Running)
    }

    /// The word for it in logs and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Hit => "hit",
            Self::Done => "done",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Blocked { .. } => "blocked",
            Self::Skipped => "skipped",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 9] = [
        State::Waiting,
        State::Ready,
        State::Running,
        State::Hit,
        State::Done,
        State::Stopped,
        State::Failed,
        State::Blocked { by: 0 },
        State::Skipped,
    ];
    const MOVES: [Move; 11] = [
        Move::Release,
        Move::Withdraw,
        Move::Hit,
        Move::Start,
        Move::Finish,
        Move::Requeue,
        Move::Stop,
        Move::Fail,
        Move::Block { by: 0 },
        Move::Skip,
        Move::Revoke,
    ];

    #[test]
    fn an_ended_stage_only_comes_back_when_its_result_is_damaged() {
        for state in STATES.into_iter().filter(|s| s.is_terminal()) {
            for m in MOVES {
                let legal = state.after(m).is_ok();
                assert_eq!(legal, state.provides() && m == Move::Revoke, "{state:?} {m:?}");
            }
        }
    }

    #[test]
    fn only_a_ready_stage_starts() {
        for state in STATES {
            assert_eq!(state.after(Move::Start).is_ok(), state == State::Ready, "{state:?}");
        }
    }
}
