//! How a job ended, of all that is known: what itself wrote, the store, the queue, the accounts. What is not known is no end.

use super::ask::{Past, State};
use super::lines::{Asked, Ends};
use crate::exec::End;
use opdflow_api::{FaultClass, STOPPED};
use std::time::Duration;

/// What the queue says of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It gives no answer.
    Silent,
    /// It does not have the job.
    Absent,
    /// Where the job stands.
    At(State),
}

/// All that is known of a job.
#[derive(Clone, Debug)]
pub struct Evidence<'a> {
    /// Whether the store has the result.
    pub result: bool,
    /// Whether a start of it has begun.
    pub begun: bool,
    /// How its newest start ended, by its own word.
    pub ends: Option<&'a Ends>,
    /// What the queue says, asked after that.
    pub queue: Seen,
    /// What the accounts say, if they were asked and know it.
    pub past: Option<&'a Past>,
    /// How long the queue has had it no more, or as ended.
    pub quiet: Duration,
    /// How long a file that another node wrote may take to be seen.
    pub late: Duration,
    /// Whether this run asked it to stop.
    pub asked: bool,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    Wait,
    /// The queue knows no more: the accounts may.
    LookUp,
    /// Another job goes on.
    Again(Why),
    /// It is over.
    Over(Outcome),
}

/// Why another job must go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its time was up, or nearly.
    Limit,
    /// It had to give way, or was asked to stop by somebody who did not cancel it.
    Asked,
    /// Its node failed.
    Node,
}

/// How a job is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As its process ended.
    As(End),
    /// Somebody cancelled it.
    Cancelled,
}

/// Judges.
#[must_use]
pub fn judge(known: &Evidence<'_>) -> Verdict {
    let as_code = |code| Verdict::Over(Outcome::As(End::Code(code)));
    match known.ends {
        Some(Ends { code: Some(code), .. }) if *code != i32::from(STOPPED) => as_code(*code),
        // Ended by a signal, or asked to stop: the queue says by whom.
        Some(ends) => interrupted(known, ends),
        None => silent(known),
    }
}

/// What the queue says, or the accounts if it does not have the job any more.
fn state(known: &Evidence<'_>) -> Option<State> {
    match (&known.queue, known.past) {
        (Seen::At(state), _) => Some(*state),
        (Seen::Absent, Some(past)) => Some(past.state),
        (Seen::Absent | Seen::Silent, _) => None,
    }
}

/// Its newest start ended by a signal or because it was asked to. Slurm may start it again under the same number.
fn interrupted(known: &Evidence<'_>, ends: &Ends) -> Verdict {
    let own = match ends {
        Ends { code: Some(code), .. } => End::Code(*code),
        Ends { signal: Some(signal), .. } => End::Signal(*signal),
        Ends { .. } => End::Unknown("its end has neither a code nor a signal".to_owned()),
    };
    let stopped = own == End::Code(i32::from(STOPPED));
    match state(known) {
        Some(state) if state.lives() => Verdict::Wait,
        // A start that Slurm may make of it yet would find that it shall stop.
        _ if known.queue == Seen::Silent && known.asked && stopped => Verdict::Over(Outcome::As(own)),
        _ if known.queue == Seen::Silent => Verdict::Wait,
        // This run wanted it, whatever Slurm calls it.
        _ if known.asked => Verdict::Over(Outcome::As(own)),
        Some(State::Cancelled) => Verdict::Over(Outcome::Cancelled),
        Some(State::TimedOut) => Verdict::Again(Why::Limit),
        Some(State::Preempted) => Verdict::Again(Why::Asked),
        Some(State::NodeFailed) => Verdict::Again(Why::Node),
        Some(State::OutOfMemory) => out_of_memory(),
        // It has gone from the queue since: who has kept accounts knows whether it was cancelled.
        None if known.past.is_none() && known.quiet < known.late && ends.asked != Some(Asked::Limit) => Verdict::LookUp,
        _ if stopped && ends.asked == Some(Asked::Limit) => Verdict::Again(Why::Limit),
        _ if stopped => Verdict::Again(Why::Asked),
        _ => Verdict::Over(Outcome::As(own)),
    }
}

