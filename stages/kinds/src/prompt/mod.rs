//! Prompts: as lines of files, as sets, and where they come from.

pub mod dpg_bench;
pub mod leaks;
pub mod prompt_doubts;
pub mod prompt_set;
pub mod provenance;
pub mod record;
