//! FLUX.1, dev and schnell: the half with tensors.
//!
//! | file | what |
//! |---|---|
//! | `transformer.rs`, `block.rs`, `embed.rs`, `rope.rs`, `latent.rs`, `tape.rs`, `network.rs` | the velocity network |
//! | `text.rs` | prompts to conditions |
//! | `folder.rs` | loading |

mod block;
mod embed;
mod folder;
mod latent;
mod network;
mod rope;
mod tape;
#[cfg(test)]
mod tests;
mod text;
mod transformer;

pub use folder::FluxFolder;
pub use latent::{pack, unpack};
pub use network::FluxNetwork;
pub use opdflow_spec::families::flux::*;
pub use tape::FluxTape;
pub use text::FluxText;
pub use transformer::{At, Flux};

use crate::base_files::BaseFiles;
use crate::network::{Folder, Loader};
use anyhow::Result;

impl Loader for Flux1 {
    fn open(&self, files: BaseFiles, variant: Option<String>) -> Result<Box<dyn Folder>> {
        Ok(Box::new(FluxFolder::of(files, variant)?))
    }
}
