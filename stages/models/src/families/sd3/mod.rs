//! Stable Diffusion 3 and 3.5, and the miniature, which is a small one of them: the half with tensors.
//!
//! | file | what |
//! |---|---|
//! | `mmdit/`, `network.rs` | the velocity network |
//! | `text.rs` | prompts to conditions |
//! | `folder.rs`, `single.rs` | loading |

mod folder;
mod mmdit;
mod network;
mod single;
mod text;

pub use folder::Sd3Folder;
pub use mmdit::{Mmdit, Tape};
pub use network::Sd3Network;
pub use opdflow_spec::families::sd3::*;
pub use text::TextEncoders;

use crate::base_files::BaseFiles;
use crate::network::{Folder, Loader};
use anyhow::Result;

impl Loader for StableDiffusion3 {
    fn open(&self, files: BaseFiles, variant: Option<String>) -> Result<Box<dyn Folder>> {
        Ok(Box::new(Sd3Folder::of(files, variant)?))
    }
}
