//! The append-only record of a run. Progress bars, `status` and the summary are all views of its events.

mod alive;
mod event;
mod folder;
mod needs;
mod reader;
mod request;
mod tail;
mod writer;

pub use alive::{Life, Pulse};
pub use event::{FORMAT, Line, RunEvent, RunStarted, StageLine, process};
pub use folder::RunFolder;
pub use needs::{Needs, Told, Unclear, keys_of, needs, read_log};
pub use reader::{Record, all, find, is_alive, read};
pub use request::{ask_to_stop, asked_to_stop};
pub use tail::Tail;
pub use writer::{RunLog, now};
