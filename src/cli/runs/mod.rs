//! Commands that run a recipe, and that follow runs by their folders.

mod left;
pub(crate) mod logs;
mod pages;
pub(crate) mod report;
pub(crate) mod run;
mod serve;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod watch;
