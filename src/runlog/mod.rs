//! The append-only record of a run. Progress bars, `status` and the summary are all views of its events.

mod event;
mod folder;
mod host;
mod needs;
mod reader;
mod request;
mod tail;
mod writer;

pub use event::{FORMAT, Line, RunEvent, RunStarted, StageLine};
pub use folder::RunFolder;
pub use host::host;
pub use needs::{Needs, Told, Unclear, keys_of, needs, read_log};
pub use reader::{Life, Record, all, find, is_alive, life, read};
pub use request::{ask_to_stop, asked_to_stop};
pub use tail::Tail;
pub use writer::RunLog;