/// It wrote nothing of an end. Files may be late; a process that was killed writes nothing.
fn silent(known: &Evidence<'_>) -> Verdict {
    let over = match &known.queue {
        Seen::Silent => return Verdict::Wait,
        Seen::At(state) if state.lives() => return Verdict::Wait,
        Seen::At(_) | Seen::Absent => state(known),
    };
    if known.result {
        return Verdict::Over(Outcome::As(End::Code(0)));
    }
    // Nothing more will be written by one that never began.
    let never = over == Some(State::Cancelled) && !known.begun;
    if known.quiet < known.late && !never {
        return Verdict::Wait;
    }
    let lost = |what: &str| Verdict::Over(Outcome::As(End::Unknown(what.to_owned())));
    match over {
        None if known.past.is_none() && known.quiet < known.late * 2 => Verdict::LookUp,
        None => lost("Slurm does not know its job any more, and it left neither a result nor a word of its end"),
        Some(State::Cancelled) if known.asked => Verdict::Over(Outcome::As(End::Code(i32::from(STOPPED)))),
        Some(State::Cancelled) => Verdict::Over(Outcome::Cancelled),
        Some(State::TimedOut) => Verdict::Again(Why::Limit),
        Some(State::Preempted) => Verdict::Again(Why::Asked),
        Some(State::NodeFailed) => Verdict::Again(Why::Node),
        Some(State::OutOfMemory) => out_of_memory(),
        Some(State::Completed) => lost("its job ended well, but left neither a result nor a word of its end"),
        // The queue has no codes.
        Some(_) if known.past.is_none() && known.quiet < known.late * 2 => Verdict::LookUp,
        Some(_) => failed(known),
    }
}

fn out_of_memory() -> Verdict {
    let message = "its job took more memory than it had asked for\nhelp: raise `memory` in the profile of the cluster, for this kind of stage under `kinds`";
    Verdict::Over(Outcome::As(End::Failed(FaultClass::OutOfMemory, message.to_owned())))
}

