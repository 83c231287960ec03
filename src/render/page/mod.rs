//! A run as a page for a browser: one file that needs no other, and no network.
//!
//! Everything on it is in the run log and in the store: `gather.rs` takes it from there, `content.rs` is what it becomes, `html.rs` writes
//! it, `pair.rs` writes that of two runs, and `chart.rs` draws the curves. Charts are drawn here, by plotters, and not by a library in the page: a chart is then a few
//! kilobytes, prints as it is seen, and needs no script.

mod chart;
mod content;
mod curves;
mod gather;
mod html;
mod images;
mod markdown;
mod numbers;
mod pair;
mod samples;
mod write;

pub use content::{Options, Page};
pub use html::page as html;
pub use pair::page as of_two;
