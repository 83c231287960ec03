//! What runs when: the states of stages, the slots of the machine, and the loop between them.

mod board;
pub mod difference;
mod dispatch;
mod fate;
mod lookup;
pub mod memory;
mod order;
mod signals;
mod slots;
mod state;
#[cfg(test)]
mod trial;

pub use board::{Board, Change};
pub use dispatch::run;
pub use lookup::{Care, LookUp, look_up};
pub use order::{Ended, Ending, Order};
pub use signals::{Listening, listen};
pub use slots::{Need, Share, Slots};
pub use state::{Illegal, Move, State};