/// By the code that Slurm has of it.
fn failed(known: &Evidence<'_>) -> Verdict {
    let end = match known.past.map(|past| past.code) {
        // The script, before the stage's program: what the user wrote under `setup`, or a program that is not on the node.
        Some((code, 0)) if !known.begun && code != 0 => {
            let message = format!(
                "the script of its job ended with code {code} before the stage's program began\nhelp: `opdflow logs` shows what it wrote; `setup` in the profile of the cluster is run before, and this program must lie where every node sees it"
            );
            End::Failed(FaultClass::User, message)
        }
        Some((code, 0)) if code != 0 => End::Code(code),
        Some((_, signal)) if signal != 0 => End::Signal(signal),
        _ => End::Unknown("its job failed, and left neither a result nor a word of its end".to_owned()),
    };
    Verdict::Over(Outcome::As(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known<'a>(queue: Seen, ends: Option<&'a Ends>, past: Option<&'a Past>, quiet: u64) -> Evidence<'a> {
        let (quiet, late) = (Duration::from_secs(quiet), Duration::from_secs(60));
        Evidence { result: false, begun: true, ends, queue, past, quiet, late, asked: false }
    }

    fn ends(code: Option<i32>, signal: Option<i32>, asked: Option<Asked>) -> Ends {
        Ends { code, signal, asked }
    }

    fn code(code: i32) -> Verdict {
        Verdict::Over(Outcome::As(End::Code(code)))
    }

    #[test]
    fn its_own_word_of_an_end_needs_no_other() {
        for own in [0, 65, 66, 70, 71, 74] {
            let ends = ends(Some(own), None, None);
            for queue in [Seen::Silent, Seen::Absent, Seen::At(State::Running), Seen::At(State::Failed)] {
                assert_eq!(judge(&known(queue, Some(&ends), None, 0)), code(own));
            }
        }
    }

    #[test]
    fn nothing_is_an_end_while_slurm_is_silent_or_has_the_job() {
        let stopped = ends(Some(75), None, Some(Asked::Limit));
        let killed = ends(None, Some(9), None);
        for seen in [None, Some(&stopped), Some(&killed)] {
            for queue in [
                Seen::Silent,
                Seen::At(State::Waiting),
                Seen::At(State::Running),
                Seen::At(State::Completing),
                Seen::At(State::Unknown),
            ] {
                assert_eq!(judge(&known(queue.clone(), seen, None, 86_400)), Verdict::Wait, "{queue:?} {seen:?}");
            }
        }
    }

    #[test]
    fn one_that_was_asked_to_stop_goes_on_unless_it_was_cancelled() {
        let (limit, signal) = (ends(Some(75), None, Some(Asked::Limit)), ends(Some(75), None, Some(Asked::Signal)));
        let at = |state, own: &Ends| judge(&known(Seen::At(state), Some(own), None, 0));
        assert_eq!(at(State::Failed, &limit), Verdict::Again(Why::Limit));
        assert_eq!(at(State::Completed, &limit), Verdict::Again(Why::Limit));
        assert_eq!(at(State::Failed, &signal), Verdict::Again(Why::Asked));
        assert_eq!(at(State::Preempted, &signal), Verdict::Again(Why::Asked));
        assert_eq!(at(State::NodeFailed, &signal), Verdict::Again(Why::Node));
        assert_eq!(at(State::TimedOut, &signal), Verdict::Again(Why::Limit));
        assert_eq!(at(State::Cancelled, &signal), Verdict::Over(Outcome::Cancelled));
        // Gone from the queue: the accounts are asked, if anybody keeps them.
        let gone = |past, quiet| judge(&known(Seen::Absent, Some(&signal), past, quiet));
        assert_eq!(gone(None, 0), Verdict::LookUp);
        assert_eq!(gone(None, 61), Verdict::Again(Why::Asked));
        let cancelled = Past { state: State::Cancelled, code: (75, 0) };
        assert_eq!(gone(Some(&cancelled), 0), Verdict::Over(Outcome::Cancelled));
        // What this run wanted is no reason for another job.
        let mut asked = known(Seen::At(State::Failed), Some(&signal), None, 0);
        asked.asked = true;
        assert_eq!(judge(&asked), code(75));
        asked.queue = Seen::Silent;
        assert_eq!(judge(&asked), code(75), "a run that stops does not wait for Slurm");
    }

    #[test]
    fn a_kill_is_explained_by_the_queue() {
        let killed = ends(None, Some(9), None);
        let at = |state| judge(&known(Seen::At(state), Some(&killed), None, 0));
        assert_eq!(at(State::Failed), Verdict::Over(Outcome::As(End::Signal(9))));
        assert_eq!(at(State::TimedOut), Verdict::Again(Why::Limit));
        assert_eq!(at(State::Preempted), Verdict::Again(Why::Asked));
        assert!(matches!(at(State::OutOfMemory), Verdict::Over(Outcome::As(End::Failed(FaultClass::OutOfMemory, _)))));
    }

    #[test]
    fn late_files_are_waited_for_and_the_store_goes_first() {
        for queue in [Seen::Absent, Seen::At(State::Completed), Seen::At(State::Failed), Seen::At(State::TimedOut)] {
            assert_eq!(judge(&known(queue.clone(), None, None, 59)), Verdict::Wait, "{queue:?}");
            let mut there = known(queue, None, None, 0);
            there.result = true;
            assert_eq!(judge(&there), code(0));
        }
        let lost = |verdict| assert!(matches!(&verdict, Verdict::Over(Outcome::As(End::Unknown(_)))), "{verdict:?}");
        lost(judge(&known(Seen::At(State::Completed), None, None, 60)));
        assert_eq!(judge(&known(Seen::Absent, None, None, 60)), Verdict::LookUp);
        lost(judge(&known(Seen::Absent, None, None, 120)));
        assert_eq!(judge(&known(Seen::At(State::TimedOut), None, None, 60)), Verdict::Again(Why::Limit));
        assert_eq!(judge(&known(Seen::At(State::NodeFailed), None, None, 60)), Verdict::Again(Why::Node));
    }

    #[test]
    fn the_accounts_say_how_one_without_a_word_ended() {
        let of = |state, code| {
            let past = Past { state, code };
            judge(&known(Seen::Absent, None, Some(&past), 60))
        };
        assert_eq!(of(State::Failed, (74, 0)), code(74));
        assert_eq!(of(State::Failed, (0, 11)), Verdict::Over(Outcome::As(End::Signal(11))));
        assert_eq!(of(State::Cancelled, (0, 15)), Verdict::Over(Outcome::Cancelled));
        let past = Past { state: State::Failed, code: (127, 0) };
        let mut early = known(Seen::Absent, None, Some(&past), 60);
        early.begun = false;
        assert!(matches!(judge(&early), Verdict::Over(Outcome::As(End::Failed(FaultClass::User, _)))));
    }

    #[test]
    fn a_job_that_was_cancelled_before_it_began_is_not_waited_for() {
        let mut known = known(Seen::At(State::Cancelled), None, None, 0);
        known.begun = false;
        assert_eq!(judge(&known), Verdict::Over(Outcome::Cancelled));
    }
}
