//! AuraFlow: the half with tensors.
//!
//! | file | what |
//! |---|---|
//! | `transformer.rs`, `block.rs`, `embed.rs`, `tape.rs`, `network.rs` | the velocity network |
//! | `umt5.rs`, `text.rs` | prompts to conditions |
//! | `folder.rs` | loading |

mod block;
mod embed;
mod folder;
mod network;
mod tape;
#[cfg(test)]
mod tests;
mod text;
mod transformer;
mod umt5;

pub use folder::AuraFolder;
pub use network::AuraNetwork;
pub use opdflow_spec::families::aura::*;
pub use tape::AuraTape;
pub use text::AuraText;
pub use transformer::{At, Aura};
pub use umt5::Umt5Encoder;

use crate::base_files::BaseFiles;
use crate::network::{Folder, Loader};
use anyhow::Result;

impl Loader for AuraFlow {
    fn open(&self, files: BaseFiles, variant: Option<String>) -> Result<Box<dyn Folder>> {
        Ok(Box::new(AuraFolder::of(files, variant)?))
    }
}
