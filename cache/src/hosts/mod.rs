//! Processes of several hosts on one store: who they are, whether they live, and which of them holds what.
//!
//! Nothing here compares clocks of two hosts. A process that uses the store has a file with a counter that it raises every
//! few seconds (`life.rs`). Another host takes it for dead when it has seen the counter stand still for long enough by its own
//! clock (`watch.rs`). On the same host the system knows at once (`host.rs`). What only one may hold is claimed by making the
//! next file of a series (`claims.rs`).

pub(crate) mod claims;
mod host;
pub(crate) mod life;
pub(crate) mod others;
mod setting;
mod sight;
pub(crate) mod tenure;
pub(crate) mod watch;

pub use host::{Host, User};
pub use life::Standing;
pub use setting::{Locks, Setting};
pub use sight::Sight;
pub use tenure::Tenure;
