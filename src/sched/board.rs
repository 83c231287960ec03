//! All stages of a run and their states: what a change of one means for the others.

use super::state::{Illegal, Move, State};

/// A stage and the state it has come to.
pub type Change = (usize, State);

/// The states of all stages.
#[derive(Clone, Debug)]
pub struct Board {
    states: Vec<State>,
    needs: Vec<Vec<usize>>,
    dependents: Vec<Vec<usize>>,
}

impl Board {
    /// A board for stages that need each other as `needs` says; those that are not `wanted` are skipped, and
    /// those without needs are ready.
    ///
    /// # Errors
    /// Never, if what is wanted is closed under `needs`.
    pub fn new(needs: Vec<Vec<usize>>, wanted: &[bool]) -> Result<Self, Illegal> {
        let mut dependents = vec![Vec::new(); needs.len()];
        for (stage, upstream) in needs.iter().enumerate() {
            for &u in upstream {
                dependents[u].push(stage);
            }
        }
        let mut board = Self { states: vec![State::Waiting; needs.len()], needs, dependents };
        for stage in 0..board.states.len() {
            if !wanted.get(stage).copied().unwrap_or(false) {
                board.set(stage, Move::Skip)?;
            } else if board.needs[stage].is_empty() {
                board.set(stage, Move::Release)?;
            }
        }
        Ok(board)
    }

    /// The state of one stage.
    #[must_use]
    pub fn state(&self, stage: usize) -> State {
        self.states[stage]
    }

    /// The stages in `state`.
    pub fn all(&self, state: State) -> impl Iterator<Item = usize> + '_ {
        self.states.iter().enumerate().filter(move |(_, s)| **s == state).map(|(i, _)| i)
    }

    /// The states, in the plan's order.
    #[must_use]
    pub fn states(&self) -> &[State] {
        &self.states
    }

    /// Whether every stage has come to its end.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.states.iter().all(|s| s.is_terminal())
    }

    /// Makes a move with all that follows from it, and says which stages changed, this one first.
    ///
    /// # Errors
    /// The move makes no sense in the stage's state; nothing has changed then.
    pub fn apply(&mut self, stage: usize, m: Move) -> Result<Vec<Change>, Illegal> {
        let state = self.set(stage, m)?;
        let mut changes = vec![(stage, state)];
        match state {
            State::Hit | State::Done => self.release_dependents(stage, &mut changes)?,
            State::Failed => self.end_downstream(stage, Move::Block { by: stage }, &mut changes)?,
            State::Stopped => self.end_downstream(stage, Move::Stop, &mut changes)?,
            State::Ready => {
                if m == Move::Revoke {
                    self.withdraw_dependents(stage, &mut changes)?;
                }
                // An input may have been revoked, or even failed since, while this stage ran or stood as a hit.
                let next = self.without_inputs(stage);
                if let Some(m) = next {
                    changes[0].1 = self.set(stage, m)?;
                    if m != Move::Withdraw {
                        self.end_downstream(stage, m, &mut changes)?;
                    }
                }
            }
            _ => {}
        }
        Ok(changes)
    }

    fn set(&mut self, stage: usize, m: Move) -> Result<State, Illegal> {
        let state = self.states[stage].after(m)?;
        self.states[stage] = state;
        Ok(state)
    }

    fn has_inputs(&self, stage: usize) -> bool {
        self.needs[stage].iter().all(|&n| self.states[n].provides())
    }

    /// What becomes of a ready stage that lacks inputs after all; `None` if it lacks none.
    fn without_inputs(&self, stage: usize) -> Option<Move> {
        let lacks = |n: &&usize| !self.states[**n].provides();
        let fate = |n: &usize| match self.states[*n] {
            State::Failed => Move::Block { by: *n },
            State::Blocked { by } => Move::Block { by },
            State::Stopped | State::Skipped => Move::Stop,
            _ => Move::Withdraw,
        };
        let mut fates: Vec<_> = self.needs[stage].iter().filter(lacks).map(fate).collect();
        fates.sort_by_key(|m| matches!(m, Move::Withdraw));
        fates.first().copied()
    }

    fn release_dependents(&mut self, stage: usize, changes: &mut Vec<Change>) -> Result<(), Illegal> {
        for d in self.dependents[stage].clone() {
            if self.has_inputs(d) && self.states[d] == State::Waiting {
                changes.push((d, self.set(d, Move::Release)?));
            }
        }
        Ok(())
    }

    fn withdraw_dependents(&mut self, stage: usize, changes: &mut Vec<Change>) -> Result<(), Illegal> {
        for d in self.dependents[stage].clone() {
            if self.states[d] == State::Ready {
                changes.push((d, self.set(d, Move::Withdraw)?));
            }
        }
        Ok(())
    }

    /// Ends all that depends on `stage` and has not begun.
    fn end_downstream(&mut self, stage: usize, m: Move, changes: &mut Vec<Change>) -> Result<(), Illegal> {
        let mut open = self.dependents[stage].clone();
        while let Some(d) = open.pop() {
            if matches!(self.states[d], State::Waiting | State::Ready) {
                changes.push((d, self.set(d, m)?));
                open.extend(&self.dependents[d]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::slots::{Share, Slots};
    use proptest::prelude::*;

    /// A random graph: stage i needs the earlier stages whose bit is set.
    fn graph(bits: &[u32]) -> Vec<Vec<usize>> {
        bits.iter().enumerate().map(|(i, b)| (0..i).filter(|j| b >> (j % 32) & 1 == 1).collect()).collect()
    }

    fn ancestors(needs: &[Vec<usize>], stage: usize) -> Vec<usize> {
        let mut open = needs[stage].clone();
        let mut all = Vec::new();
        while let Some(n) = open.pop() {
            if !all.contains(&n) {
                all.push(n);
                open.extend(&needs[n]);
            }
        }
        all
    }

    struct Game {
        board: Board,
        needs: Vec<Vec<usize>>,
        slots: Slots,
        shares: Vec<Option<Share>>,
        failed: bool,
    }

    impl Game {
        fn begin(&mut self, stage: usize, cpus: usize) {
            if let Some(share) = self.slots.take(crate::sched::Need { cpus, ..Default::default() }) {
                for &n in &self.needs[stage] {
                    assert!(self.board.state(n).provides(), "{stage} starts before its input {n}");
                }
                self.board.apply(stage, Move::Start).unwrap();
                self.shares[stage] = Some(share);
            }
        }
        fn end(&mut self, stage: usize, m: Move) {
            self.slots.give(self.shares[stage].take().unwrap());
            self.board.apply(stage, m).unwrap();
        }
        /// One random event among those that may happen now.
        fn turn(&mut self, roll: u32, may_fail: bool) {
            let ready: Vec<_> = self.board.all(State::Ready).collect();
            let running: Vec<_> = self.board.all(State::Running).collect();
            let hits: Vec<_> = self.board.all(State::Hit).collect();
            let pick = |v: &Vec<usize>| v[(roll as usize / 16) % v.len()];
            match roll % 16 {
                0..=5 if !ready.is_empty() => self.begin(pick(&ready), 1 + (roll as usize / 7) % 3),
                6..=7 if !ready.is_empty() => drop(self.board.apply(pick(&ready), Move::Hit).unwrap()),
                8 if !running.is_empty() && may_fail => {
                    self.failed = true;
                    self.end(pick(&running), Move::Fail);
                }
                9 if !running.is_empty() => self.end(pick(&running), Move::Requeue),
                10 if !hits.is_empty() => drop(self.board.apply(pick(&hits), Move::Revoke).unwrap()),
                _ if !running.is_empty() => self.end(pick(&running), Move::Finish),
                _ if !ready.is_empty() => self.begin(pick(&ready), 1),
                _ => {}
            }
        }
        /// Plays on without mischief until everything has ended.
        fn settle(&mut self) {
            for _ in 0..4 * self.needs.len() + 4 {
                let running: Vec<_> = self.board.all(State::Running).collect();
                running.into_iter().for_each(|s| self.end(s, Move::Finish));
                let ready: Vec<_> = self.board.all(State::Ready).collect();
                ready.into_iter().for_each(|s| self.begin(s, 1));
            }
        }
    }

    fn game(bits: &[u32], cpus: usize) -> Game {
        let needs = graph(bits);
        let n = needs.len();
        Game {
            board: Board::new(needs.clone(), &vec![true; n]).unwrap(),
            needs,
            slots: Slots::new(cpus, Vec::new()),
            shares: (0..n).map(|_| None).collect(),
            failed: false,
        }
    }

    proptest! {
        #[test]
        fn every_order_of_events_ends(bits in prop::collection::vec(any::<u32>(), 1..14), rolls in prop::collection::vec(any::<u32>(), 0..120), cpus in 1usize..5) {
            let mut game = game(&bits, cpus);
            for roll in rolls {
                game.turn(roll, true);
                let used: usize = game.shares.iter().flatten().map(|s| s.cpus).sum();
                prop_assert!(used <= cpus, "{used} of {cpus} slots in use");
                prop_assert_eq!(used + game.slots.free(), cpus);
            }
            game.settle();
            prop_assert!(game.board.ended(), "{:?}", game.board.states());
            for (stage, state) in game.board.states().iter().enumerate() {
                // Keep going: what has no failed ancestor is through.
                let broken = ancestors(&game.needs, stage).into_iter().any(|a| game.board.state(a) == State::Failed);
                match state {
                    State::Hit | State::Done => {}
                    State::Failed => prop_assert!(game.failed),
                    State::Blocked { by } => {
                        prop_assert!(broken);
                        prop_assert_eq!(game.board.state(*by), State::Failed);
                    }
                    other => prop_assert!(false, "{stage} ended as {other:?}"),
                }
            }
        }

        #[test]
        fn without_failures_everything_is_there(bits in prop::collection::vec(any::<u32>(), 1..14), rolls in prop::collection::vec(any::<u32>(), 0..120)) {
            let mut game = game(&bits, 2);
            rolls.into_iter().for_each(|r| game.turn(r, false));
            game.settle();
            prop_assert!(game.board.states().iter().all(|s| s.provides()));
        }

        #[test]
        fn a_stop_ends_everything(bits in prop::collection::vec(any::<u32>(), 1..14), rolls in prop::collection::vec(any::<u32>(), 0..60)) {
            let mut game = game(&bits, 2);
            rolls.into_iter().for_each(|r| game.turn(r, true));
            for stage in 0..bits.len() {
                if !game.board.state(stage).is_terminal() {
                    game.board.apply(stage, Move::Stop).unwrap();
                }
            }
            prop_assert!(game.board.ended());
        }
    }

    #[test]
    fn what_nobody_wants_is_skipped() {
        let board = Board::new(vec![vec![], vec![0], vec![0]], &[true, true, false]).unwrap();
        assert_eq!(board.states(), [State::Ready, State::Waiting, State::Skipped]);
    }
}
